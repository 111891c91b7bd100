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
/** How often a run was chosen. */
let choices = 0;

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

/** Shows a run, of which `said` is said. */
async function choose(name, said = "") {
  const mine = ++choices;
  trouble(null);
  live?.close();
  live = null;
  [losses, validations] = [[], []];
  const run = runs.find((run) => run.name === name);
  let end = "0";
  try {
    const answer = await asked(`/${encodeURIComponent(name)}/curve`);
    const text = await answer.text();
    if (mine !== choices) return;
    end = answer.headers.get("x-end");
    for (const line of text.split("\n")) {
      try {
        take(JSON.parse(line));
      } catch {
        // Of a long curve the end is sent, whose first line may not be whole.
      }
    }
  } catch (error) {
    if (mine !== choices) return;
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
  state(said || (run.live ? `${name} is under way.` : `${name} is at rest.`));
  if (!run.live) return;
  live = new EventSource(new URL(`./api/runs/${encodeURIComponent(name)}/live?from=${end}`, location.href));
  live.onmessage = ({ data }) => {
    if (mine !== choices) return;
    const line = JSON.parse(data);
    if (take(line) === "end") {
      live.close();
      return void look(name, `${name} has come to its end: ${line.end}.`);
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

/** Lists the runs, and shows the one that was chosen, or else the newest. */
async function look(chosen, said) {
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
  await choose($("run").value, said);
}

client.addEventListener("part", ({ detail }) => {
  player.add(detail);
  document.documentElement.dataset.played = "1";
});
client.addEventListener("trouble", ({ detail }) => trouble(detail));
player.onreached = (seconds) => client.tell("position", { seconds });
$("run").onchange = () => choose($("run").value);
$("again").onclick = () => look($("run").value);
$("quiet").onclick = () => {
  player.stop();
  client.tell("stop");
  $("quiet").disabled = true;
};
addEventListener("resize", show);
await look();
document.documentElement.dataset.ready = "1";
