// What the pages share: errors in words, files, downloads, and the service worker.
import { inWords } from "./client.js";

export const $ = (id) => document.getElementById(id);

/** Whether `deepj studio` serves the page. */
export const inStudio = document.documentElement.dataset.where === "studio";

/** Says what went wrong, where it is noticed; nothing is said where `error` is null. */
export function trouble(error) {
  const place = $("trouble");
  place.hidden = !error;
  place.replaceChildren();
  if (!error) return;
  const line = document.createElement("p");
  line.textContent = typeof error === "string" ? error : inWords(error);
  place.append(line);
}

/** Says how it goes, for screen readers politely. */
export function state(text) {
  if ($("state").textContent !== text) $("state").textContent = text;
}

/** Has the browser save bytes as a file. */
export function save(name, bytes, type) {
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The bytes of a file that is at most so large. */
export async function bytesOf(file, most) {
  if (file.size > most) {
    const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    throw Object.assign(new Error(`${file.name} has ${mib(file.size)}`), { remedy: `give a file of at most ${mib(most)}` });
  }
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw Object.assign(new Error(`${file.name} cannot be read`), { remedy: "look whether it is still there, and choose it again" });
  }
}

/** Whether the browser lets the page keep something. */
export function remember(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(key);
    localStorage.setItem(key, value);
    return value;
  } catch {
    return null;
  }
}

/** A short text for bytes. */
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** Keeps the site for when there is no network. */
export async function offline() {
  // The program is there as long as its page.
  if (inStudio) return "";
  if (!("serviceWorker" in navigator)) return "this browser keeps no pages for when it is offline";
  try {
    const { installing } = await navigator.serviceWorker.register(new URL("./sw.js", document.baseURI), { updateViaCache: "none" });
    while (installing?.state === "installing") {
      await new Promise((resolve) => installing.addEventListener("statechange", resolve, { once: true }));
    }
    return installing?.state !== "redundant" ? "" : "the page works, but not offline: the browser has no room for it";
  } catch (error) {
    return `the page works, but not offline: the browser does not keep it (${error.message})`;
  }
}
