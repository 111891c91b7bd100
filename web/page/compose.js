// The page that composes.
import { Client, inWords } from "./client.js";
import { $, bytesOf, inStudio, megabytes, offline, remember, save, state, trouble } from "./common.js";
import { Mixture } from "./mixture.js";
import { MidiOut, Player } from "./player.js";
import { draw, Roll } from "./roll.js";

const READY = ["baroque-1", "baroque-2", "baroque-3", "classical-1", "classical-2", "classical-3", "romantic-1", "romantic-2", "romantic-3"];
const PIECES = Object.fromEntries(READY.map((name) => [name, new URL(`./pieces/${name}.mid`, import.meta.url).href]));
const MIDI_MOST = 16 * 2 ** 20;
const CHECKPOINT_MOST = 512 * 2 ** 20;
const MUTE = "This browser makes no sound; the piece is composed and shown, and can be downloaded.";

const client = new Client();
const player = new Player();
const midiOut = new MidiOut();
const mixture = new Mixture(wishesChanged);
let roll = new Roll();
let described = null;
let given = null;
/** What plays: nothing, `piece` or `file`. */
let playing = null;
let finishedAt = null;
let lastBar = -1;
let lateTold = false;
const still = matchMedia("(prefers-reduced-motion: reduce)");

// ---- what is in the address

/** Fields of the address: how they are read, and what they must be. */
const FIELDS = {
  bars: { input: "bars-wanted", from: 1, to: 1000, whole: true },
  tempo: { input: "tempo", from: 20, to: 400 },
  temperature: { input: "temperature", from: 0.5, to: 1.5 },
  seed: { input: "seed", from: 0, to: 4294967295, whole: true },
};

function fromAddress() {
  const query = new URLSearchParams(location.search);
  const refused = [];
  for (const [name, { input, from, to, whole }] of Object.entries(FIELDS)) {
    if (!query.has(name) || (name === "bars" && query.get(name) === "endless")) continue;
    const text = query.get(name);
    const value = text.trim() === "" ? NaN : Number(text);
    if (!(value >= from && value <= to) || (whole && !Number.isInteger(value))) {
      refused.push(`${name}=${text} (${from} to ${to})`);
    } else $(input).value = String(value);
  }
  if (query.get("bars") === "endless") $("endless").checked = true;
  if (query.has("ending")) $("ending").checked = query.get("ending") !== "none";
  if (query.has("seed")) $("new-seed").checked = false;
  const device = query.get("device");
  if (device && ["auto", "gpu", "cpu"].includes(device)) $("device").value = device;
  else if (device) refused.push(`device=${device} (auto, gpu or cpu)`);
  return refused;
}

function toAddress() {
  const query = new URLSearchParams();
  const expression = mixture.expression();
  if (expression) query.set("style", expression);
  query.set("bars", $("endless").checked ? "endless" : $("bars-wanted").value);
  for (const name of ["tempo", "temperature", "seed"]) query.set(name, $(FIELDS[name].input).value);
  if (!$("ending").checked) query.set("ending", "none");
  if ($("device").value !== "auto") query.set("device", $("device").value);
  history.replaceState(null, "", `?${query}`);
}

/** The number in an input, or an error that says which ones it may be. */
function number(name) {
  const { input, from, to, whole } = FIELDS[name];
  const value = $(input).value.trim() === "" ? NaN : Number($(input).value);
  if (!(value >= from && value <= to) || (whole && !Number.isInteger(value))) {
    $(input).focus();
    const kind = whole ? "a whole number" : "a number";
    throw Object.assign(new Error(`${name}: ${$(input).value || "nothing"}`), { remedy: `give ${kind} from ${from} to ${to}` });
  }
  return value;
}

// ---- wishes

let waiting = null;
function wishesChanged() {
  toAddress();
  if (playing !== "piece" || finishedAt !== null) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    try {
      const detail = { style: mixture.expression() || undefined, temperature: number("temperature"), tempo: number("tempo") };
      const fresh = Object.fromEntries(Object.entries(detail).filter(([name, value]) => value !== sent[name]));
      Object.assign(sent, fresh);
      if (Object.keys(fresh).length) client.tell("change", fresh);
    } catch (error) {
      trouble(error);
    }
  }, 150);
}
/** What the piece that plays was begun with, or changed to. */
let sent = {};

// ---- playing

