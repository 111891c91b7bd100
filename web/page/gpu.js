// What browsers do otherwise than wgpu expects.

/**
 * Has wgpu find a name of the adapter, and Firefox look at the GPU.
 *
 * wgpu takes an adapter's name from `description`, which browsers leave empty; vendor, architecture and device say more. Firefox looks
 * every 100 ms whether a buffer is mapped or work is done, unless something is submitted meanwhile.
 */
export async function prepareGpu() {
  if (!navigator.gpu) return;
  const info = globalThis.GPUAdapterInfo?.prototype;
  const described = info && Object.getOwnPropertyDescriptor(info, "description");
  if (described?.get) {
    Object.defineProperty(info, "description", {
      ...described,
      get() {
        const parts = [this.vendor, this.architecture, this.device, described.get.call(this)];
        return parts.filter((part) => part).join(" ") || "unnamed adapter";
      },
    });
  }
  if (!navigator.userAgent.includes("Firefox")) return;
  let queue;
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (...given) {
    const device = await request.apply(this, given);
    queue = device.queue;
    return device;
  };
  for (const [prototype, name] of [[GPUBuffer.prototype, "mapAsync"], [GPUQueue.prototype, "onSubmittedWorkDone"]]) {
    const wait = prototype[name];
    prototype[name] = function (...given) {
      const waited = wait.apply(this, given);
      const nudge = setInterval(() => queue.submit([]), 2);
      const quiet = () => clearInterval(nudge);
      waited.then(quiet, quiet);
      return waited;
    };
  }
}
