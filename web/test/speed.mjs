// How many time steps a second are composed, by the program and in the page: `node web/test/speed.mjs`. Sixteen bars of one piece
// without an ending; on SwiftShader two.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { begin, end, FOLDER, open, PROGRAM } from "./browser.mjs";

const site = await begin();
const flags = (bars) => ["generate", "--checkpoint", "builtin", "--style", "romantic", "--bars", bars, "--seed", "1", "--ending", "none"];
const seconds = (bars, threads) => {
  const began = performance.now();
  const env = { ...process.env, RAYON_NUM_THREADS: threads };
  spawnSync(PROGRAM, [...flags(bars), "--device", "cpu", "-o", join(FOLDER, "piece.mid")], { env });
  return (performance.now() - began) / 1000;
};
for (const threads of ["1", "2"]) {
  seconds("1", threads);
  const took = seconds("33", threads) - seconds("1", threads);
  console.log(`the program, CPU, ${threads} threads: ${Math.round(512 / took)} time steps a second`);
}
for (const [device, bars] of [["cpu", 16], ["gpu", 2]]) {
  const page = await open(`${site}/index.html?bars=${bars}&seed=1&tempo=400&ending=none&device=${device}`);
  await page.click("#compose");
  await page.waitForSelector("html[data-finished]", { timeout: 300_000 });
  const { steps, name } = await page.evaluate(() => ({ ...document.getElementById("speed").dataset }));
  console.log(`the page, ${device === "cpu" ? "WebAssembly" : name}: ${Number(steps).toFixed(1)} time steps a second`);
  await page.context().close();
}
await end();
