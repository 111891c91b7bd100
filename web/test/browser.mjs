// What the tests of the pages share: a browser with WebGPU in software, a server of the site, the program, and MIDI files as notes.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { DIST, serve } from "../serve.mjs";

const web = dirname(dirname(fileURLToPath(import.meta.url)));
export const ROOT = dirname(web);
const TARGET = resolve(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"));
/** Pictures of each state of the pages. */
export const SCREENS = join(TARGET, "web-screens");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const PROGRAM = resolve(process.env.DEEPJ ?? join(TARGET, "release", "deepj"));
const AXE = readFileSync(join(web, "node_modules/axe-core/axe.min.js"), "utf8");

/** A folder that is removed at the end. */
export const FOLDER = mkdtempSync(join(tmpdir(), "deepj-web-"));

let browser;
let server;

/** The browser and the site's address. */
export async function begin() {
  if (!existsSync(join(DIST, "sizes.json"))) throw new Error("there is no web/dist; web/build makes it");
  if (!existsSync(PROGRAM)) throw new Error(`there is no ${PROGRAM}; cargo build --release --features studio makes it`);
  mkdirSync(SCREENS, { recursive: true });
  server = await serve();
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless",
      "--no-sandbox",
      "--enable-unsafe-webgpu",
      "--use-webgpu-adapter=swiftshader",
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
  return `http://127.0.0.1:${server.address().port}`;
}

export async function end() {
  await browser?.close();
  server?.close();
  rmSync(FOLDER, { recursive: true, force: true });
}

/** A page in a context of its own, whose errors fail the test that looks at them. */
export async function open(url, { before, ...options } = {}) {
  const context = await browser.newContext({ acceptDownloads: true, viewport: { width: 1280, height: 900 }, ...options });
  if (before) await context.addInitScript(before);
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && page.errors.push(message.text()));
  await page.goto(url);
  await page.waitForSelector("html[data-ready]", { timeout: 60_000 });
  return page;
}

/** The bytes that a button downloads. */
export async function download(page, button) {
  const [got] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  return readFileSync(await got.path());
}

/** Runs the program; its standard output. */
export function deepj(...given) {
  return execFileSync(PROGRAM, given.map(String), { cwd: FOLDER, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, DEEPJ_DEVICE: "cpu" } });
}

/** What axe finds of a page that is serious or critical. */
export async function accessibility(page) {
  // Not as a script of the page, which lets in none but its own.
  await page.evaluate(AXE);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).slice(0, 3).join(" ")}`);
}

export const picture = (page, name) => page.screenshot({ path: join(SCREENS, `${name}.png`), fullPage: true });

/** A MIDI file of so many quarter notes, two a second. */
export function quarters(count) {
  const notes = Array.from({ length: count }, (_, i) => [0, 0x90, 60 + (i % 12), 80, 0x83, 0x60, 0x80, 60 + (i % 12), 0]).flat();
  const track = Buffer.from([0, 0xff, 0x51, 3, 7, 0xa1, 0x20, ...notes, 0, 0xff, 0x2f, 0]);
  const head = Buffer.from("MThd\0\0\0\x06\0\0\0\x01\x01\xe0MTrk", "latin1");
  const size = Buffer.alloc(4);
  size.writeUInt32BE(track.length);
  return Buffer.concat([head, size, track]);
}

/** Has a page go on behind a file of three minutes, and end; no piece of sound is longer than a slow bar. */
export async function goesOnBehindThreeMinutes(page) {
  const file = join(FOLDER, "three-minutes.mid");
  writeFileSync(file, quarters(360));
  await page.evaluate(() => {
    const { createBuffer } = BaseAudioContext.prototype;
    BaseAudioContext.prototype.createBuffer = function (channels, frames, rate) {
      const { dataset } = document.documentElement;
      dataset.longest = String(Math.max(Number(dataset.longest ?? 0), frames / rate));
      dataset.made = String(Number(dataset.made ?? 0) + frames / rate);
      return createBuffer.call(this, channels, frames, rate);
    };
  });
  await page.setInputFiles("#prime", file);
  await page.waitForFunction(() => document.getElementById("state").textContent.includes("three-minutes.mid"));
  await page.click("#compose");
  await page.waitForFunction(() => document.querySelectorAll("#bars li").length > 1, undefined, { timeout: 120_000 });
  const made = Number(await page.getAttribute("html", "data-made"));
  assert.ok(made < 30, `${made} s of sound were made for the first bars`);
  await page.click("#finish");
  await page.waitForSelector("html[data-finished]", { timeout: 240_000 });
  const longest = Number(await page.getAttribute("html", "data-longest"));
  assert.ok(longest < 13, `${longest} s of sound at once`);
  assert.ok(notes(await download(page, "#midi")).length > 360);
  assert.equal(await page.textContent("#trouble"), "");
  assert.deepEqual(page.errors, []);
}

/** The notes of a MIDI file: tick, pitch, velocity and length, in the order of the ticks and pitches. */
export function notes(bytes) {
  let at = 14;
  const all = [];
  while (at < bytes.length) {
    const size = bytes.readUInt32BE(at + 4);
    let [place, tick, status] = [at + 8, 0, 0];
    const end = place + size;
    const open = new Map();
    const length = () => {
      let value = 0;
      for (;;) {
        const byte = bytes[place++];
        value = value * 128 + (byte & 127);
        if (byte < 128) return value;
      }
    };
    while (place < end) {
      tick += length();
      if (bytes[place] >= 128) status = bytes[place++];
      if (status === 0xff || status === 0xf0 || status === 0xf7) {
        if (status === 0xff) place++;
        const skipped = length();
        place += skipped;
        continue;
      }
      const [kind, first] = [status >> 4, bytes[place++]];
      if (kind === 12 || kind === 13) continue;
      const second = bytes[place++];
      if (kind !== 8 && kind !== 9) continue;
      const begun = open.get(first);
      if (begun) {
        begun.length = tick - begun.tick;
        open.delete(first);
      }
      if (kind === 9 && second > 0) {
        const note = { tick, pitch: first, velocity: second, length: 0 };
        all.push(note);
        open.set(first, note);
      }
    }
    at = end;
  }
  return all.sort((a, b) => a.tick - b.tick || a.pitch - b.pitch);
}
