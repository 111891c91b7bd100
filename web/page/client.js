// The page's side of the worker: calls that are answered, and events in between.

/** A worker in which everything computes. */
export class Client extends EventTarget {
  #worker;
  #waiting = new Map();
  #next = 1;
  /** Why there is no worker any more. */
  #dead = null;

  constructor() {
    super();
    this.#begin();
  }

  #begin() {
    this.#dead = null;
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      if (data.event) {
        this.dispatchEvent(Object.assign(new Event(data.event), { detail: data.detail }));
        return;
      }
      const call = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if (!call) return;
      if (data.error) call.reject(asError(data.error));
      else call.resolve(data.result);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#worker.terminate();
      this.#dead = {
        message: `the worker stopped: ${event.message || "it could not be loaded"}`,
        remedy: "reload the page; if it recurs, the browser may be too old or short of memory",
        kind: "worker",
      };
      this.#fail(this.#dead);
    };
  }

  #fail(error) {
    for (const call of this.#waiting.values()) call.reject(asError(error));
    this.#waiting.clear();
    this.dispatchEvent(Object.assign(new Event("failed"), { detail: asError(error) }));
  }

  /** Has the worker do something; resolves to its result. */
  call(operation, detail = {}, transfer = []) {
    if (this.#dead) return Promise.reject(asError(this.#dead));
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, operation, detail }, transfer);
    });
  }

  /** Tells the worker something that has no answer. */
  tell(operation, detail = {}) {
    this.#worker.postMessage({ id: 0, operation, detail });
  }

  /** Ends the worker, whatever it does, and begins another one. */
  restart(why) {
    this.#worker.terminate();
    this.#fail({ message: why, remedy: "", kind: "stopped" });
    this.#begin();
  }
}

/** An error with the remedy beside it, from what a worker can send. */
export function asError({ message, remedy = "", kind = "" }) {
  return Object.assign(new Error(message), { remedy, kind });
}

/** An error in words, with what to do about it. */
export function inWords(error) {
  const what = error?.message ?? String(error);
  // Not a file's name.
  const sentence = /^[a-z]+\s/.test(what) ? what.charAt(0).toUpperCase() + what.slice(1) : what;
  const remedy = error?.remedy ? `: ${error.remedy}` : "";
  return `${sentence}${remedy}.`.replace(/\.\.$/, ".");
}
