// What the worker holds between calls, and the device among it.
import * as deepj from "./deepj_web.js";

export const held = { weights: null, device: null, choice: null, why: "", conductor: null, stopTraining: null };

/** Posts an event to the page. */
export function post(event, detail, transfer = []) {
  self.postMessage({ event, detail }, transfer);
}

/** Opens a device: `gpu`, `cpu`, or `auto`, which takes hardware where there is some. */
export async function open(choice) {
  if (held.device && held.choice === choice) return;
  held.device?.free();
  held.device = null;
  let why = "";
  if (choice !== "cpu") {
    try {
      const device = await deepj.Device.open(false);
      if (choice === "gpu" || !device.software) held.device = device;
      else {
        why = `the browser's only adapter (${device.name}) computes on the CPU`;
        device.free();
      }
    } catch (error) {
      if (choice === "gpu") {
        const remedy = navigator.gpu
          ? "choose the CPU, which needs no GPU, or look at chrome://gpu what the browser says of it"
          : "choose the CPU, or take a browser that has WebGPU";
        throw Object.assign(new Error(navigator.gpu ? error.message : "this browser has no WebGPU"), { remedy });
      }
      why = navigator.gpu ? error.message : "this browser has no WebGPU";
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
  held.device?.free();
  held.device = null;
  await open(choice);
}
