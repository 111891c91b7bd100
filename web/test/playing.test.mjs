// What happens while a piece is played: Stop in the middle of its ending, a MIDI port, a tab that is hidden, kernels that are measured.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { begin, download, end, notes, open } from "./browser.mjs";

let site;
before(async () => (site = await begin()));
after(end);

const link = (wishes) => `${site}/index.html?${new URLSearchParams(wishes)}`;
const said = (page, id, words) =>
  page.waitForFunction(([id, words]) => document.getElementById(id).textContent.includes(words), [id, words], { timeout: 60_000 });

/** Has the worker do something with the module that composes. */
const inWorker = (page, what) =>
  page.workers()[0].evaluate(
    `(async () => {
      const name = (await (await fetch(self.location.href)).text()).match(/\\.\\/deepj_web-[0-9a-f]+\\.js/)[0];
      return (${what})(await import(new URL(name, self.location.href)));
    })()`,
  );

// On SwiftShader an ending takes a minute; there Stop leaves bars of it out.
for (const device of process.env.DEEPJ_LONG === "1" ? ["cpu", "gpu"] : ["cpu"]) {
  test(`Stop while the ending is chosen on the ${device} leaves what was composed, and the next piece is composed`, async () => {
    const page = await open(link({ style: "romantic", bars: 4, seed: 1, tempo: 200, device }));
    await page.evaluate(() => {
      new BroadcastChannel("ending").onmessage = ({ data }) => (document.documentElement.dataset.ending = data);
    });
    await inWorker(page, ({ Piece }) => {
      const { finish } = Piece.prototype;
      const channel = new BroadcastChannel("ending");
      Piece.prototype.finish = async function () {
        channel.postMessage("chosen");
        const events = await finish.call(this);
        channel.postMessage("there");
        return events;
      };
    });
    await page.click("#compose");
    page.setDefaultTimeout(120_000);
    await page.waitForSelector("html[data-ending]");
    await page.click("#stop");
    assert.equal(await page.textContent("#state"), "Stopped. What was composed can be downloaded.");
    assert.equal(await page.getAttribute("html", "data-ending"), "chosen");
    const found = notes(await download(page, "#midi"));
    assert.equal(await page.getAttribute("html", "data-ending"), "there");
    await said(page, "state", "The MIDI file is made.");
    // Two bars and what there is of the ending.
    assert.ok(found.some(({ tick }) => tick < 1920) && found.some(({ tick }) => tick >= 1920), `${found.length} notes`);
    assert.ok(found.every(({ length }) => length > 0));
    await page.uncheck("#ending");
    await page.fill("#bars-wanted", "1");
    await page.click("#compose");
    await page.waitForSelector("html[data-finished]", { timeout: 120_000 });
    assert.ok((await page.getAttribute("html", "data-finished")) < 2);
    assert.equal(await page.textContent("#trouble"), "");
    assert.deepEqual(page.errors, []);
    await page.context().close();
  });
}

/** A MIDI port that keeps what it is sent, as Chromium has them: what was given for later cannot be taken back. */
const withPort = () => {
  const port = { id: "1", name: "A piano", type: "output", state: "connected", sent: [] };
  port.send = (data, time = 0) => {
    if (port.state !== "connected") throw new DOMException("the port is gone", "InvalidStateError");
    port.sent.push({ data: [...data], time: Math.max(time, performance.now()) });
  };
  const access = Object.assign(new EventTarget(), { outputs: new Map([[port.id, port]]) });
  port.becomes = (state) => {
    port.state = state;
    if (state === "connected") access.outputs.set(port.id, port);
    else access.outputs.delete(port.id);
    const event = Object.assign(new Event("statechange"), { port });
    access.dispatchEvent(event);
    access.onstatechange?.(event);
  };
  Object.assign(globalThis, { port });
  Object.defineProperty(Navigator.prototype, "requestMIDIAccess", { value: async () => access });
};
const chosen = async (page) => {
  await page.click("#midi-ask");
  await page.selectOption("#midi-port", "A piano");
};
/** What the port was sent, in the order in which it is heard, and the time. */
const heard = async (page) => {
  const { sent, now } = await page.evaluate(() => ({ sent: globalThis.port.sent, now: performance.now() }));
  return { sent: sent.sort((a, b) => a.time - b.time), now };
};
const begins = (sent) => sent.filter(({ data }) => data[0] === 0x90);
/** Keys that are down once all is heard. */
function down(sent) {
  const keys = new Set();
  for (const { data: [kind, pitch] } of sent) {
    if (kind === 0x90) keys.add(pitch);
    else if (kind === 0x80) keys.delete(pitch);
  }
  return [...keys];
}

