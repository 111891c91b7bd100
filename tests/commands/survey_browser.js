// A listener in the page of a survey of 3 pairs, with sound that is heard at once.
HTMLMediaElement.prototype.play = function () {
  Object.defineProperty(this, "played", { configurable: true, value: { length: 1, start: () => 0, end: () => this.seconds } });
  Object.defineProperty(this, "paused", { configurable: true, value: false });
  this.dispatchEvent(new Event("timeupdate"));
  return Promise.resolve();
};
HTMLMediaElement.prototype.pause = function () {
  Object.defineProperty(this, "paused", { configurable: true, value: true });
};
const log = [];
const check = (what, is) => is || log.push(what);
const at = (id) => document.getElementById(id);
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const sounds = [];
const Sound = Audio;
Audio = function (source) { const sound = new Sound(source); sound.seconds = 0.5; sounds.push(sound); return sound; };
window.addEventListener("load", () => {
  check("intro", !at("intro").hidden && at("pair").hidden && at("save").hidden);
  document.querySelector("[name=familiarity][value=some]").click();
  at("begin").focus();
  at("begin").click();
  for (let i = 0; i < 3; i++) {
    check("heading", at("pair-heading").textContent === `Pair ${i + 1} of 3` && document.activeElement === at("pair-heading"));
    check("first heard", at("choice").disabled && at("next").disabled && at("rule").textContent.includes("3 s of both"));
    const [first, second] = sounds.slice(-2);
    press("1");
    check("plays", !first.paused && at("play-0").textContent === "Pause first piece");
    press("f");
    check("not yet", at("next").disabled);
    second.seconds = 3;
    press("2");
    check("one at a time", first.paused && !second.paused);
    check("not yet both", at("choice").disabled);
    first.seconds = 3;
    for (let k = 0; k < 3; k++) press("1");
    check("can choose", !at("choice").disabled && at("status").textContent === "You can choose now.");
    press(i === 1 ? "s" : "f");
    check("chosen", !at("next").disabled && document.querySelector(`[name=choice][value="${i === 1 ? 1 : 0}"]`).checked);
    press("n");
  }
  check("end", !at("end").hidden && document.activeElement === at("end-heading"));
  check("tally", at("tally").textContent === "3 of 3 pairs answered, not saved as a file yet." && at("another").disabled);
  at("download").click();
  check("saved", at("tally").textContent.endsWith("all saved as a file.") && !at("another").disabled);
  at("look").click();
  check("back", at("pair-heading").textContent === "Pair 3 of 3" && !at("next").disabled);
  const kept = JSON.parse(Object.values(localStorage)[0]);
  check("kept", kept.at === 2 && Object.keys(kept.chosen).length === 3 && kept.familiarity === "some");
  const names = [...document.querySelectorAll("button, input, textarea, progress, section, fieldset")];
  const named = (e) => e.labels?.length || e.textContent.trim() || e.getAttribute("aria-labelledby");
  check("names", names.every(named));
  const out = document.createElement("pre");
  out.id = "out";
  out.textContent = log.length ? "FAILED " + log.join(", ") : at("text").value;
  document.body.append(out);
});
