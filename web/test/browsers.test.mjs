// The pages in Firefox and in WebKit, of which Safari is made: what differs from Chromium, where the other tests run.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { serve } from "../serve.mjs";
import { deepj, end, FOLDER, notes, quarters, SCREENS } from "./browser.mjs";
import { BROWSERS } from "./webdriver.mjs";

const TAB = "\uE004";
const [HOME, RIGHT] = ["\uE011", "\uE014"];
after(end);

/** Those without which the tests fail: `firefox,webkit`. */
const REQUIRED = (process.env.DEEPJ_REQUIRE_BROWSERS ?? "").split(",");

for (const [name, begin] of Object.entries(BROWSERS)) {
  const missing = `there is no ${name}`;
  describe(name, { skip: begin || REQUIRED.includes(name.toLowerCase()) ? false : missing }, () => {
    let browser;
    let server;
    let site;
    before(async () => {
      assert.ok(begin, missing);
      mkdirSync(SCREENS, { recursive: true });
      server = await serve();
      site = `http://127.0.0.1:${server.address().port}`;
      browser = await begin();
    });
    after(async () => {
      await browser?.close();
      server.close();
    });
    const link = (wishes) => `${site}/index.html?${new URLSearchParams({ device: "cpu", ...wishes })}`;
    const composed = async () => {
      await browser.click("#compose");
      await browser.until(() => document.documentElement.dataset.finished !== undefined);
    };
    /** Without a sound card Firefox says that there is no sound. */
    const well = async () => {
      assert.match(await browser.text("trouble"), /^$|makes no sound|more slowly than the music/);
      assert.deepEqual(await browser.run(() => window.errors), []);
    };

    test("a piece has the program's notes, and is played to its end", async () => {
      const wishes = { style: "baroque:0.6,chopin:0.4", bars: 4, seed: 5, temperature: 0.8, tempo: 240 };
      const file = join(FOLDER, `${name}.mid`);
      const flags = Object.entries(wishes).flatMap(([name, value]) => [`--${name}`, value]);
      deepj("generate", "--checkpoint", "builtin", ...flags, "-o", file);
      await browser.go(link(wishes));
      await composed();
      assert.deepEqual(notes(await browser.download("#midi")), notes(readFileSync(file)));
      assert.equal((await browser.download("#wav")).subarray(0, 4).toString(), "RIFF");
      await browser.said("state", "The piece is over.");
      assert.equal(await browser.run(() => document.querySelectorAll("#bars li").length), 4);
      console.log(`# ${name}: ${await browser.text("speed")}`);
      await browser.picture(join(SCREENS, `compose-${name.toLowerCase()}.png`));
      await well();
    });

    test("a file that is played is paused, goes on and is stopped", async () => {
      const bars = () => browser.run(() => document.querySelectorAll("#bars li").length);
      await browser.go(link({}));
      await browser.click("#ready button:first-child");
      await browser.until(() => document.querySelectorAll("#bars li").length > 0);
      await browser.click("#pause");
      await browser.said("state", "Paused.");
      const before = await bars();
      await new Promise((resolve) => setTimeout(resolve, 3000));
      assert.equal(await bars(), before);
      await browser.click("#pause");
      await browser.until((before) => document.querySelectorAll("#bars li").length > before, before);
      await browser.click("#stop");
      await browser.said("state", "Stopped.");
      await well();
    });

    test("a piece goes on from a file, and a reload forgets it, in the controls too", async () => {
      await browser.go(link({ bars: 2, seed: 3, tempo: 400, ending: "none" }));
      const given = join(FOLDER, "given.mid");
      writeFileSync(given, quarters(8));
      await browser.type("#prime", given);
      await browser.said("state", "given.mid");
      await composed();
      const found = notes(await browser.download("#midi"));
      assert.deepEqual(found.slice(0, 8).map(({ pitch }) => pitch), notes(quarters(8)).map(({ pitch }) => pitch));
      await browser.type("#volume", HOME);
      await browser.reload();
      const kept = await browser.run(() => ["prime", "volume", "seed"].map((id) => document.getElementById(id).value));
      assert.deepEqual(kept, ["", "80", "3"]);
      await well();
    });

    test("controls are reached and worked by the keyboard", async () => {
      await browser.go(link({ style: "baroque:0.6,chopin:0.4" }));
      const controls = await browser.run(() => {
        const all = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")];
        const shown = all.filter((element) => element.checkVisibility() && !element.disabled && (element.type !== "radio" || element.checked));
        shown.forEach((element, i) => (element.dataset.control = String(i)));
        return shown.length;
      });
      const reached = new Set();
      for (let i = 0; i < controls; i++) {
        await browser.press(TAB);
        reached.add(await browser.run(() => document.activeElement.dataset.control));
      }
      assert.equal(reached.size, controls);
      await browser.type("#temperature", RIGHT);
      assert.equal(await browser.run(() => document.getElementById("temperature").getAttribute("aria-valuetext")), "0.85, as learned");
      await browser.type("#mixture .slider input", HOME);
      assert.deepEqual(await browser.run(() => [...document.querySelectorAll("#mixture input")].map(({ value }) => value)), ["0", "0", "0", "100"]);
      await well();
    });

    test("checks of one op pass on the CPU, and the program reads the report", async () => {
      await browser.go(`${site}/verify.html?extent=quick&only=add/`);
      if (await browser.run(() => document.getElementById("with-gpu").checked)) await browser.click("#with-gpu");
      await browser.click("#start");
      await browser.until(() => document.documentElement.dataset.verified !== undefined);
      assert.match(await browser.text("verdict"), /CPU: all is as it must be\./);
      const file = join(FOLDER, `${name}.json`);
      writeFileSync(file, await browser.download("#download"));
      assert.match(deepj("verify", "--merge", file, "--markdown"), /CPU backend on wasm32/);
    });

    test("a run goes on in the program", async () => {
      await browser.go(`${site}/train.html?device=cpu`);
      await browser.run(() => Object.entries({ steps: 4, batch: 2, seq: 32 }).forEach(([id, value]) => (document.getElementById(id).value = value)));
      await browser.click("#start");
      await browser.until(() => document.documentElement.dataset.trained !== undefined);
      assert.match(await browser.text("state"), /Ended after 4 updates/, await browser.text("trouble"));
      const run = join(FOLDER, `run-${name}`);
      mkdirSync(run);
      writeFileSync(join(run, "last.safetensors"), await browser.download("#last"));
      const said = deepj("train", "--resume", "--out", run, "--steps", "5", "--device", "cpu", "--json");
      assert.equal(JSON.parse(said.slice(said.indexOf("{"))).step, 5);
      assert.deepEqual(await browser.run(() => window.errors), []);
    });

    // The last, since it ends the server.
    test("the pages work without a network", async () => {
      await browser.go(link({ bars: 1, tempo: 400, ending: "none" }));
      await browser.until(async () => Boolean((await navigator.serviceWorker.ready).active) && navigator.serviceWorker.controller !== null);
      server.close();
      server.closeAllConnections();
      await browser.reload();
      await composed();
      for (const page of ["verify", "train"]) await browser.go(`${site}/${page}.html`);
      assert.equal(await browser.text("state"), "Ready.");
    });
  });
}
