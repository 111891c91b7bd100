// Plays parts of sound one behind the other on the audio clock.

/** Seconds from the first part's arrival to its sound, and at which the sound fades where it is stopped. */
const LEAD = 0.08;
const FADE = 0.03;
/** Seconds from one call of `onreached` to the next. */
const TICK = 0.1;
/** Seconds before its time at which a MIDI port is given a note: what it was given, not every browser can take back. */
const GIVEN = 0.3;
/** Seconds that the audio clock may take to begin. */
const PATIENCE = 5;

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
  /** Called again and again while it plays, with the seconds of the music that were heard. */
  onreached = () => {};
  /** Called where the audio clock does not begin; the music goes on without sound. */
  onmute = () => {};
  #turn = 0;

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
    this.#tick(this.#turn);
    if (this.#context) this.#watch(this.#turn, this.#context.currentTime);
  }

  /** Takes a clock alone where that of the sound stands still, as Firefox's does where there is no sound card. */
  #watch(turn, began) {
    setTimeout(() => {
      if (turn !== this.#turn || this.#context.currentTime > began) return;
      if (this.paused) return this.#watch(turn, began);
      const { position } = this;
      this.#context.close().catch(() => {});
      this.#context = this.#gain = null;
      this.#sources.clear();
      if (this.#zero !== null) this.#zero = this.#now() - position;
      this.#tick(turn);
      this.onmute();
    }, 1000 * PATIENCE);
  }

  /** Calls `onreached` by the audio clock, since timers are slowed down in a tab that is hidden. */
  #tick(turn) {
    const next = () => {
      if (turn !== this.#turn) return;
      this.onreached(this.position);
      this.#tick(turn);
    };
    if (!this.#context) return void setTimeout(next, 1000 * TICK);
    const silence = this.#context.createConstantSource();
    silence.offset.value = 0;
    silence.connect(this.#context.destination);
    silence.onended = () => {
      silence.disconnect();
      next();
    };
    silence.start();
    silence.stop(this.#context.currentTime + TICK);
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
    if (!this.#context) return;
    const buffer = this.#context.createBuffer(2, frames, this.rate);
    buffer.copyToChannel(channels.subarray(0, frames), 0);
    buffer.copyToChannel(channels.subarray(frames), 1);
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#gain);
    source.onended = () => this.#sources.delete(source);
    source.start(this.#zero + start);
    this.#sources.add(source);
  }

  /** Seconds of the music that were heard. */
  get position() {
    if (this.#zero === null) return 0;
    return Math.max(0, (this.#pausedAt ?? this.#now()) - this.#zero);
  }

  /** The time of `performance.now()` at which a second of the music is heard; infinite in a pause and before it begins. */
  timeOf(seconds) {
    if (this.#zero === null || this.paused) return Infinity;
    const about = performance.now() + (seconds - this.position) * 1000;
    // The clock's own time goes on by whole buffers.
    const { contextTime, performanceTime } = this.#context?.getOutputTimestamp?.() ?? {};
    const exact = performanceTime + (this.#zero + seconds - contextTime) * 1000;
    return Math.abs(exact - about) < 500 ? exact : about;
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
    this.#turn++;
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
  /** What it is not given yet: seconds of the music, pitch, velocity. */
  #waiting = [];
  /** Keys that are down, and since when. */
  #sounding = new Map();
  /** The time of the last that it was given. */
  #last = 0;
  /** Called when ports come and go, with the name of the chosen one if it went. */
  onchange = () => {};

  static get exists() {
    return "requestMIDIAccess" in navigator;
  }

  /** Has the browser ask its user for the ports. */
  async ask() {
    if (this.#access) return;
    this.#access = await navigator.requestMIDIAccess();
    this.#access.onstatechange = ({ port }) => {
      if (port.id === this.#port?.id && port.state === "disconnected") this.#lost();
      else this.onchange(null);
    };
  }

  /** The ports that are there. */
  get ports() {
    return [...this.#access.outputs.values()].filter(({ state }) => state !== "disconnected").map(({ id, name }) => ({ id, name }));
  }

  /** The chosen port's. */
  get id() {
    return this.#port?.id ?? "";
  }

  choose(id) {
    this.silence();
    this.#port = (id && this.#access?.outputs.get(id)) || null;
  }

  #lost() {
    const { name } = this.#port;
    this.#port = null;
    this.#sounding.clear();
    this.onchange(name);
  }

  #send(data, time) {
    try {
      this.#port?.send(data, time);
    } catch {
      // It went, and the browser has not told yet.
      this.#lost();
    }
  }

  /** Takes in what is heard later: a key is struck, or let go of where the velocity is 0. */
  add(events) {
    this.#waiting.push(...events);
  }

  /** Gives the port what is heard soon, by the player's clock. */
  give(player) {
    const now = performance.now();
    let due = 0;
    for (const [seconds, pitch, velocity] of this.#waiting) {
      const time = Math.max(player.timeOf(seconds), now);
      if (time > now + 1000 * GIVEN) break;
      due++;
      if (!this.#port) continue;
      this.#last = time;
      if (velocity) this.#sounding.set(pitch, time);
      else this.#sounding.delete(pitch);
      this.#send(velocity ? [0x90, pitch, velocity] : [0x80, pitch, 64], time);
    }
    this.#waiting.splice(0, due);
  }

  /** Has all keys let go of, also those that are struck a moment later. */
  silence() {
    const now = performance.now();
    for (const [pitch, time] of this.#sounding) this.#send([0x80, pitch, 64], Math.max(time + 1, now));
    this.#sounding.clear();
    this.#send([0xb0, 123, 0], Math.max(this.#last + 1, now));
  }

  /** Ends what it played. */
  stop() {
    this.#waiting = [];
    this.silence();
  }
}
