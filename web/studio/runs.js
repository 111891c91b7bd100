// The studio's page of runs: their curves, those under way live, and their samples.
import { Client } from "./client.js";
import { $, state, trouble } from "./common.js";
import { drawCurve, tableOf } from "./curve.js";
import { Player } from "./player.js";

const client = new Client();
const player = new Player();
let runs = [];
let losses = [];
let validations = [];
let live = null;

/** Takes in a line of a curve. */
function take({ kind, step, loss }) {
  if (kind === "train") losses.push([step, loss]);
  if (kind === "validation") validations.push([step, loss]);
  return kind;
}

function show() {
  drawCurve($("curve"), losses, validations);
  tableOf($("table"), losses, validations);
  const [last, best] = [losses.at(-1), validations.reduce((best, one) => (best && best[1] <= one[1] ? best : one), null)];
  const held = best ? `, at best ${best[1].toFixed(4)} on held-out pieces after ${best[0]}` : "";
  $("now").textContent = last ? `Update ${last[0]}: loss ${last[1].toFixed(4)}${held}.` : "";
  document.documentElement.dataset.step = String(last?.[0] ?? 0);
}

async function asked(path) {
  const answer = await fetch(new URL(`./api/runs${path}`, location.href));
  if (!answer.ok) throw Object.assign(new Error("the program refused"), await answer.json());
  return answer;
}

async function choose(name) {
  trouble(null);
  live?.close();
  live = null;
  [losses, validations] = [[], []];
  const run = runs.find((run) => run.name === name);
  try {
    const text = await (await asked(`/${encodeURIComponent(name)}/curve`)).text();
    for (const line of text.split("\n")) {
      try {
        take(JSON.parse(line));
      } catch {
        // The last line may not be whole yet.
      }
    }
  } catch (error) {
    trouble(error);
  }
  show();
  const pieces = run.files.filter((file) => file.endsWith(".mid"));
  $("samples").replaceChildren(
    ...pieces.map((file) => {
      const button = Object.assign(document.createElement("button"), { textContent: file });
      button.onclick = () => play(name, file);
      return button;
    }),
  );
  if (!pieces.length) $("samples").textContent = "This run has no samples yet.";
  state(run.live ? `${name} is under way.` : `${name} is at rest.`);
  if (!run.live) return;
  live = new EventSource(new URL(`./api/runs/${encodeURIComponent(name)}/live`, location.href));
  live.onmessage = ({ data }) => {
    const line = JSON.parse(data);
    if (take(line) === "end") {
      live.close();
      state(`${name} has come to its end: ${line.end}.`);
      look(name);
    }
    show();
  };
}

async function play(run, file) {
  trouble(null);
  player.open();
  try {
    const answer = await asked(`/${encodeURIComponent(run)}/file/${encodeURIComponent(file)}`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    await client.call("play", { name: file, bytes, rate: player.rate });
    player.begin();
    await client.call("begin");
    $("quiet").disabled = false;
    state(`Playing ${file}.`);
  } catch (error) {
    trouble(error);
  }
}

async function look(chosen) {
  try {
    runs = await (await asked("")).json();
  } catch (error) {
    trouble(error);
    return;
  }
  $("run").replaceChildren(...runs.map(({ name, live }) => new Option(live ? `${name} (under way)` : name, name)));
  $("run").disabled = runs.length === 0;
  if (!runs.length) {
    state("There are no runs yet: deepj train makes one.");
    show();
    return;
  }
  $("run").value = runs.some(({ name }) => name === chosen) ? chosen : runs[0].name;
  if (!chosen) await choose($("run").value);
}

client.addEventListener("part", ({ detail }) => {
  player.add(detail);
  document.documentElement.dataset.played = "1";
});
client.addEventListener("trouble", ({ detail }) => trouble(detail));
player.onreached = (seconds) => client.tell("position", { seconds });
$("run").onchange = () => choose($("run").value);
$("again").onclick = () => look();
$("quiet").onclick = () => {
  player.stop();
  client.tell("stop");
  $("quiet").disabled = true;
};
addEventListener("resize", show);
await look();
document.documentElement.dataset.ready = "1";