function buttons() {
  const on = playing !== null;
  $("compose").disabled = !described;
  $("compose").textContent = on && playing === "piece" ? "Compose another" : "Compose";
  $("pause").disabled = $("stop").disabled = !on;
  $("pause").textContent = player.paused ? "Resume" : "Pause";
  $("finish").disabled = playing !== "piece" || finishedAt !== null;
  $("midi").disabled = $("wav").disabled = roll.notes.length === 0;
}

function begun(what) {
  player.begin();
  midiOut.stop();
  roll = new Roll();
  playing = what;
  finishedAt = null;
  lastBar = -1;
  lateTold = false;
  $("bars").replaceChildren();
  delete document.documentElement.dataset.finished;
  again();
  buttons();
}

async function compose() {
  trouble(null);
  $("compose").disabled = true;
  const sound = player.open();
  try {
    if ($("new-seed").checked) $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
    const wanted = {
      style: mixture.expression(),
      bars: $("endless").checked ? null : number("bars"),
      seed: number("seed"),
      temperature: number("temperature"),
      ending: $("ending").checked,
      device: $("device").value,
    };
    const tempo = number("tempo");
    toAddress();
    state(given ? `Listening to ${given.name} …` : "Composing …");
    const answer = await client.call("compose", { wanted, tempo, rate: player.rate, given });
    sent = { style: wanted.style || undefined, temperature: wanted.temperature, tempo };
    tellDevice(answer);
    $("how").textContent = answer.how;
    begun("piece");
    if (!sound) trouble(MUTE);
    await client.call("begin");
  } catch (error) {
    failed(error);
  }
}

async function playFile(name, bytes) {
  trouble(null);
  player.open();
  try {
    const { tempo, warnings } = await client.call("play", { name, bytes, rate: player.rate });
    begun("file");
    state(`Playing ${name}, ${Math.round(tempo)} quarter notes a minute.`);
    if (warnings.length) trouble(`${name}: ${warnings.join("; ")}.`);
    await client.call("begin");
  } catch (error) {
    failed(error);
  }
}

function failed(error) {
  trouble(error);
  if (roll.notes.length === 0) state("Ready.");
  buttons();
}

async function stop() {
  player.stop();
  midiOut.stop();
  if (playing) {
    playing = null;
    state("Stopped. What was composed can be downloaded.");
  }
  buttons();
  await client.call("stop").catch(() => {});
}

function tellDevice({ cpu, name, why, software }) {
  const reason = why ? ` (${why})` : "";
  const by = inStudio ? "" : ` by ${cpu ? "WebAssembly" : "WebGPU"}`;
  const what = cpu ? `the CPU${by}${reason}` : `${name}${by}${software ? ", in software" : ""}`;
  $("speed").dataset.device = cpu ? "cpu" : "gpu";
  $("speed").dataset.name = name;
  $("speed").textContent = `Computes on ${what}.`;
  speedOf = $("speed").textContent;
}
let speedOf = "";

client.addEventListener("part", ({ detail }) => {
  if (!playing) return;
  roll.add(detail);
  player.add(detail);
  if (player.position === 0 && document.documentElement.dataset.first === undefined) {
    document.documentElement.dataset.first = String(performance.now());
  }
  midiOut.add(detail.events);
  if (detail.speed) {
    $("speed").textContent = `${speedOf} ${Math.round(detail.speed)} time steps a second.`;
    $("speed").dataset.steps = String(detail.speed);
  }
  buttons();
});
client.addEventListener("changed", ({ detail }) => state(`The change is heard from bar ${detail.bar} on.`));
client.addEventListener("finished", ({ detail }) => {
  finishedAt = detail.seconds;
  if (detail.how) $("how").textContent = detail.how;
  document.documentElement.dataset.finished = String(detail.seconds);
  buttons();
});
client.addEventListener("stopped", buttons);
client.addEventListener("trouble", ({ detail }) => {
  trouble(detail.composing ? `${inWords(detail)} What was composed until then can be played and downloaded.` : detail);
  if (detail.composing) finishedAt = roll.end;
  buttons();
});
client.addEventListener("failed", ({ detail }) => {
  if (detail.kind === "stopped") return;
  trouble(detail);
  player.stop();
  midiOut.stop();
  playing = null;
  buttons();
});
client.addEventListener("download", ({ detail: { what, done, size } }) => {
  $("download").hidden = false;
  $("download").value = size ? done / size : 0;
  state(`Loading ${what}: ${megabytes(done)} of ${megabytes(size)} …`);
});

let asked = 0;
/** Has the next frame drawn, once. */
function again() {
  cancelAnimationFrame(asked);
  asked = requestAnimationFrame(frame);
}

