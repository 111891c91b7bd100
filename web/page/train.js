// The page that trains.
import { Client, inWords } from "./client.js";
import { $, bytesOf, megabytes, offline, save, state, trouble } from "./common.js";
import { drawCurve, tableOf } from "./curve.js";
import { Player } from "./player.js";

const MIDI_MOST = 16 * 2 ** 20;
const ALL_MOST = 256 * 2 ** 20;
const CHECKPOINT_MOST = 512 * 2 ** 20;

const client = new Client();
const player = new Player();
let files = [];
let resume = null;
let running = false;
let budget = {};
/** Update and loss of each update, and of each validation. */
let losses = [];
let validations = [];
const checkpoints = new Map();
let samples = 0;

/** Numbers that a run may have. */
const FIELDS = { steps: [1, 1e6, true], minutes: [0.1, 1e4], lr: [1e-6, 1], batch: [1, 64, true], seq: [8, 512, true], seed: [0, 4294967295, true] };

function number(id, optional = false) {
  const [from, to, whole] = FIELDS[id];
  const text = $(id).value.trim();
  if (!text && optional) return null;
  const value = text ? Number(text) : NaN;
  if (!(value >= from && value <= to) || (whole && !Number.isInteger(value))) {
    $(id).focus();
    throw Object.assign(new Error(`${id}: ${text || "nothing"}`), { remedy: `give ${whole ? "a whole number" : "a number"} from ${from} to ${to}` });
  }
  return value;
}

async function start() {
  trouble(null);
  try {
    const wanted = {
      steps: number("steps"),
      minutes: number("minutes"),
      seed: number("seed"),
      batch: number("batch"),
      seq: number("seq"),
      lr: number("lr", true),
      preset: "small",
      validateEvery: null,
    };
    running = true;
    budget = wanted;
    $("done").value = 0;
    delete document.documentElement.dataset.trained;
    buttons();
    state("Preparing …");
    const device = await client.call("device", { choice: $("device").value });
    $("device-name").textContent = `Computes on ${device.cpu ? "the CPU by WebAssembly" : `${device.name} by WebGPU`}${device.why ? ` (${device.why})` : ""}.`;
    const copies = files.map(({ name, bytes }) => ({ name, bytes: bytes.slice() }));
    const outcome = await client.call("train", { wanted, files: copies, resume: resume?.bytes.slice(), device: $("device").value });
    const why = { steps: "all updates are made", minutes: "the time is up", interrupted: "it was stopped", patience: "it gets no better", epochs: "all epochs are over" };
    state(`Ended after ${outcome.step} updates: ${why[outcome.end] ?? outcome.end}.`);
    $("done").value = 1;
    document.documentElement.dataset.trained = "ended";
  } catch (error) {
    const kept = checkpoints.size ? " What was saved until then can be downloaded." : "";
    trouble(`${inWords(error)}${kept}`);
    state("Not training.");
    document.documentElement.dataset.trained = "failed";
  }
  running = false;
  $("now").textContent = "";
  buttons();
  table();
  draw();
}

function buttons() {
  $("start").disabled = $("device").disabled = running;
  $("stop").disabled = !running;
  const last = checkpoints.has("last.safetensors");
  $("last").disabled = !last;
  $("best").disabled = !checkpoints.has("best.safetensors");
  $("sample").disabled = !last;
}

client.addEventListener("checkpoint", ({ detail: { name, bytes } }) => {
  checkpoints.set(name, bytes);
  buttons();
});

let drawn = 0;
client.addEventListener("training", ({ detail: { what, value } }) => {
  if (what === "started") {
    // Only now, since what was trained before is kept where a run cannot begin.
    losses = [];
    validations = [];
    checkpoints.clear();
    buttons();
    const own = files.length ? "your" : "deepj's";
    const notices = value.notices.length ? ` ${value.notices.join("; ")}.` : "";
    state(`Training on ${value.train_files} of ${own} pieces, ${value.validation_files} held out; ${(value.parameters / 1000).toFixed(0)} thousand weights.${notices}`);
  } else if (what === "stepped") {
    losses.push([value.step, value.loss]);
    const rate = losses.length / Math.max(value.seconds, 0.001);
    const [first] = losses[0];
    const done = Math.max((value.step - first + 1) / (budget.steps - first + 1), value.seconds / 60 / budget.minutes);
    $("done").value = Math.min(1, done);
    $("now").textContent = `Update ${value.step}: loss ${value.loss.toFixed(4)}, ${rate.toFixed(2)} updates a second.`;
    document.documentElement.dataset.step = String(value.step);
  } else if (what === "validating") {
    $("now").textContent = `Listening to the held-out pieces: ${value[0]} of ${value[1]} time steps.`;
  } else if (what === "validated") {
    validations.push([value.step, value.loss]);
    state(`After ${value.step} updates the loss on held-out pieces is ${value.loss.toFixed(4)}${value.best ? ", the best so far" : ""}.`);
    table();
  }
  if (performance.now() - drawn > 250) {
    drawn = performance.now();
    draw();
  }
});

