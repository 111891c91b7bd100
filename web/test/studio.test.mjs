// `deepj studio`: the same page on this machine's devices, and runs that are watched live.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { accessibility, begin, deepj, download, end, FOLDER, goesOnBehindThreeMinutes, notes, open, picture, PROGRAM } from "./browser.mjs";

let studio;
let address;
const runs = join(FOLDER, "runs");

before(async () => {
  await begin();
  mkdirSync(runs, { recursive: true });
  studio = spawn(PROGRAM, ["studio", "--runs", runs, "--device", "cpu"], { cwd: FOLDER, stdio: ["ignore", "pipe", "inherit"] });
  address = await new Promise((resolve, reject) => {
    studio.stdout.once("data", (text) => resolve(String(text).trim()));
    studio.once("exit", (code) => reject(new Error(`the studio ended with ${code}; was it built with --features studio?`)));
  });
});
after(async () => {
  studio?.removeAllListeners();
  studio?.kill();
  await end();
});

test("a piece is composed by the program behind the page", async () => {
  const page = await open(`${address}index.html?bars=3&seed=2&tempo=240&style=bach&device=cpu`);
  await page.click("#compose");
  await page.waitForSelector("html[data-finished]", { timeout: 120_000 });
  const found = notes(await download(page, "#midi"));
  const file = join(FOLDER, "studio.mid");
  deepj(..."generate --checkpoint builtin --style bach --bars 3 --seed 2 --tempo 240 -o".split(" "), file);
  assert.deepEqual(found, notes(readFileSync(file)));
  assert.equal((await download(page, "#wav")).subarray(0, 4).toString(), "RIFF");
  assert.match(await page.textContent("#speed"), /Computes on the CPU\./);
  await picture(page, "studio-compose");
  assert.deepEqual(await accessibility(page), []);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a piece is composed after sixty files were played", async () => {
  const page = await open(`${address}index.html?bars=1&seed=2&tempo=240&style=bach&device=cpu&ending=none`);
  for (let i = 0; i < 60; i++) {
    const button = `#ready button:nth-child(${1 + (i % 9)})`;
    const name = await page.textContent(button);
    await page.click(button);
    await page.waitForFunction((name) => document.getElementById("state").textContent.startsWith(`Playing ${name},`), name);
  }
  await page.click("#compose");
  await page.waitForSelector("html[data-finished]", { timeout: 60_000 });
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a piece goes on behind a file of three minutes", async () => {
  const page = await open(`${address}index.html?bars=2&seed=3&tempo=120&style=baroque&device=cpu&ending=none`);
  await goesOnBehindThreeMinutes(page);
  await page.context().close();
});

test("a run under way is watched live, and its samples are played", async () => {
  const out = join(runs, "first");
  const flags = "--steps 100000 --minutes 1 --batch 1 --seq 8 --validate-every 2 --samples 0 --device cpu --set time_units=8 --set note_units=8 --set filters=4 --set style_width=4";
  const run = spawn(PROGRAM, ["train", "--out", out, ...flags.split(" ")], { cwd: FOLDER, stdio: "ignore" });
  try {
    const page = await open(`${address}runs.html`);
    for (let i = 0; i < 60 && !(await page.$("#run option")); i++) {
      await page.waitForTimeout(1000);
      await page.click("#again");
    }
    await page.waitForFunction(() => document.getElementById("state").textContent.includes("under way"), undefined, { timeout: 60_000 });
    const step = async () => Number(await page.getAttribute("html", "data-step"));
    const first = await step();
    await page.waitForFunction((first) => Number(document.documentElement.dataset.step) > first + 3, first, { timeout: 60_000 });
    run.kill("SIGINT");
    await page.waitForFunction(() => document.getElementById("state").textContent.includes("come to its end"), undefined, { timeout: 60_000 });
    deepj("generate", "--checkpoint", out, "--bars", "2", "--seed", "1", "-o", join(out, "sample-one.mid"));
    await page.click("#again");
    await page.waitForSelector("#samples button", { timeout: 60_000 });
    await page.click("#samples button");
    await page.waitForSelector("html[data-played]", { timeout: 60_000 });
    await picture(page, "studio-runs");
    assert.deepEqual(await accessibility(page), []);
    assert.deepEqual(page.errors, []);
    await page.context().close();
  } finally {
    run.kill("SIGKILL");
  }
});

test("the run that was chosen last is shown, however late another one's curve comes", async () => {
  for (const [name, step] of [["slow", 1], ["fast", 2]]) {
    mkdirSync(join(runs, name), { recursive: true });
    writeFileSync(join(runs, name, "curve.jsonl"), `{"kind":"train","step":${step},"loss":2}\n{"kind":"end","step":${step},"end":"steps"}\n`);
  }
  const page = await open(`${address}runs.html`);
  await page.route("**/runs/slow/curve", async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await route.continue();
  });
  const late = page.waitForResponse("**/runs/slow/curve");
  await page.selectOption("#run", "fast");
  await page.selectOption("#run", "slow");
  await page.selectOption("#run", "fast");
  await late;
  await page.waitForTimeout(300);
  assert.equal(await page.getAttribute("html", "data-step"), "2");
  assert.match(await page.textContent("#state"), /^fast/);
  assert.equal(await page.locator("#table tbody tr").count(), 1);
  await page.click("#again");
  await page.waitForTimeout(300);
  assert.equal(await page.inputValue("#run"), "fast");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});
