import assert from "node:assert/strict";
import { test } from "node:test";
import { timeTicks, valueTicks } from "../../../../service/http/page/ticks.js";
import { writeTimesIn } from "../../../../service/http/page/words.js";

const MINUTE = 60_000;
const at = (/** @type {string} */ time) => Date.parse(`2026-01-20T${time}Z`);

test("times are round ones, as many as there is room for, the date with its year where it is another", () => {
  writeTimesIn("UTC");
  assert.deepEqual(timeTicks(at("23:12:10"), at("23:12:10") + 90 * MINUTE, 4), [
    { at: at("23:30:00"), words: "23:30", date: "20 Jan 2026" },
    { at: at("23:30:00") + 30 * MINUTE, words: "00:00", date: "21 Jan 2026" },
    { at: at("23:30:00") + 60 * MINUTE, words: "00:30" },
  ]);
});

test("a closer look has seconds and their tenths, weeks have days", () => {
  const words = (/** @type {number} */ length) =>
    timeTicks(at("09:26:00"), at("09:26:00") + length, 4).map((one) => one.words);
  assert.deepEqual(words(20_000), ["09:26:00", "09:26:05", "09:26:10", "09:26:15", "09:26:20"]);
  assert.deepEqual(words(300), ["09:26:00.0", "09:26:00.1", "09:26:00.2", "09:26:00.3"]);
  assert.deepEqual(words(20 * 86_400_000), ["22 Jan 2026", "29 Jan 2026", "5 Feb 2026"]);
});

test("values are round ones, with the digits that tell them apart", () => {
  const words = (/** @type {number} */ least, /** @type {number} */ most) =>
    valueTicks(least, most, 4).map((one) => one.words);
  assert.deepEqual(words(0, 1), ["0.0", "0.5", "1.0"]);
  assert.deepEqual(words(19.2, 46.1), ["20", "30", "40"]);
  assert.deepEqual(words(10_001.1, 10_003), ["10,001.5", "10,002.0", "10,002.5", "10,003.0"]);
  assert.deepEqual(words(-3, 3), ["-2", "0", "2"]);
  assert.deepEqual(words(1e6, 3e6), ["1M", "1.5M", "2M", "2.5M", "3M"]);
  assert.deepEqual(words(0, 2e-6), ["0E0", "5E-7", "1E-6", "1.5E-6", "2E-6"]);
});
