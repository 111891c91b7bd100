// Runs a training and posts what it tells; checkpoints go to the page as bytes.
import * as deepj from "./deepj_web.js";
import { held, post } from "./held.js";

/** The longest time for which messages wait while the CPU trains, in milliseconds. */
const TURN = 50;

/** A turn of the event loop, now and then. */
function breaths() {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < TURN) return;
    await new Promise((resolve) => setTimeout(resolve, 0));
    last = performance.now();
  };
}

/** Trains until an end is reached or the page stops it; resolves to what came of it. */
export async function train({ wanted, files, resume }) {
  const stop = new deepj.Stop();
  held.stopTraining = () => stop.set();
  let told = 0;
  const tell = (what, value) => {
    if (value instanceof Uint8Array) return post("checkpoint", { name: what, bytes: value }, [value.buffer]);
    // Updates of a small network come faster than a page can draw.
    const now = performance.now();
    if (what === "validating" && now - told < 200) return;
    told = now;
    post("training", { what, ...{ value: JSON.parse(value) } });
  };
  try {
    const names = files.map(({ name }) => name);
    const bytes = files.map((file) => file.bytes);
    const outcome = await deepj.train(
      held.device,
      JSON.stringify(wanted),
      names,
      bytes,
      resume ?? new Uint8Array(),
      stop,
      tell,
      breaths(),
    );
    return JSON.parse(outcome);
  } finally {
    held.stopTraining = null;
    stop.free();
  }
}
