// What `deepj studio` serves in place of the WebAssembly module: the same functions, done by the program on this machine's devices.

const url = (method) => new URL(`./api/call/${method}`, self.location.href);
const escaped = (given) => encodeURIComponent(JSON.stringify(given));

function thrown(text) {
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    said = { message: "the program gave no answer", remedy: "look whether deepj studio still runs", kind: "run" };
  }
  return Object.assign(new Error(said.message), { remedy: said.remedy, kind: said.kind });
}

async function call(method, given = {}, body = undefined) {
  let answer;
  try {
    answer = await fetch(url(method), { method: "POST", headers: { "x-arguments": escaped(given) }, body });
  } catch {
    throw thrown("");
  }
  if (!answer.ok) throw thrown(await answer.text());
  return answer.json();
}

/** The same at once, as functions of the module do that are not async; a worker may wait. */
function now(method, given = {}, body = undefined) {
  const request = new XMLHttpRequest();
  request.open("POST", url(method), false);
  request.responseType = "arraybuffer";
  request.setRequestHeader("x-arguments", escaped(given));
  try {
    request.send(body);
  } catch {
    throw thrown("");
  }
  if (request.status !== 200) throw thrown(new TextDecoder().decode(request.response));
  return request.response;
}

const json = (buffer) => JSON.parse(new TextDecoder().decode(buffer));

export default async function init() {}

/** What the page says of where it computes. */
export const where = "studio";

export const version = () => json(now("version"));

/** Something that the program holds by a number. */
class Held {
  constructor(told) {
    this.told = told;
    this.id = told.id;
  }

  free() {
    call("free", { id: this.id }).catch(() => {});
  }
}

export class Device extends Held {
  static async open(cpu) {
    return new Device(await call("device.open", { cpu }));
  }

  get cpu() {
    return this.told.cpu;
  }

  get software() {
    return this.told.software;
  }

  get name() {
    return this.told.name;
  }

  capabilities() {
    return JSON.stringify(this.told.capabilities);
  }
}

export class Weights extends Held {
  static builtin() {
    return new Weights(json(now("weights.builtin")));
  }

  static read(name, bytes) {
    return new Weights(json(now("weights.read", { name }, bytes)));
  }

  describe() {
    return JSON.stringify(this.told.described);
  }

  style(expression) {
    return JSON.stringify(json(now("weights.style", { id: this.id, expression })));
  }
}

export class Piece extends Held {
  steps = 0;

  static async begin(weights, device, wanted, name, given) {
    return new Piece(await call("piece.begin", { weights: weights.id, device: device.id, wanted, name }, given));
  }

  async #events(method) {
    const { events, steps } = await call(method, { id: this.id });
    this.steps = steps;
    return events?.flat();
  }

  nextBar() {
    return this.#events("piece.nextBar");
  }

  finish() {
    return this.#events("piece.finish");
  }

  async prepareEnding() {
    await call("piece.prepareEnding", { id: this.id });
  }

  changeStyle(expression) {
    now("piece.changeStyle", { id: this.id, expression });
  }

  changeTemperature(temperature) {
    now("piece.changeTemperature", { id: this.id, temperature });
  }

  endSoon() {
    now("piece.endSoon", { id: this.id });
  }

  /** What ends the composing of an ending, while that is under way. */
  stopper() {
    return { set: () => call("piece.stop", { id: this.id }).catch(() => {}), free() {} };
  }

  midi(tempo) {
    return new Uint8Array(now("piece.midi", { id: this.id, tempo }));
  }

  how(tempo) {
    return json(now("piece.how", { id: this.id, tempo }));
  }
}

export class Piano extends Held {
  silent = true;
  #events = [];
  #frames = 0;
  #rate;

  constructor(rate) {
    super(json(now("piano.new", { rate })));
    this.#rate = rate;
  }

  /** Seconds made so far, of which each frame counts: parts follow one another without a seam. */
  get seconds() {
    return this.#frames / this.#rate;
  }

  add(seconds, pitch, velocity) {
    this.#events.push([seconds, pitch, velocity]);
  }

  fill(seconds, rate) {
    const events = JSON.stringify(this.#events.splice(0));
    const made = new Float32Array(now("piano.fill", { id: this.id, seconds, rate }, events));
    this.silent = made[0] === 1;
    this.#frames += (made.length - 1) / 2;
    return made.slice(1);
  }
}

export const readMidi = (name, bytes) => JSON.stringify(json(now("readMidi", { name }, bytes)));
export const wav = (name, bytes) => new Uint8Array(now("wav", { name }, bytes));

// The program measures by itself.
export const rememberTuning = () => {};
export const beginTuning = () => {};
export const tuning = () => "";

const elsewhere = (what) => {
  throw Object.assign(new Error(`${what} is not part of the studio`), { remedy: `use \`deepj ${what}\`` });
};
export const verify = () => elsewhere("verify");
export const report = () => elsewhere("verify");
export const train = () => elsewhere("train");
export class Stop {}
