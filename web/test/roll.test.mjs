// The piano roll by itself, without a browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { draw, Roll } from "../page/roll.js";

test("of a roll of very many notes those in sight are drawn", () => {
  const roll = new Roll();
  const note = (i) => [[i / 10, 60 + (i % 12), 80], [i / 10 + 0.1, 60 + (i % 12), 0]];
  // A key that is down all the time.
  roll.add({ events: [[0, 20, 80]], until: 0 });
  for (let i = 0; i < 200_000; i += 1000) {
    const events = Array.from({ length: 1000 }, (_, j) => note(i + j)).flat().sort(([a], [b]) => a - b);
    roll.add({ events, until: (i + 1000) / 10 });
  }
  assert.equal(roll.notes.length, 200_001);
  assert.deepEqual([roll.lowest, roll.highest], [20, 83]);
  let drawn = 0;
  const context = new Proxy({}, { get: (_, name) => (name === "fillRect" ? () => drawn++ : () => {}), set: () => true });
  globalThis.getComputedStyle = () => ({ getPropertyValue: () => "" });
  draw({ clientWidth: 600, clientHeight: 300, width: 0, height: 0, getContext: () => context }, roll, 10_000);
  assert.ok(drawn > 100 && drawn < 300, `${drawn} rectangles`);
});

test("a look at a part of a roll does not go through all of it", () => {
  const roll = new Roll();
  const note = (i) => [[i, 60, 80], [i + 0.5, 60, 0]];
  roll.add({ events: Array.from({ length: 10_000 }, (_, i) => note(i)).flat(), until: 10_000 });
  assert.deepEqual([...roll.between(5000, 5012)].map(({ start }) => start), Array.from({ length: 13 }, (_, i) => 5000 + i));
});