/** Draws what is heard, and says which bar. */
function frame() {
  if (!playing) return draw($("roll"), roll, player.position, { still: still.matches });
  const position = player.position;
  // Where the music waits for the device, so does the line.
  draw($("roll"), roll, finishedAt === null ? Math.min(position, roll.end) : position, { still: still.matches });
  const bar = roll.bars.findLastIndex((start) => start <= position);
  if (bar !== lastBar && bar >= 0) {
    for (let i = Math.max(0, $("bars").children.length); i <= bar; i++) {
      const line = document.createElement("li");
      line.textContent = roll.inWords(i);
      $("bars").append(line);
    }
    lastBar = bar;
    client.tell("position", { seconds: position });
    if (playing === "piece" && bar % 8 === 0 && !player.paused) state(`Bar ${bar + 1} is played.`);
    if (player.late > 0.5 && !lateTold && player.hasSound) {
      lateTold = true;
      trouble("This device composes more slowly than the music is played, so there are gaps; a slower tempo helps, and the download has none.");
    }
  }
  if (finishedAt !== null && position > finishedAt + 2.5) {
    state(playing === "piece" ? "The piece is over." : "Played to the end.");
    playing = null;
    player.stop();
    midiOut.stop();
    buttons();
    return;
  }
  again();
}
player.onmute = () => trouble(MUTE);
player.onreached = (seconds) => {
  client.tell("position", { seconds });
  midiOut.give(player);
  // Where the tab is hidden there are no frames.
  if (document.hidden && finishedAt !== null && seconds > finishedAt + 2.5) frame();
};

// ---- files

async function take(file) {
  trouble(null);
  try {
    if (/\.safetensors$/i.test(file.name)) {
      const bytes = await bytesOf(file, CHECKPOINT_MOST);
      describe(await client.call("checkpoint", { name: file.name, bytes }), file.name);
    } else {
      const bytes = await bytesOf(file, MIDI_MOST);
      // What is no MIDI file is found out now.
      await client.call("midiFile", { name: file.name, bytes });
      given = { name: file.name, bytes };
      $("forget").hidden = false;
      state(`The next piece goes on from ${file.name}.`);
    }
  } catch (error) {
    trouble(error);
  }
  files();
}

function files() {
  const weights = described?.builtin ? "deepj's own weights" : `the weights of ${described?.file}`;
  $("files").textContent = `${described ? `Composes with ${weights}` : ""}${given ? `, behind ${given.name}` : ""}.`;
}

function describe(weights, file) {
  described = { ...weights, file };
  mixture.show(weights.styles);
  const query = new URLSearchParams(location.search);
  if (!query.has("temperature")) $("temperature").value = String(Math.round(weights.temperature * 100) / 100);
  valueTexts();
  files();
  $("tune").disabled = false;
  const tuned = remember(`tuning ${weights.parameters}`);
  if (tuned) client.call("tune", { text: tuned }).catch(trouble);
  state(`Ready: ${weights.styles.length} styles, ${(weights.parameters / 1e6).toFixed(2)} million weights.`);
  buttons();
}

function valueTexts() {
  const temperature = Number($("temperature").value);
  $("temperature-out").value = temperature.toFixed(2);
  const kind = temperature < 0.75 ? "safe" : temperature <= 1 ? "as learned" : "wild";
  $("temperature").setAttribute("aria-valuetext", `${temperature.toFixed(2)}, ${kind}`);
  $("volume").setAttribute("aria-valuetext", `${$("volume").value} %`);
  $("bars-wanted").disabled = $("endless").checked;
}

// ---- what is clicked

