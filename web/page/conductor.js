// Composes or reads what is played, a little ahead of what is heard, and makes sound of it.
import * as deepj from "./deepj_web.js";
import { held, post, reopen } from "./held.js";

const STEPS = 16;
/** Seconds of sound that are ready ahead of what is heard; a change waits for as long. */
const AHEAD = 1.5;
/** Bars of the ending, which are composed together as many times as the program does, and how much faster that is than one by one. */
const ENDING = { bars: 2, lanes: 16, together: 3 };
/** Bars before the ending, and before one that is asked for, in which nothing waits: so it is composed before it is to be heard. */
const RUN_UP = 4;
/** Seconds of a part of a file that is played. */
const PART = 2;
/** Seconds in which the last tones die away. */
const TAIL = 3;

/** A turn of the event loop, so that messages are seen while the CPU composes. */
const breath = () => new Promise((resolve) => setTimeout(resolve, 0));

export class Conductor {
  #piano;
  #rate;
  #position = 0;
  #made = 0;
  #wake = null;
  #stopped = false;
  #running = null;
  #changes = [];
  #source;
  #ending = false;
  #composing = null;
  /** Parts composed since an end was asked for. */
  #runUp = 0;
  /** Seconds that the last part took. */
  #took = 0;

  static async compose(wanted, rate, given) {
    const { style, bars, seed, temperature, tempo, ending } = wanted;
    const text = JSON.stringify({ style, bars, seed, temperature, tempo, ending });
    const begin = () =>
      deepj.Piece.begin(held.weights, held.device, text, given?.name ?? "", given?.bytes ?? new Uint8Array());
    let piece;
    try {
      piece = await begin();
    } catch (error) {
      if (error.kind !== "device") throw error;
      // Lost since it was opened, as GPUs are while a laptop sleeps.
      await reopen();
      piece = await begin();
    }
    return new Conductor(new Composed(piece, tempo, ending ? bars : null), rate);
  }

  static play(name, bytes, rate) {
    return new Conductor(new Read(name, bytes), rate);
  }

  constructor(source, rate) {
    this.#source = source;
    this.#rate = rate;
    this.#piano = new deepj.Piano(rate);
  }

  get file() {
    return this.#source.file;
  }

  get how() {
    return this.#source.how;
  }

  async midi(tempo) {
    // The program answers one call about a piece at a time.
    await this.#composing;
    return this.#source.midi(tempo);
  }

  change(detail) {
    this.#changes.push(detail);
    this.#wake?.();
  }

  endSoon() {
    this.#ending = true;
    this.#wake?.();
  }

  /** So much was heard. */
  reached(seconds) {
    this.#position = Math.max(this.#position, seconds);
    this.#wake?.();
  }

  async stop() {
    this.#stopped = true;
    this.#source.stop();
    this.#wake?.();
    await this.#running;
  }

  /** Lets go of the piano and of the piece, of which nothing can be asked any more. */
  free() {
    this.#piano.free();
    this.#source.free();
  }

