// What the worker holds between calls, and the device among it.
import * as deepj from "./deepj_web.js";

export const held = { weights: null, device: null, choice: null, why: "", conductor: null, stopTraining: null };

/** Posts an event to the page. */
export function post(event, detail, transfer = []) {
  self.postMessage({ event, detail }, transfer);
}

/** Holds something in place of what was held there before, which is let go of. */
export function hold(name, value) {
  const before = held[name];
  held[name] = value;
  try {
    before?.free();
  } catch {
    // A call that is under way has borrowed it; it goes with the worker.
  }
}

/** What the browser lacks of a GPU, in words. */
async function lacking() {
  // The studio's devices are the program's, whatever the browser has.
  if (deepj.where === "studio") return "";
  if (!navigator.gpu) return "this browser has no WebGPU";
  return (await navigator.gpu.requestAdapter()) ? "" : "this browser offers no GPU";
}

/** Opens a device: `gpu`, `cpu`, or `auto`, which takes hardware where there is some. */
export async function open(choice) {
  if (held.device && held.choice === choice) return;
  hold("device", null);
  let why = "";
  if (choice !== "cpu") {
    try {
      const device = await deepj.Device.open(false);
      if (choice === "gpu" || !device.software) held.device = device;
      else {
        why = `the only adapter (${device.name}) computes on the CPU`;
        device.free();
      }
    } catch (error) {
      const missing = await lacking();
      if (choice === "gpu") {
        if (deepj.where === "studio") throw error;
        const remedy = navigator.gpu
          ? "choose the CPU, which needs no GPU, or look at chrome://gpu, in Firefox at about:support, what the browser says of it"
          : "choose the CPU, or take a browser that has WebGPU";
        throw Object.assign(new Error(missing || error.message), { remedy });
      }
      why = missing || error.message;
    }
  }
  held.device ??= await deepj.Device.open(true);
  held.choice = choice;
  held.why = why;
}

/** What the page is told of the device. */
export function described() {
  const { device, why } = held;
  const capabilities = JSON.parse(device.capabilities());
  return { cpu: device.cpu, software: device.software, name: device.name, why, capabilities };
}

/** Opens the device anew after it was lost. */
export async function reopen() {
  const { choice } = held;
  hold("device", null);
  await open(choice);
}