$("compose").onclick = compose;
$("stop").onclick = stop;
$("pause").onclick = () => {
  if (player.paused) player.resume();
  else {
    player.pause();
    midiOut.silence();
  }
  state(player.paused ? "Paused." : "Playing.");
  buttons();
};
$("finish").onclick = () => {
  client.tell("end");
  state("It ends within a few bars.");
};
for (const [id, what, extension] of [["midi", "MIDI", "mid"], ["wav", "WAV", "wav"]]) {
  $(id).onclick = async () => {
    try {
      // Waits for the bar or the ending that is composed.
      state(`Making the ${what} file …`);
      const tempo = playing === "file" ? undefined : number("tempo");
      save(`${fileName()}.${extension}`, await client.call(id, { tempo }), `audio/${id}`);
      state(`The ${what} file is made.`);
    } catch (error) {
      trouble(error);
      state(`No ${what} file is made.`);
    }
  };
}
const fileName = () => `deepj-${(mixture.expression() || "piece").replace(/[^a-z0-9]+/gi, "-").slice(0, 60)}-${$("seed").value}`;
$("link").onclick = async () => {
  toAddress();
  try {
    await navigator.clipboard.writeText(location.href);
    state("The link is copied. It repeats the piece on the same weights and device.");
  } catch {
    trouble(`The browser does not let the page copy; the link is the address of this page: ${location.href}`);
  }
};
$("volume").oninput = () => {
  player.volume = (Number($("volume").value) / 100) ** 2 / 0.64;
  valueTexts();
};
$("tune").onclick = async () => {
  trouble(null);
  await stop();
  $("tune").disabled = true;
  state("Measuring, half a minute at most …");
  try {
    const { name, text } = await client.call("tune", { device: $("device").value });
    const kept = remember(`tuning ${described.parameters}`, text);
    state(`The kernels of ${name} are measured${kept ? ", and the choice is kept for the next visit" : "; the browser lets the page keep nothing, so it holds until the page is closed"}.`);
  } catch (error) {
    trouble(error);
    state("Nothing was measured.");
  }
  $("tune").disabled = false;
};
$("prime").onchange = () => $("prime").files[0] && take($("prime").files[0]);
$("checkpoint").onchange = () => $("checkpoint").files[0] && take($("checkpoint").files[0]);
$("forget").onclick = () => {
  given = null;
  $("prime").value = "";
  $("forget").hidden = true;
  state("The next piece begins from silence.");
  files();
};
for (const id of ["bars-wanted", "endless", "tempo", "temperature", "seed", "ending", "device"]) {
  $(id).addEventListener("input", () => {
    valueTexts();
    wishesChanged();
  });
}
$("wishes").onsubmit = (event) => event.preventDefault();
for (const [name, on] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", on);
    if (name === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
if (MidiOut.exists) {
  $("midi-out").hidden = false;
  $("midi-ask").onclick = async () => {
    try {
      await midiOut.ask();
      ports();
      $("midi-ports").hidden = false;
      $("midi-ask").hidden = true;
      $("midi-port").focus();
    } catch (error) {
      trouble(`The browser gives no MIDI ports: ${error.message}.`);
    }
  };
  $("midi-port").onchange = () => midiOut.choose($("midi-port").value);
  midiOut.onchange = (gone) => {
    if (gone !== null) trouble(`The MIDI port ${gone} was disconnected; the piece is played in the browser alone. Connect it and choose it again.`);
    ports();
  };
}
/** Lists the MIDI ports. */
function ports() {
  const found = midiOut.ports;
  const options = [{ id: "", name: found.length ? "none" : "there is no port" }, ...found].map(({ id, name }) => new Option(name, id));
  const before = [...$("midi-port").options];
  // A list that is open stays so.
  const same = options.length === before.length && options.every(({ value, text }, i) => value === before[i].value && text === before[i].text);
  if (!same) $("midi-port").replaceChildren(...options);
  $("midi-port").value = midiOut.id;
}
for (const name of READY) {
  const button = document.createElement("button");
  const [genre, number] = name.split("-");
  button.textContent = `${genre[0].toUpperCase()}${genre.slice(1)} ${number}`;
  button.type = "button";
  button.onclick = async () => {
    player.open();
    try {
      const answer = await fetch(PIECES[name]);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      await playFile(button.textContent, new Uint8Array(await answer.arrayBuffer()));
    } catch (error) {
      trouble(Object.assign(new Error(`${button.textContent} cannot be loaded: ${error.message}`), { remedy: "reload the page" }));
    }
  };
  $("ready").append(button);
}
addEventListener("resize", () => playing || frame());
addEventListener("pagehide", () => midiOut.silence());

// ---- the beginning

const refused = fromAddress();
valueTexts();
frame();
try {
  await client.call("load");
  for (const button of $("ready").children) button.disabled = false;
  describe(await client.call("weights"), "");
  $("download").hidden = true;
  const style = new URLSearchParams(location.search).get("style");
  if (style) {
    try {
      await client.call("style", { expression: style });
      mixture.read(style);
    } catch (error) {
      refused.push(`style=${style}: ${inWords(error).replace(/\.$/, "")}`);
    }
  }
  if (refused.length) trouble(`The link has values that cannot be: ${refused.join("; ")}. The usual ones are taken.`);
} catch (error) {
  $("download").hidden = true;
  state("The page cannot compose.");
  trouble(error);
}
const kept = await offline();
if (kept) $("files").textContent += ` ${kept}.`;
document.documentElement.dataset.ready = "1";
