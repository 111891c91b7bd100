// The other pages, what is kept for when there is no network, and how large all of it is.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { extname, join } from "node:path";
import { after, before, test } from "node:test";
import { DIST } from "../serve.mjs";
import { accessibility, begin, deepj, download, end, FOLDER, open, picture, ROOT } from "./browser.mjs";

let site;
before(async () => (site = await begin()));
after(end);

test("the site is no larger than it may be", () => {
  const { wasm_gzip, all_gzip } = JSON.parse(readFileSync(join(DIST, "sizes.json"), "utf8"));
  console.log(`# wasm ${wasm_gzip}, all ${all_gzip} bytes`);
  assert.ok(wasm_gzip <= 1_200_000, `wasm ${wasm_gzip}`);
  assert.ok(all_gzip <= 5_000_000, `all ${all_gzip}`);
});

/** Verifies on the page's one device that is not unchecked, and returns the report as the program reads it. */
async function verified(address, without, name) {
  const page = await open(`${site}/verify.html?${address}`);
  await picture(page, `${name}-ready`);
  assert.deepEqual(await accessibility(page), []);
  await page.uncheck(without);
  await page.click("#start");
  await page.waitForSelector("html[data-verified]", { timeout: 1_800_000 });
  await picture(page, `${name}-done`);
  const verdict = await page.textContent("#verdict");
  assert.equal(await page.getAttribute("html", "data-verified"), "good", verdict);
  assert.match(verdict, /: all is as it must be\./);
  assert.deepEqual(await accessibility(page), []);
  const file = join(FOLDER, `${name}.json`);
  writeFileSync(file, await download(page, "#download"));
  const { devices } = JSON.parse(readFileSync(file, "utf8"));
  assert.equal(devices.length, 1);
  const cases = devices[0].checks.reduce((sum, { cases }) => sum + cases, 0);
  console.log(`# ${name}: ${cases} cases in ${devices[0].seconds.toFixed(0)} s`);
  assert.deepEqual(page.errors, []);
  await page.context().close();
  return { device: devices[0], cases, merged: deepj("verify", "--merge", file, "--markdown") };
}

test("all checks pass on the CPU, and the program reads the report", async () => {
  const { device, cases, merged } = await verified("extent=quick", "#with-gpu", "verify-cpu");
  assert.ok(cases > 50, `${cases} cases`);
  // Its training is what that of others is compared with.
  assert.ok(device.training === null && device.generation.error === null && device.timings.length === 2);
  assert.match(merged, /CPU/);
});

// All of them take longer on SwiftShader than a test may.
test("checks of one op pass on SwiftShader (all with DEEPJ_LONG=1), and the program reads the report", async () => {
  const whole = process.env.DEEPJ_LONG === "1";
  const { device, cases, merged } = await verified(whole ? "extent=quick" : "extent=quick&only=add/", "#with-cpu", "verify-gpu");
  assert.match(device.machine.adapter, /google swiftshader/);
  assert.ok(cases > (whole ? 50 : 0), `${cases} cases`);
  assert.ok(!whole || (device.training.losses.length === 20 && device.generation.error === null && device.peaks));
  assert.match(merged, /swiftshader/);
});

test("a crash of the worker fails its check, and the rest goes on in another one", async () => {
  const page = await open(`${site}/verify.html?only=add/`);
  await page.uncheck("#with-gpu");
  await page.evaluate(() => {
    // The first worker ends at its third check.
    const [Real, begun] = [Worker, { workers: 0 }];
    globalThis.Worker = class extends Real {
      constructor(...given) {
        super(...given);
        begun.workers++;
        const broken = begun.workers === 1;
        let events = 0;
        const listeners = [];
        Object.defineProperty(this, "onmessage", {
          set: (listener) => {
            listeners.push(listener);
            super.onmessage = (message) => {
              if (broken && message.data.event === "verify" && message.data.detail.begun && ++events === 3) {
                listener(message);
                this.onerror({ preventDefault() {}, message: "out of memory" });
                return;
              }
              listener(message);
            };
          },
        });
      }
    };
  });
  // The page's own worker was there before; it is begun anew.
  await page.click("#start");
  await page.click("#stop");
  await page.waitForSelector("html[data-verified]");
  await page.evaluate(() => delete document.documentElement.dataset.verified);
  await page.click("#start");
  await page.waitForSelector("html[data-verified]", { timeout: 120_000 });
  const text = await page.textContent("#verdict");
  assert.match(text, /: 1 failure\. .*out of memory/, await page.textContent("#trouble"));
  const passed = await page.$$eval("#table tbody td:nth-child(3)", (cells) => cells.map(({ textContent }) => textContent));
  assert.equal(passed.join(), "5 of 6");
  await page.context().close();
});

