import assert from "node:assert/strict";
import { test } from "node:test";
import { anomalySpans, before, joined, judged, latest, NOTHING } from "../../../../service/http/page/readings.js";

/** @typedef {import("../../../../service/http/page/types.d.ts").Traced} Traced */

/**
 * Readings whose forget gate is a tenth of their offset.
 * @param {number[]} offsets
 * @param {(offset: number) => string} fate
 * @returns {Traced}
 */
function traced(offsets, fate = () => "judged") {
  const one = { time: "", alarm: false, score: 0, values: [1], expected: [1], lower: [0], upper: [2] };
  const gate = (/** @type {string} */ name) => ({ name, mean: offsets.map((offset) => offset / 10) });
  return {
    stream: "pump",
    checkpoint: "abc",
    topic: "plant",
    partition: 0,
    features: ["f0"],
    units: [null],
    reset: false,
    readings: offsets.map((offset) => ({ ...one, offset, fate: fate(offset) })),
    layers: [
      { gates: [gate("below")], memory: [] },
      { gates: ["output", "candidate", "forget"].map(gate), memory: offsets },
    ],
  };
}

const offsets = (/** @type {import("../../../../service/http/page/readings.js").Part} */ part) =>
  part.readings.map((reading) => reading.offset);

test("readings that were not judged are left out, and their gates with them", () => {
  const part = judged(traced([1, 2, 3], (offset) => (offset === 2 ? "late" : "judged")));
  assert.deepEqual(offsets(part), [1, 3]);
  assert.deepEqual(part.gates, [
    { name: "forget", mean: [0.1, 0.3] },
    { name: "output", mean: [0.1, 0.3] },
  ]);
});

test("a memory without gates shows its size", () => {
  const plain = traced([4, 5]);
  plain.layers = [{ gates: [], memory: [7, 8] }];
  assert.deepEqual(judged(plain).gates, [{ name: "memory", mean: [7, 8] }]);
  assert.deepEqual(judged({ ...plain, layers: [] }).gates, []);
});

test("of the past, what lies before the live readings is shown, and every reading once", () => {
  const past = judged(traced([1, 2, 3, 4]));
  const live = judged(traced([3, 4, 5]));
  const both = joined(before(past, live), live);
  assert.deepEqual(offsets(both), [1, 2, 3, 4, 5]);
  assert.deepEqual(both.gates[0].mean, [0.1, 0.2, 0.3, 0.4, 0.5]);
  assert.deepEqual(offsets(before(past, NOTHING)), [1, 2, 3, 4]);
});

test("only the latest readings are kept", () => {
  const part = judged(traced([1, 2, 3]));
  assert.deepEqual(offsets(latest(part, 2)), [2, 3]);
  assert.deepEqual(latest(part, 2).gates[0].mean, [0.2, 0.3]);
  assert.deepEqual(offsets(latest(part, 9)), [1, 2, 3]);
});

test("an anomaly's span ends with the first reading behind it", () => {
  const spans = (/** @type {string} */ text) => anomalySpans([...text].map((letter) => ({ alarm: letter === "x" })));
  assert.deepEqual(spans("..xx.x"), [
    { begin: 2, end: 4 },
    { begin: 5, end: 5 },
  ]);
  assert.deepEqual(spans("xx"), [{ begin: 0, end: 1 }]);
  assert.deepEqual(spans(""), []);
});
