"use strict";

// CRC-32C of a text, as 8 hexadecimal digits.
function crc32c(text) {
  let crc = -1;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ((crc ^ -1) >>> 0).toString(16).padStart(8, "0");
}

// The checksum of answers: of each value in a line of its own, and those of an answer in one line.
function checksum(file) {
  const lines = [file.format, file.version, file.survey, file.listener, file.familiarity];
  for (const a of file.answers) lines.push([a.pair, a.first, a.second, a.chosen, ...a.heard].join(" "));
  return crc32c(lines.join("\n") + "\n");
}

// A whole number below `bound`, each as likely as the others.
function below(bound) {
  const all = 2 ** 32;
  const most = all - (all % bound);
  const drawn = new Uint32Array(1);
  do crypto.getRandomValues(drawn);
  while (drawn[0] >= most);
  return drawn[0] % bound;
}

// The items in random order (Fisher and Yates).
function shuffled(items) {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

// What a listener begins with: a name, and an order of the pairs and of the clips of each.
function beginning(survey) {
  const name = crypto.getRandomValues(new Uint8Array(8));
  return {
    survey: survey.survey,
    listener: [...name].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
    familiarity: "",
    order: shuffled(survey.pairs).map((pair) => [pair.pair, ...shuffled(pair.clips)]),
    chosen: {},
    heard: {},
    at: -1,
    saved: "",
    keys: true,
  };
}

// Whether what the browser kept is of this survey and whole.
function isWhole(state, survey) {
  if (!state || state.survey !== survey.survey || typeof state.listener !== "string") return false;
  if (!Array.isArray(state.order) || state.order.length !== survey.pairs.length) return false;
  if (typeof state.familiarity !== "string" || !Number.isInteger(state.at) || !state.chosen || !state.heard) return false;
  const pairs = new Map(survey.pairs.map((pair) => [pair.pair, pair.clips]));
  return state.order.every(([pair, first, second]) => {
    const clips = pairs.get(pair);
    pairs.delete(pair);
    return clips && first !== second && clips.includes(first) && clips.includes(second);
  });
}

// The file of a listener's answers.
function answersOf(state, survey) {
  const answered = state.order.filter(([pair]) => state.chosen[pair] !== undefined);
  const file = {
    format: survey.format,
    version: survey.version,
    survey: survey.survey,
    listener: state.listener,
    familiarity: state.familiarity,
    answers: answered.map(([pair, first, second]) => {
      const heard = [first, second].map((clip) => Math.max(0, Math.round(state.heard[clip] || 0)));
      return { pair, first, second, chosen: state.chosen[pair], heard };
    }),
  };
  file.crc32c = checksum(file);
  return file;
}

function page() {
  const $ = (id) => document.getElementById(id);
  const survey = JSON.parse($("survey").textContent);
  const pairs = new Map(survey.pairs.map((pair) => [pair.pair, pair]));
  const store = "deepj-survey-" + survey.survey;
  const NAMES = ["first", "second"];
  let keeps = true;
  let state = null;
  try {
    state = JSON.parse(localStorage.getItem(store));
  } catch {
    // Nothing is kept, or it cannot be read.
  }
  if (!isWhole(state, survey)) state = beginning(survey);
  // The two clips that are shown, each with what was heard of it before this page was loaded.
  let audio = [];
  let could = false;

  function keep() {
    try {
      localStorage.setItem(store, JSON.stringify(state));
    } catch {
      keeps = false;
      notice("");
    }
  }

  // Shows what is wrong, and in any case that answers are lost when the page is closed, where the browser keeps nothing.
  function notice(text) {
    const lost = keeps ? "" : "This browser keeps nothing when the page is closed: save your answers before that. ";
    if ($("notice").textContent !== lost + text) $("notice").textContent = lost + text;
    $("notice").hidden = lost + text === "";
  }

  function say(text) {
    $("status").textContent = text;
  }

  function count(number, one) {
    return number + " " + one + (number === 1 ? "" : "s");
  }

  function current() {
    const [name, ...clips] = state.order[state.at];
    return { name, clips, pair: pairs.get(name) };
  }

  // Milliseconds of a clip that were heard, each part of it once; the most of what was heard before this page was loaded, and since.
  function heard(i) {
    const { sound, before } = audio[i];
    let played = 0;
    for (let k = 0; k < sound.played.length; k++) played += sound.played.end(k) - sound.played.start(k);
    return Math.min(Math.max(before, 1000 * played), 1000 * current().pair.seconds);
  }

  function silence() {
    for (const { sound } of audio) sound.pause();
  }

  // Plays one clip, or pauses it; the other is paused.
  function play(i, anew) {
    const { sound } = audio[i];
    const begin = anew || sound.paused;
    silence();
    if (!begin) return;
    if (anew || sound.ended) sound.currentTime = 0;
    Promise.resolve(sound.play()).catch((e) => {
      if (e.name !== "AbortError") failed(i);
    });
  }

  function failed(i) {
    notice("The " + NAMES[i] + " piece cannot be played. Load the page again, or go on without this pair.");
    $("skip").hidden = false;
  }

  // What follows from what was heard and chosen.
  function update() {
    if (state.at < 0 || state.at >= state.order.length) return;
    const { name, clips, pair } = current();
    let enough = true;
    clips.forEach((clip, i) => {
      const ms = heard(i);
      state.heard[clip] = ms;
      enough = enough && ms >= 1000 * pair.need - 300;
      const part = Math.round(ms / 1000) + " of " + Math.round(pair.seconds) + " s heard";
      if ($("heard-" + i).textContent !== part) $("heard-" + i).textContent = part;
      $("bar-" + i).value = Math.min(1, ms / 1000 / pair.seconds);
      $("play-" + i).textContent = (audio[i].sound.paused ? "Play " : "Pause ") + NAMES[i] + " piece";
    });
    const chosen = state.chosen[name];
    $("choice").disabled = !enough;
    $("next").disabled = chosen === undefined;
    for (const radio of document.getElementsByName("choice")) radio.checked = clips[radio.value] === chosen;
    const rule = enough
      ? "Choose one, then go on."
      : "You can choose when you have heard at least " + Math.round(pair.need) + " s of both pieces.";
    if ($("rule").textContent !== rule) $("rule").textContent = rule;
    if (enough && !could) say("You can choose now.");
    could = enough;
  }

  function load() {
    const { clips } = current();
    could = clips.every((clip) => (state.heard[clip] || 0) >= 1000 * current().pair.need - 300);
    audio = clips.map((clip, i) => {
      const sound = new Audio(survey.folder + "/" + clip + ".wav");
      sound.preload = "auto";
      for (const event of ["play", "pause", "timeupdate"]) {
        sound.addEventListener(event, () => audio[i] && audio[i].sound === sound && update());
      }
      sound.addEventListener("ended", () => {
        if (!audio[i] || audio[i].sound !== sound) return;
        update();
        keep();
        say("The " + NAMES[i] + " piece has ended.");
      });
      sound.addEventListener("error", () => audio[i] && audio[i].sound === sound && failed(i));
      return { sound, before: state.heard[clip] || 0 };
    });
  }

  // Shows the pair at `state.at`, what comes before the first, or what comes after the last.
  function show(focus) {
    silence();
    audio = [];
    notice("");
    say("");
    keep();
    const [begun, ended] = [state.at >= 0, state.at >= state.order.length];
    $("intro").hidden = begun;
    $("pair").hidden = !begun || ended;
    $("end").hidden = !ended;
    $("save").hidden = !begun;
    $("skip").hidden = true;
    if (begun && !ended) {
      $("pair-heading").textContent = "Pair " + (state.at + 1) + " of " + state.order.length;
      $("back").disabled = state.at === 0;
      $("next").textContent = state.at + 1 === state.order.length ? "To the end" : "Next pair";
      load();
      update();
    }
    tally();
    if (focus) $(ended ? "end-heading" : begun ? "pair-heading" : "intro-heading").focus();
    window.scrollTo(0, 0);
  }

  function go(step) {
    state.at = Math.min(Math.max(state.at + step, 0), state.order.length);
    show(true);
  }

  function text() {
    return JSON.stringify(answersOf(state, survey), null, 1) + "\n";
  }

  // What was chosen, by which it is known whether all of it is saved.
  function mark() {
    return JSON.stringify([state.familiarity, state.chosen]);
  }

  function tally() {
    const answered = Object.keys(state.chosen).length;
    const saved = state.saved === mark();
    const part = answered + " of " + count(state.order.length, "pair") + " answered";
    $("tally").textContent = part + (answered === 0 ? "." : saved ? ", all saved as a file." : ", not saved as a file yet.");
    $("text").value = text();
    for (const id of ["download", "copy"]) $(id).disabled = answered === 0;
    $("another").disabled = !saved;
  }

  function saved(how) {
    state.saved = mark();
    keep();
    tally();
    say(how);
  }

  function download() {
    const name = "answers-" + state.listener + ".json";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text()], { type: "application/json" }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    saved("Saved as " + name + " where this browser keeps downloads.");
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(text());
      saved("The answers are copied: paste them into a message.");
    } catch {
      const area = $("text");
      area.closest("details").open = true;
      area.focus();
      area.select();
      say("Copy the selected text, for example with Ctrl+C.");
    }
  }

  function choose(i) {
    if ($("choice").disabled) return;
    const { name, clips } = current();
    state.chosen[name] = clips[i];
    keep();
    update();
    tally();
  }

  $("count").textContent = count(survey.pairs.length, "pair");
  const lengths = survey.pairs.map((pair) => Math.round(pair.seconds));
  const [shortest, longest] = [Math.min(...lengths), Math.max(...lengths)];
  $("length").textContent = (shortest < longest ? shortest + " to " : "") + longest + " seconds each";
  $("question").textContent = survey.question;
  $("closing").textContent = survey.closing;
  for (const radio of document.getElementsByName("familiarity")) {
    radio.checked = radio.value === state.familiarity;
    radio.addEventListener("change", () => {
      state.familiarity = radio.value;
      keep();
    });
  }
  for (const radio of document.getElementsByName("choice")) {
    radio.addEventListener("change", () => choose(Number(radio.value)));
  }
  for (const i of [0, 1]) {
    $("play-" + i).addEventListener("click", () => play(i, false));
    $("again-" + i).addEventListener("click", () => play(i, true));
  }
  $("begin").addEventListener("click", () => go(1));
  $("next").addEventListener("click", () => go(1));
  $("skip").addEventListener("click", () => go(1));
  $("back").addEventListener("click", () => go(-1));
  $("look").addEventListener("click", () => go(-1));
  $("download").addEventListener("click", download);
  $("copy").addEventListener("click", copy);
  $("another").addEventListener("click", () => {
    state = beginning(survey);
    for (const radio of document.getElementsByName("familiarity")) radio.checked = false;
    show(true);
  });
  $("keys").checked = state.keys !== false;
  $("keys").addEventListener("change", () => {
    state.keys = $("keys").checked;
    keep();
  });
  document.addEventListener("keydown", (event) => {
    const elsewhere = event.ctrlKey || event.altKey || event.metaKey || event.target.id === "text";
    if (elsewhere || !$("keys").checked || $("pair").hidden) return;
    const click = (id) => !$(id).disabled && $(id).click();
    const keys = {
      1: () => play(0, false),
      2: () => play(1, false),
      f: () => choose(0),
      s: () => choose(1),
      n: () => click("next"),
    };
    const act = keys[event.key.toLowerCase()];
    if (act) {
      event.preventDefault();
      act();
    }
  });
  window.addEventListener("pagehide", keep);
  window.addEventListener("beforeunload", (event) => {
    const unsaved = Object.keys(state.chosen).length > 0 && state.saved !== mark();
    if (unsaved && (!keeps || state.at >= state.order.length)) event.preventDefault();
  });
  show(false);
}

if (typeof document !== "undefined") page();
else module.exports = { crc32c, checksum, shuffled, beginning, isWhole, answersOf };
