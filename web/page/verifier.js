// Runs the tasks of one device and posts what they tell.
import * as deepj from "./deepj_web.js";
import { post } from "./held.js";

/** A turn of the event loop. */
const breath = () => new Promise((resolve) => setTimeout(resolve, 0));

/** Verifies a device from a task on; posts each event as `verify`. */
export async function verify({ cpu, from, only, quick }) {
  await deepj.verify(cpu, from, only || undefined, quick, (event) => post("verify", JSON.parse(event)), breath);
}
