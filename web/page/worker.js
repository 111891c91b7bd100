// The worker: everything that computes. It answers calls (`id`), and posts events of its own.
import init, * as deepj from "./deepj_web.js";
import { prepareGpu } from "./gpu.js";
import { Conductor } from "./conductor.js";
import { described, held, hold, open, post } from "./held.js";
import { train } from "./trainer.js";
import { verify } from "./verifier.js";

/** The bytes at an address, with progress of the download. */
async function fetched(url, what) {
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw Object.assign(new Error(`${what} cannot be downloaded`), { remedy: "look whether the network is there, and reload the page" });
  }
  if (!answer.ok) {
    const remedy = "the site is not complete; build it anew with web/build";
    throw Object.assign(new Error(`${what}: the server answered ${answer.status}`), { remedy });
  }
  const size = Number(answer.headers.get("content-length")) || 0;
  const parts = [];
  let done = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const part = await reader.read();
    if (part.done) break;
    parts.push(part.value);
    done += part.value.length;
    post("download", { what, done, size: Math.max(size, done) });
  }
  const bytes = new Uint8Array(done);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

let module;
/** The wasm module, loaded once. */
function loaded() {
  module ??= (async () => {
    const features = await prepareGpu();
    const bytes = await fetched(new URL("./deepj_web_bg.wasm", import.meta.url), "the program");
    try {
      await init({ module_or_path: bytes });
    } catch (error) {
      if (!(error instanceof WebAssembly.CompileError)) throw error;
      throw Object.assign(new Error(`this browser cannot run the program (${error.message})`), { remedy: "take a newer version of it, or another one" });
    }
    return features;
  })();
  return module;
}

const needsWeights = () => {
  if (!held.weights) throw Object.assign(new Error("there are no weights yet"), { remedy: "wait until they are loaded" });
};

let corpus;
/** The pieces of data/, loaded once: their paths and sizes as a line of JSON, then their bytes. */
function withCorpus() {
  corpus ??= (async () => {
    const bytes = await fetched(new URL("./corpus.bin", import.meta.url), "the pieces");
    const end = bytes.indexOf(10);
    const listed = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
    let at = end + 1;
    const files = listed.map(([, size]) => bytes.slice(at, (at += size)));
    deepj.provideCorpus(listed.map(([name]) => name), files);
  })();
  return corpus;
}

/** What can be asked of the worker. */
const operations = {
  async load() {
    await loaded();
    return { version: deepj.version() };
  },
  async weights() {
    await loaded();
    const bytes = await fetched(new URL("./weights.safetensors", import.meta.url), "the weights");
    hold("weights", deepj.Weights.builtin(bytes));
    return JSON.parse(held.weights.describe());
  },
  async checkpoint({ name, bytes }) {
    await loaded();
    const weights = deepj.Weights.read(name, bytes);
    hold("weights", weights);
    return JSON.parse(weights.describe());
  },
  async device({ choice }) {
    await loaded();
    await open(choice);
    return described();
  },
  async tune({ text, device }) {
    needsWeights();
    if (text) return void deepj.rememberTuning(text);
    await open(device);
    if (held.device.cpu) throw Object.assign(new Error("the CPU has one implementation of each kernel"), { remedy: "choose the GPU" });
    await held.conductor?.stop();
    deepj.beginTuning();
    const wanted = { style: "", bars: 4, seed: 0, temperature: null, tempo: 120, ending: true };
    const piece = await deepj.Piece.begin(held.weights, held.device, JSON.stringify(wanted), "", new Uint8Array());
    await piece.prepareEnding();
    piece.free();
    return { name: held.device.name, text: deepj.tuning() ?? "" };
  },
  async style({ expression }) {
    needsWeights();
    return JSON.parse(held.weights.style(expression));
  },
  async compose({ wanted, tempo, rate, given }) {
    needsWeights();
    await open(wanted.device);
    await held.conductor?.stop();
    const { device: _, ...rest } = wanted;
    const conductor = await Conductor.compose({ ...rest, tempo }, rate, given);
    // Something else may have been begun meanwhile.
    await held.conductor?.stop();
    hold("conductor", conductor);
    return { ...described(), how: held.conductor.how };
  },
  async play({ name, bytes, rate }) {
    await loaded();
    await held.conductor?.stop();
    hold("conductor", Conductor.play(name, bytes, rate));
    const { tempo, seconds, warnings } = held.conductor.file;
    return { tempo, seconds, warnings };
  },
  async midiFile({ name, bytes }) {
    await loaded();
    JSON.parse(deepj.readMidi(name, bytes));
  },
  async begin() {
    held.conductor.run();
  },
  async change(detail) {
    held.conductor?.change(detail);
  },
  async position({ seconds }) {
    held.conductor?.reached(seconds);
  },
  async end() {
    held.conductor?.endSoon();
  },
  async stop() {
    await held.conductor?.stop();
  },
  async midi({ tempo }) {
    if (!held.conductor) throw Object.assign(new Error("there is no piece yet"), { remedy: "compose one" });
    return held.conductor.midi(tempo);
  },
  async wav({ tempo }) {
    if (!held.conductor) throw Object.assign(new Error("there is no piece yet"), { remedy: "compose one" });
    return deepj.wav("the piece", await held.conductor.midi(tempo));
  },
  async lose() {
    held.device?.lose();
  },
  async verify(detail) {
    await loaded();
    await withCorpus();
    return verify(detail);
  },
  async report(detail) {
    await loaded();
    return deepj.report(JSON.stringify(detail));
  },
  async train(detail) {
    await loaded();
    await withCorpus();
    await open(detail.device);
    return train(detail);
  },
  async stopTraining() {
    held.stopTraining?.();
  },
};

self.onmessage = async ({ data: { id, operation, detail } }) => {
  try {
    const result = await operations[operation](detail);
    const transfer = result instanceof Uint8Array ? [result.buffer] : [];
    if (id) self.postMessage({ id, result }, transfer);
  } catch (error) {
    const { message = String(error), remedy = "", kind = "" } = error ?? {};
    const crashed = error instanceof WebAssembly.RuntimeError;
    const answer = crashed
      ? { message: `the program crashed (${message})`, remedy: "reload the page, and please report it with what you did", kind: "crash" }
      : { message, remedy, kind };
    if (id) self.postMessage({ id, error: answer });
    else post("trouble", answer);
  }
};