test("a run of the page goes on in the program, and one of the program in the page", async () => {
  const page = await open(`${site}/train.html?device=cpu`);
  await picture(page, "train-ready");
  assert.deepEqual(await accessibility(page), []);
  await page.fill("#steps", "12");
  await page.fill("#batch", "2");
  await page.fill("#seq", "32");
  await page.click("#start");
  await page.waitForSelector("html[data-trained]", { timeout: 300_000 });
  assert.equal(await page.getAttribute("html", "data-trained"), "ended", await page.textContent("#trouble"));
  await picture(page, "train-done");
  assert.deepEqual(await accessibility(page), []);
  const run = join(FOLDER, "run");
  mkdirSync(run);
  writeFileSync(join(run, "last.safetensors"), await download(page, "#last"));
  const said = deepj("train", "--resume", "--out", run, "--steps", "15", "--device", "cpu", "--json");
  const outcome = JSON.parse(said.slice(said.indexOf("{")));
  assert.equal(outcome.step, 15, said);
  await page.setInputFiles("#checkpoint", join(run, "last.safetensors"));
  await page.fill("#steps", "18");
  await page.evaluate(() => delete document.documentElement.dataset.trained);
  await page.click("#start");
  await page.waitForSelector("html[data-trained]", { timeout: 300_000 });
  assert.match(await page.textContent("#state"), /Ended after 18 updates/, await page.textContent("#trouble"));
  await page.click("#sample");
  await page.waitForFunction(() => document.getElementById("state").textContent.startsWith("A sample"), undefined, { timeout: 120_000 });
  const words = join(FOLDER, "words");
  for (const [input, name] of [["#checkpoint", "words.safetensors"], ["#midi", "words.mid"]]) {
    writeFileSync(`${words}${extname(name)}`, "these are words, and nothing else");
    await page.setInputFiles(input, `${words}${extname(name)}`);
    if (input === "#midi") await page.click("#start");
    await page.waitForFunction((name) => document.getElementById("trouble").textContent.includes(name), name);
  }
  assert.ok(await page.isEnabled("#last"), "what was trained is kept where a run cannot begin");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("storage without room is said", async () => {
  const page = await open(`${site}/index.html`);
  await page.evaluate(async () => {
    for (const registration of await navigator.serviceWorker.getRegistrations()) await registration.unregister();
    for (const name of await caches.keys()) await caches.delete(name);
  });
  const browser = await page.context().newCDPSession(page);
  await browser.send("Storage.overrideQuotaForOrigin", { origin: site, quotaSize: 1000 });
  await page.reload();
  await page.waitForSelector("html[data-ready]", { timeout: 60_000 });
  assert.match(await page.textContent("#files"), /not offline: the browser has no room/);
  await page.context().close();
});

test("a run on the visitor's own files, by WebGPU", async () => {
  const page = await open(`${site}/train.html?device=gpu`);
  const files = ["baroque-1", "baroque-2", "classical-1", "romantic-1"].map((name) => join(ROOT, `docs/listen/${name}.mid`));
  await page.setInputFiles("#midi", files);
  await page.waitForFunction(() => document.getElementById("files").textContent.includes("4 files"));
  await page.fill("#steps", "3");
  await page.fill("#batch", "1");
  await page.fill("#seq", "16");
  await page.click("#start");
  await page.waitForSelector("html[data-trained]", { timeout: 600_000 });
  assert.match(await page.textContent("#state"), /Ended after 3 updates/, await page.textContent("#trouble"));
  assert.match(await page.textContent("#device-name"), /swiftshader/);
  await page.context().close();
});

test("files that are none, and numbers that cannot be, are refused in words", async () => {
  const page = await open(`${site}/train.html?device=cpu`);
  const file = join(FOLDER, "words.mid");
  writeFileSync(file, "these are words");
  await page.setInputFiles("#midi", file);
  await page.click("#start");
  await page.waitForFunction(() => /words\.mid|no piece|MIDI/.test(document.getElementById("trouble").textContent));
  await page.fill("#batch", "0");
  await page.click("#start");
  await page.waitForFunction(() => /batch: 0.*from 1 to 64/.test(document.getElementById("trouble").textContent));
  await picture(page, "train-refused");
  await page.context().close();
});

test("the pages work offline, in the dark, and on a phone", async () => {
  const page = await open(`${site}/index.html?bars=2&device=cpu&tempo=240`, { colorScheme: "dark", reducedMotion: "reduce", viewport: { width: 390, height: 844 } });
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(async () => (await caches.keys()).length === 1, undefined, { timeout: 60_000 });
  await page.context().setOffline(true);
  await page.reload();
  await page.waitForSelector("html[data-ready]", { timeout: 60_000 });
  await page.click("#compose");
  await page.waitForSelector("html[data-finished]", { timeout: 120_000 });
  await picture(page, "compose-phone-dark-offline");
  assert.deepEqual(await accessibility(page), []);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, `${wide} pixels wide`);
  await page.goto(`${site}/verify.html`);
  await page.waitForSelector("html[data-ready]", { timeout: 60_000 });
  await picture(page, "verify-phone-dark-offline");
  await page.context().close();
});

test("without WebGPU, sound and storage a page says so and composes", async () => {
  const without = () => {
    delete Navigator.prototype.gpu;
    delete globalThis.AudioContext;
    delete globalThis.webkitAudioContext;
    delete Navigator.prototype.serviceWorker;
    Object.defineProperty(globalThis, "localStorage", { get: () => { throw new DOMException("denied", "SecurityError"); } });
  };
  const page = await open(`${site}/index.html?bars=2&tempo=240`, { before: without });
  await page.click("#compose");
  await page.waitForSelector("html[data-finished]", { timeout: 120_000 });
  assert.match(await page.textContent("#trouble"), /makes no sound/);
  assert.match(await page.textContent("#files"), /keeps no pages/);
  assert.ok((await download(page, "#midi")).length > 100);
  const verify = await open(`${site}/verify.html`, { before: without });
  assert.match(await verify.textContent("#trouble"), /no WebGPU/);
  await page.context().close();
  await verify.context().close();
});

test("two tabs compose beside each other", async () => {
  const page = await open(`${site}/index.html?bars=2&tempo=240&device=cpu`);
  const other = await page.context().newPage();
  await other.goto(`${site}/index.html?bars=2&tempo=240&device=cpu`);
  await other.waitForSelector("html[data-ready]");
  await Promise.all([page, other].map((tab) => tab.click("#compose")));
  await Promise.all([page, other].map((tab) => tab.waitForSelector("html[data-finished]", { timeout: 120_000 })));
  await page.context().close();
});
