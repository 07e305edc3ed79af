import assert from "node:assert/strict";
import { test } from "node:test";
import { nearest } from "../../../../service/http/page/plot.js";
import { area, path, thinned } from "../../../../service/http/page/svg.js";

test("a path is broken where there is no point, and so is what lies between two edges", () => {
  assert.equal(path([[0, 1], [1.04, 2], null, [3, 4]]), "M0 1L1 2M3 4");
  assert.equal(
    area(
      [[0, 1], [1, 1], null, [3, 1]],
      [
        [0, 2],
        [1, 2],
        [2, 2],
        [3, 2],
      ],
    ),
    "M0 1L1 1L1 2L0 2ZM3 1L3 2Z",
  );
  assert.equal(area([null], [[0, 1]]), "");
});

test("of a column of pixels the first point, the extremes and the last stay", () => {
  /** @type {[number, number][]} */
  const column = [
    [5, 3],
    [5.2, 4],
    [5.3, 9],
    [5.5, 1],
    [5.6, 4],
    [5.9, 2],
  ];
  assert.deepEqual(thinned([[4, 0], ...column, null, [6, 6]]), [
    [4, 0],
    [5, 3],
    [5.3, 9],
    [5.5, 1],
    [5.9, 2],
    null,
    [6, 6],
  ]);
});

test("the reading that is nearest to the pointer is told", () => {
  const found = [0, 14, 16, 24, 90].map((time) => nearest([10, 20, 30], time));
  assert.deepEqual(found, [0, 0, 1, 1, 2]);
  assert.equal(nearest([10], 3), 0);
});
