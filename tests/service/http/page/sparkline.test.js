import assert from "node:assert/strict";
import { test } from "node:test";
import { HEIGHT, WIDTH, linesOf } from "../../../../service/http/page/sparkline.js";

/** @type {(n: number, value: number | null, alarm?: boolean) => import("../../../../service/http/page/types.d.ts").Reading} */
const reading = (n, value, alarm = false) => ({
  ...{ offset: n, time: new Date(1000 * n).toISOString(), fate: "judged", score: 0, alarm },
  ...{ values: [0, value], expected: [0, 5], lower: [0, 4], upper: [0, 6] },
});
/** @param {import("../../../../service/http/page/types.d.ts").Reading[]} readings */
const traced = (readings) => ({
  stream: "s",
  checkpoint: "abc",
  topic: "t",
  partition: 0,
  features: ["a", "b"],
  units: [null, null],
  reset: true,
  readings,
  layers: [],
});

test("a channel's line fills the box, between its band's edges and its own", () => {
  const lines = linesOf(traced([reading(0, 4), reading(1, 8), reading(2, 8, true), reading(4, 4)]), "b");
  assert.equal(lines?.reading, `M0 ${HEIGHT - 3}L${WIDTH / 4} 3L${WIDTH / 2} 3L${WIDTH} ${HEIGHT - 3}`);
  assert.ok(lines?.band.startsWith("M0 28L60 28"));
  assert.ok(lines?.band.endsWith("L0 53Z"));
  assert.deepEqual(lines?.spans, [{ x: WIDTH / 2, width: WIDTH / 2 }]);
});

test("a line breaks where a value is missing, and there is none of a single reading", () => {
  const lines = linesOf(traced([reading(0, 4), reading(1, null), reading(2, 6)]), "b");
  assert.equal(lines?.reading, "M0 53M240 3");
  assert.equal(linesOf(traced([reading(0, 4)]), "b"), null);
});