  /** Plays until there is nothing left. */
  run() {
    this.#running ??= this.#run().catch((error) => {
      if (this.#stopped) return post("stopped", {});
      const { message = String(error), remedy = "", kind = "" } = error ?? {};
      post("trouble", { message, remedy, kind, composing: true });
    });
  }

  async #run() {
    let part;
    while (!this.#stopped && (part = await this.#next())) {
      for (const piece of barByBar(part)) {
        this.#send(piece);
        await this.#untilWanted();
        if (this.#stopped) break;
      }
    }
    if (this.#stopped) return post("stopped", {});
    const end = this.#made;
    for (let tail = 0; tail < TAIL && !this.#piano.silent; tail++) this.#send({ events: [], until: this.#made + 1 });
    post("finished", { seconds: end, how: this.#source.how });
  }

  /** Waits until more has to be made for what is heard soon. */
  async #untilWanted() {
    await breath();
    // Slow devices begin earlier.
    const ahead = Math.max(this.#source.ahead(), 2 * this.#took);
    while (!this.#stopped && !this.#ending && this.#made - this.#position > ahead) {
      await new Promise((resolve) => (this.#wake = resolve));
      this.#makeChanges();
    }
  }

  #makeChanges() {
    for (const change of this.#changes.splice(0)) {
      try {
        this.#source.change(change);
        post("changed", { bar: this.#source.bar });
      } catch (error) {
        post("trouble", { message: error.message, remedy: error.remedy, kind: error.kind });
      }
    }
  }

  async #next() {
    const began = performance.now();
    this.#makeChanges();
    if (this.#ending && (this.#made - this.#position > this.#source.endingTakes() || ++this.#runUp === RUN_UP)) {
      this.#source.endSoon();
    }
    const composing = this.#source.next();
    this.#composing = composing.catch(() => {});
    const part = await composing;
    await breath();
    this.#took = (performance.now() - began) / 1000;
    return part;
  }

  /** Makes the sound of a part up to where it ends, and posts both. */
  #send({ events, until, ...rest }) {
    for (const [seconds, pitch, velocity] of events) this.#piano.add(seconds, pitch, velocity);
    const start = this.#piano.seconds;
    const channels = this.#piano.fill(Math.max(until - start, 0.001), this.#rate);
    this.#made = this.#piano.seconds;
    const frames = channels.length / 2;
    post("part", { events, until, start, frames, channels, ...rest }, [channels.buffer]);
  }
}

/** A part in pieces of a bar, since a given beginning is one part and may last for minutes. */
function barByBar({ events, until, bars, ...rest }) {
  const ends = [...bars.slice(1), until];
  let next = 0;
  return ends.map((end, i) => {
    const first = next;
    while (next < events.length && (end === until || events[next][0] < end)) next++;
    return { ...rest, events: events.slice(first, next), until: end, bars: bars.slice(i, i + 1) };
  });
}

/** A piece that is composed. */
class Composed {
  #piece;
  #stop;
  #halted = false;
  #tempo;
  #begin = 0;
  #step = 0;
  #steps = 0;
  #seconds = 0;
  #over = false;
  #ended = false;

  /** Bars of a piece that has an ending; else null. */
  #bars;
  #given = null;

  constructor(piece, tempo, bars) {
    this.#piece = piece;
    // Asked for now, since nothing can be asked of a piece while it composes.
    this.#stop = piece.stopper();
    this.#tempo = tempo;
    this.#bars = bars;
  }

  get how() {
    return this.#piece.how(this.#tempo);
  }

  /** The number of the next bar. */
  get bar() {
    return Math.floor(this.#step / STEPS) + 1;
  }

  ahead() {
    const end = (this.#given ?? 0) + (this.#bars - ENDING.bars) * STEPS;
    return this.#bars && this.#step >= end - RUN_UP * STEPS ? Infinity : AHEAD;
  }

  /** About how many seconds it takes to compose an ending. */
  endingTakes() {
    const speed = this.#seconds ? this.#steps / this.#seconds : 100;
    return (ENDING.bars * STEPS * ENDING.lanes) / (speed * ENDING.together);
  }

  midi(tempo) {
    return this.#piece.midi(tempo ?? this.#tempo);
  }

  change({ style, temperature, tempo }) {
    if (style !== undefined) this.#piece.changeStyle(style);
    if (temperature !== undefined) this.#piece.changeTemperature(temperature);
    if (tempo !== undefined) {
      this.#begin = this.#at(this.#step);
      this.#first = this.#step;
      this.#tempo = tempo;
    }
  }

  #first = 0;
  #at(step) {
    return this.#begin + ((step - this.#first) * 60) / this.#tempo / 4;
  }

  endSoon() {
    if (!this.#ended) this.#piece.endSoon();
    this.#ended = true;
  }

  stop() {
    this.#halted = true;
    this.#stop.set();
  }

  free() {
    this.#stop.free();
    this.#piece.free();
  }

  async next() {
    if (this.#over) return null;
    const began = performance.now();
    let events = await this.#piece.nextBar();
    if (this.#halted && !events) return null;
    const ending = !events;
    if (ending) {
      this.#over = true;
      events = await this.#piece.finish();
    }
    const steps = this.#piece.steps;
    this.#given ??= Math.max(0, steps - STEPS);
    if (!ending) {
      this.#steps += steps - this.#step;
      this.#seconds += (performance.now() - began) / 1000;
    }
    const timed = [];
    for (let i = 0; i < events.length; i += 3) timed.push([this.#at(events[i]), events[i + 1], events[i + 2]]);
    const from = this.#step;
    const until = this.#at(steps);
    const bars = [];
    for (let step = Math.ceil(from / STEPS) * STEPS; step < steps; step += STEPS) bars.push(this.#at(step));
    this.#step = steps;
    const speed = this.#seconds ? this.#steps / this.#seconds : 0;
    return { events: timed, until, bars, ending, steps, speed };
  }
}

/** A file that is played. */
class Read {
  #bytes;
  #next = 0;
  #seconds = 0;

  constructor(name, bytes) {
    this.#bytes = bytes;
    this.file = JSON.parse(deepj.readMidi(name, bytes));
    this.how = "";
  }

  ahead() {
    return 2 * PART;
  }

  endingTakes() {
    return 0;
  }

  midi() {
    return this.#bytes.slice();
  }

  change() {}
  endSoon() {
    this.#next = this.file.events.length;
    this.#seconds = Infinity;
  }
  stop() {}
  free() {}

  async next() {
    const { events, seconds, bar } = this.file;
    if (this.#seconds >= seconds) return null;
    const [from, until] = [this.#seconds, Math.min(this.#seconds + PART, seconds + 0.001)];
    const first = this.#next;
    while (this.#next < events.length && events[this.#next][0] < until) this.#next++;
    this.#seconds = until;
    const bars = [];
    for (let i = Math.ceil(from / bar); i * bar < until; i++) bars.push(i * bar);
    return { events: events.slice(first, this.#next), until, bars, ending: false, steps: 0, speed: 0 };
  }
}