const table = () => tableOf($("table"), losses, validations);
const draw = () => drawCurve($("curve"), losses, validations);

// ---- samples

async function sample() {
  trouble(null);
  player.open();
  try {
    const bytes = (checkpoints.get("best.safetensors") ?? checkpoints.get("last.safetensors")).slice();
    const weights = await client.call("checkpoint", { name: "the run", bytes });
    const genres = [...new Set(weights.styles.map(([genre]) => genre))];
    const style = genres[samples++ % genres.length] ?? "";
    const wanted = { style, bars: 8, seed: samples, temperature: null, ending: false, device: $("device").value };
    await client.call("compose", { wanted, tempo: 120, rate: player.rate, given: null });
    player.begin();
    over = Infinity;
    await client.call("begin");
    $("quiet").disabled = false;
    state(`A sample${style ? `: ${style}` : ""}.`);
  } catch (error) {
    trouble(error);
  }
}
client.addEventListener("part", ({ detail }) => player.add(detail));
let over = Infinity;
player.onmute = () => trouble("This browser makes no sound.");
player.onreached = (seconds) => {
  client.tell("position", { seconds });
  if (seconds > over) quiet();
};
client.addEventListener("finished", ({ detail }) => (over = detail.seconds + 2.5));
/** Ends the sample. */
function quiet() {
  player.stop();
  client.tell("stop");
  $("quiet").disabled = true;
}
client.addEventListener("trouble", ({ detail }) => trouble(detail));
client.addEventListener("failed", ({ detail }) => {
  if (detail.kind === "stopped") return;
  trouble(detail);
});
client.addEventListener("download", ({ detail: { what, done, size } }) => state(`Loading ${what}: ${megabytes(done)} of ${megabytes(size)} …`));

// ---- files

/** The path `genre/composer/title.mid` of a file: its folders, or what stands for them. */
function path(file) {
  const folders = (file.webkitRelativePath || "").split("/").slice(0, -1);
  const [genre, composer] = folders.length >= 2 ? folders.slice(-2) : ["own", folders[0] ?? "pieces"];
  return `${genre}/${composer}/${file.name}`;
}

async function take(chosen) {
  trouble(null);
  try {
    const midi = [...chosen].filter(({ name }) => /\.midi?$/i.test(name));
    const run = [...chosen].find(({ name }) => /\.safetensors$/i.test(name));
    if (run) {
      const [name, bytes] = [run.name, await bytesOf(run, CHECKPOINT_MOST)];
      // What is no checkpoint is found out now.
      await client.call("checkpoint", { name, bytes });
      resume = { name, bytes };
    }
    if (!midi.length && !run) throw Object.assign(new Error("there is no MIDI file among these"), { remedy: "give files whose names end with .mid" });
    let all = files.reduce((sum, { bytes }) => sum + bytes.length, 0);
    for (const file of midi) {
      const bytes = await bytesOf(file, MIDI_MOST);
      all += bytes.length;
      if (all > ALL_MOST) throw Object.assign(new Error("these files are too large together"), { remedy: "give fewer" });
      files = files.filter(({ name }) => name !== path(file)).concat({ name: path(file), bytes });
    }
  } catch (error) {
    trouble(error);
  }
  listed();
}

function listed() {
  const pieces = files.length ? `Trains on ${files.length === 1 ? "1 file" : `${files.length} files`} of yours` : "Trains on the 48 pieces that come with deepj";
  $("files").textContent = `${pieces}${resume ? `, and goes on with ${resume.name}` : ""}.`;
  $("forget").hidden = !files.length && !resume;
  for (const id of ["batch", "seq", "seed"]) $(id).disabled = resume !== null;
}

for (const id of ["midi", "folder", "checkpoint"]) $(id).onchange = () => take($(id).files);
$("forget").onclick = () => {
  files = [];
  resume = null;
  for (const id of ["midi", "folder", "checkpoint"]) $(id).value = "";
  listed();
};
for (const [name, on] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", on);
    if (name === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files);
  });
}
$("wishes").onsubmit = (event) => event.preventDefault();
$("start").onclick = start;
$("stop").onclick = () => client.tell("stopTraining");
$("sample").onclick = sample;
$("quiet").onclick = quiet;
$("last").onclick = () => save("last.safetensors", checkpoints.get("last.safetensors"), "application/octet-stream");
$("best").onclick = () => save("best.safetensors", checkpoints.get("best.safetensors"), "application/octet-stream");
addEventListener("resize", draw);
addEventListener("beforeunload", (event) => running && event.preventDefault());

draw();
const device = new URLSearchParams(location.search).get("device");
if (["auto", "gpu", "cpu"].includes(device)) $("device").value = device;
try {
  await client.call("load");
  state("Ready.");
  buttons();
} catch (error) {
  trouble(error);
  state("The page cannot train.");
}
await offline();
document.documentElement.dataset.ready = "1";
