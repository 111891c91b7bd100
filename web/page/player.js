// Plays parts of sound one behind the other on the audio clock.

/** Seconds from the first part's arrival to its sound, and at which the sound fades where it is stopped. */
const LEAD = 0.08;
const FADE = 0.03;

/** The browser's sound, or a clock alone where it has none. */
export class Player {
  #context = null;
  #gain = null;
  #sources = new Set();
  /** The clock's time at which second 0 of the music is heard. */
  #zero = null;
  #stopped = true;
  #pausedAt = null;
  /** Seconds by which parts came too late, in all. */
  late = 0;
  onreached = () => {};

  /** Whether there is sound. To be called from a click, without which browsers keep it off. */
  open() {
    const Context = globalThis.AudioContext ?? globalThis.webkitAudioContext;
    if (!this.#context && Context) {
      try {
        this.#context = new Context({ latencyHint: "playback" });
        this.#gain = this.#context.createGain();
        this.#gain.connect(this.#context.destination);
      } catch {
        this.#context = null;
      }
    }
    this.#context?.resume().catch(() => {});
    return this.#context !== null;
  }

  get rate() {
    return this.#context?.sampleRate ?? 44100;
  }

  get hasSound() {
    return this.#context !== null;
  }

  #now() {
    return this.#context ? this.#context.currentTime : performance.now() / 1000;
  }

  /** Begins anew. */
  begin() {
    this.stop();
    this.#zero = null;
    this.#stopped = false;
    this.#pausedAt = null;
    this.late = 0;
  }

  set volume(volume) {
    this.wanted = volume;
    if (this.#gain) this.#gain.gain.setTargetAtTime(volume, this.#context.currentTime, 0.01);
  }

  wanted = 1;

  /** Plays a part: frames of both channels one behind the other, which begin at `start` seconds of the music. */
  add({ start, frames, channels }) {
    if (this.#stopped) return;
    const now = this.#now();
    this.#zero ??= now + LEAD - start;
    if (this.#zero + start < now && this.#pausedAt === null) {
      // It came too late: all that follows is later by as much.
      this.late += now + LEAD - (this.#zero + start);
      this.#zero = now + LEAD - start;
    }
    if (!this.#context) {
      setTimeout(() => this.onreached(this.position), Math.max(0, (this.#zero + start - now) * 1000));
      return;
    }
    const buffer = this.#context.createBuffer(2, frames, this.rate);
    buffer.copyToChannel(channels.subarray(0, frames), 0);
    buffer.copyToChannel(channels.subarray(frames), 1);
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#gain);
    source.onended = () => {
      this.#sources.delete(source);
      // Comes also where timers are slowed down, as in a tab that is hidden.
      if (!this.#stopped) this.onreached(this.position);
    };
    source.start(this.#zero + start);
    this.#sources.add(source);
  }

  /** Seconds of the music that were heard. */
  get position() {
    if (this.#zero === null) return 0;
    return Math.max(0, (this.#pausedAt ?? this.#now()) - this.#zero);
  }

  /** The time of `performance.now()` at which a second of the music is heard. */
  timeOf(seconds) {
    return performance.now() + (seconds - this.position) * 1000;
  }

  get paused() {
    return this.#pausedAt !== null;
  }

  pause() {
    if (this.#stopped || this.paused) return;
    this.#pausedAt = this.#now();
    this.#context?.suspend().catch(() => {});
  }

  resume() {
    if (!this.paused) return;
    if (!this.#context) this.#zero += this.#now() - this.#pausedAt;
    this.#pausedAt = null;
    this.#context?.resume().catch(() => {});
  }

  /** Stops with a short fade, so that nothing clicks. */
  stop() {
    this.#stopped = true;
    this.#pausedAt = null;
    if (!this.#context) return;
    const [gain, now] = [this.#gain, this.#context.currentTime];
    this.#gain = this.#context.createGain();
    this.#gain.gain.value = this.wanted;
    this.#gain.connect(this.#context.destination);
    gain.gain.cancelScheduledValues(now);
    gain.gain.setTargetAtTime(0, now, FADE / 3);
    for (const source of this.#sources) source.stop(now + FADE);
    this.#sources.clear();
    setTimeout(() => gain.disconnect(), 1000 * FADE + 200);
    if (this.#context.state === "suspended") this.#context.resume().catch(() => {});
  }
}

/** Sends notes to a MIDI port, where the browser has Web MIDI. */
export class MidiOut {
  #access = null;
  #port = null;
  #sounding = new Set();

  static get exists() {
    return "requestMIDIAccess" in navigator;
  }

  /** The ports, after the browser has asked its user. */
  async ports() {
    this.#access ??= await navigator.requestMIDIAccess();
    return [...this.#access.outputs.values()].map(({ id, name }) => ({ id, name }));
  }

  choose(id) {
    this.silence();
    this.#port = id ? this.#access?.outputs.get(id) : null;
  }

  /** Has a key struck at a time of `performance.now()`, or let go of where the velocity is 0. */
  send(time, pitch, velocity) {
    if (!this.#port) return;
    this.#port.send(velocity ? [0x90, pitch, velocity] : [0x80, pitch, 64], Math.max(time, performance.now()));
    if (velocity) this.#sounding.add(pitch);
    else this.#sounding.delete(pitch);
  }

  silence() {
    this.#port?.clear?.();
    for (const pitch of this.#sounding) this.#port?.send([0x80, pitch, 64]);
    this.#port?.send([0xb0, 123, 0]);
    this.#sounding.clear();
  }
}