test("a MIDI port gets the notes of the piece at their times, and all are ended", async () => {
  const coarse = () => {
    // As where the sound card has long buffers.
    const real = Object.getOwnPropertyDescriptor(BaseAudioContext.prototype, "currentTime").get;
    Object.defineProperty(BaseAudioContext.prototype, "currentTime", { get() { return Math.floor(10 * real.call(this)) / 10; } });
  };
  const page = await open(link({ style: "baroque", bars: 2, seed: 4, tempo: 200, ending: "none", device: "cpu" }), { before: withPort });
  await page.evaluate(coarse);
  await chosen(page);
  await page.click("#compose");
  await said(page, "state", "The piece is over.");
  const wanted = notes(await download(page, "#midi"));
  const { sent } = await heard(page);
  const found = begins(sent);
  assert.ok(wanted.length > 5, `${wanted.length} notes`);
  assert.equal(found.length, wanted.length);
  const first = found[0].time - wanted[0].tick / 1.6;
  const early = found.map(({ time }, i) => Math.round(time - first - wanted[i].tick / 1.6));
  assert.ok(early.every((by) => Math.abs(by) <= 15), `milliseconds from their times: ${early}`);
  const pitches = (notes) => notes.map(([time, pitch]) => `${time} ${pitch}`).sort();
  assert.deepEqual(
    pitches(found.map(({ data }, i) => [wanted[i].tick, data[1]])),
    pitches(wanted.map(({ tick, pitch }) => [tick, pitch])),
  );
  assert.deepEqual(down(sent), []);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("Pause and Stop silence a MIDI port, and it goes on after a pause", async () => {
  const page = await open(`${site}/index.html`, { before: withPort });
  await chosen(page);
  await page.click("#ready button:first-child");
  await page.waitForFunction(() => globalThis.port.sent.length > 20);
  const silent = async (button) => {
    await page.click(button);
    const { now } = await heard(page);
    await wait(500);
    const { sent } = await heard(page);
    const after = begins(sent).filter(({ time }) => time > now + 350);
    assert.deepEqual(after, [], `notes after ${button}`);
    assert.deepEqual(down(sent), [], `keys that are down after ${button}`);
    assert.ok(sent.some(({ data, time }) => data[0] === 0xb0 && data[1] === 123 && time > now - 300));
    return begins(sent).length;
  };
  const before = await silent("#pause");
  await page.click("#pause");
  await page.waitForFunction((before) => globalThis.port.sent.filter(({ data }) => data[0] === 0x90).length > before + 10, before);
  await silent("#stop");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a MIDI port that is disconnected is said, the page plays on, and takes it again", async () => {
  const page = await open(`${site}/index.html`, { before: withPort });
  await chosen(page);
  await page.click("#ready button:first-child");
  await page.waitForFunction(() => globalThis.port.sent.length > 5);
  await page.evaluate(() => globalThis.port.becomes("disconnected"));
  await said(page, "trouble", "A piano was disconnected");
  assert.equal(await page.textContent("#midi-port"), "there is no port");
  const bars = await page.locator("#bars li").count();
  await page.waitForFunction((bars) => document.querySelectorAll("#bars li").length > bars, bars);
  await page.evaluate(() => {
    globalThis.port.sent.length = 0;
    globalThis.port.becomes("connected");
  });
  await page.selectOption("#midi-port", "A piano");
  await page.waitForFunction(() => globalThis.port.sent.length > 5);
  // Now the browser tells nothing of it.
  await page.evaluate(() => {
    document.getElementById("trouble").textContent = "";
    globalThis.port.state = "disconnected";
  });
  await said(page, "trouble", "A piano was disconnected");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a hidden tab, without frames and timers, plays without a gap to the end", async () => {
  const sleeps = () => {
    // Chromium has no frames there, and after five minutes without sound timers of once a minute.
    for (const name of ["requestAnimationFrame", "setTimeout", "setInterval"]) {
      const real = globalThis[name];
      globalThis[name] = (call, ...given) => real(() => document.hidden || call(), ...given);
    }
    const sounds = (globalThis.sounds = []);
    const { start } = AudioBufferSourceNode.prototype;
    AudioBufferSourceNode.prototype.start = function (at) {
      sounds.push([at, at + this.buffer.duration]);
      return start.call(this, at);
    };
  };
  const page = await open(link({ style: "baroque", bars: 4, seed: 3, tempo: 100, ending: "none", device: "cpu" }), { before: sleeps });
  await page.click("#compose");
  await page.waitForFunction(() => globalThis.sounds.length > 0);
  await page.evaluate(() => {
    for (const [name, value] of [["hidden", true], ["visibilityState", "hidden"]]) Object.defineProperty(document, name, { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  for (let i = 0; i < 200 && (await page.textContent("#state")) !== "The piece is over."; i++) await wait(100);
  const sounds = await page.evaluate(() => globalThis.sounds);
  const gaps = sounds.slice(1).map(([at], i) => Math.round(1000 * (at - sounds[i][1])));
  assert.ok(gaps.length >= 4 && gaps.every((gap) => Math.abs(gap) <= 1), `milliseconds between the parts: ${gaps}`);
  assert.equal(await page.textContent("#state"), "The piece is over.");
  assert.equal(await page.locator("#bars li").count(), 4);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("the kernels measured by the button are kept for the next visit, which measures nothing", async () => {
  const address = link({ style: "romantic", bars: 1, seed: 1, tempo: 400, ending: "none", device: "gpu" });
  const page = await open(address);
  await page.click("#tune");
  await said(page, "state", "the choice is kept for the next visit");
  const kept = () => page.evaluate(() => Object.entries(localStorage).find(([name]) => name.startsWith("tuning "))?.[1]);
  const measured = await kept();
  const { records } = JSON.parse(measured);
  assert.match(records[0].machine.adapter, /swiftshader/);
  const several = records[0].kernels.filter(({ us }) => Object.values(us).length > 1);
  assert.ok(several.length > 3, `${several.length} kernels of more than one variant`);
  assert.ok(several.every(({ us }) => Object.values(us).every((time) => time > 0)));
  await page.goto(address);
  await page.waitForSelector("html[data-ready]", { timeout: 60_000 });
  await page.click("#compose");
  await page.waitForSelector("html[data-finished]", { timeout: 60_000 });
  assert.ok(await inWorker(page, `(deepj) => deepj.tuning() === ${JSON.stringify(measured)}`), "the worker has what was kept, and no more");
  assert.equal(await page.textContent("#trouble"), "");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});
