import assert from "node:assert/strict";
import { test } from "node:test";
import { changeName, kindName, shares } from "../../../../service/http/page/anomaly_words.js";
import * as words from "../../../../service/http/page/words.js";

const HOUR_MS = 3_600_000;

test("a number has as many digits as someone reads", () => {
  assert.equal(words.number(1234567), "1,234,567");
  assert.equal(words.rounded(9.87), "9.9");
  assert.equal(words.rounded(1234.5), "1,235");
  assert.equal(words.score(1.234), "1.23");
  assert.equal(words.score(12.34), "12.3");
  assert.equal(words.count(1, "stream"), "1 stream");
  assert.equal(words.count(0, "stream"), "0 streams");
});

test("a duration is in the unit that suits its length", () => {
  const found = [99, 100, 99 * 60, 100 * 60, 47 * 3600, 48 * 3600].map(words.duration);
  assert.deepEqual(found, ["99 s", "2 min", "99 min", "2 h", "47 h", "2 days"]);
});

test("a time ahead of now is said to be ahead, and one that is long past is a date", () => {
  const now = Date.parse("2026-03-01T12:00:00Z");
  assert.equal(words.ago(now + 5000, now), "5 s ahead");
  assert.equal(words.ago(now + 500, now), "0 s ago");
  assert.equal(words.ago(now - 2 * HOUR_MS, now), "2 h ago");
  assert.match(words.ago(now - 40 * 24 * HOUR_MS, now), /20 Jan 2026/);
});

test("a time comes back from a field for times as it went in", () => {
  assert.equal(words.writeTimesIn("UTC"), "UTC");
  const time = Date.parse("2026-01-20T09:26:03.250Z");
  assert.equal(words.localTime(time), "2026-01-20T09:26:03.250");
  assert.equal(words.fromLocalTime(words.localTime(time)), time);
  assert.ok(Number.isNaN(words.fromLocalTime("")));
});

test("a zone that this browser does not offer changes nothing", () => {
  words.writeTimesIn("UTC");
  assert.equal(words.writeTimesIn("Mars/Olympus"), "UTC");
  assert.equal(words.writeTimesIn(null), "UTC");
});

test("an anomaly's kind and change are said in words", () => {
  assert.equal(kindName("level"), "off its level");
  assert.equal(kindName("stuck_sensor"), "stuck sensor");
  assert.equal(changeName("updated", { closed_as: null }), "got worse");
  assert.equal(changeName("closed", { closed_as: "level_shift" }), "is the new normal");
  assert.equal(changeName("closed", { closed_as: "recovered" }), "is over");
  assert.equal(changeName("closed", { closed_as: "forgotten" }), "is over: its stream was forgotten");
  assert.equal(changeName("closed", { closed_as: "promoted" }), "is over: another model judges");
});

/** @type {(name: string, share: number, observed?: number | null) => import("../../../../service/http/page/types.d.ts").Channel} */
const channel = (name, share, observed = 0) => ({ name, share, observed, expected: 0, lower: -1, upper: 1 });

test("the channels that drove an anomaly are named, the first of them first", () => {
  assert.equal(shares([channel("only", 0)]), "only");
  assert.equal(shares([channel("a", 0.2), channel("b", 0.75), channel("c", 0.05)]), "b 75 %, a 20 %");
  assert.equal(shares([channel("a", 0), channel("b", 0, 5), channel("c", 0, -5)]), "b, c");
  assert.equal(shares([channel("a", 0, 5), channel("missing", 0, null)]), "a");
});

test("how rarely something comes is said in a unit of which there are two or more", () => {
  const day = 86_400;
  /** @type {[number, string][]} */
  const cases = [
    [40 * day, "once in 40 days"],
    [47 * 3600, "once in 47 hours"],
    [48 * 3600, "once in 2 days"],
    [600 * day, "once in 600 days"],
    [731 * day, "once in 2 years"],
    [1e12, "once in more than 100 years"],
    [90, "once in 90 seconds"],
  ];
  for (const [seconds, said] of cases) assert.equal(words.rarity(seconds), said);
});

test("a reading has four digits that count, and its unit", () => {
  assert.equal(words.measured(45.23456, "bar"), "45.23\u00a0bar");
  assert.equal(words.measured(123456), "123,500");
  assert.equal(words.measured(0.000123456), "0.0001235");
});

test("the checkpoint that judges is named, and those that judge a topic of their own", () => {
  const summary = { checkpoint: "0123456789abcdef", models: {} };
  assert.equal(words.modelWords(summary), "checkpoint 0123456789ab");
  const several = { ...summary, models: { mills: "fedcba9876543210", rooms: "00112233445566" } };
  assert.equal(words.modelWords(several), "checkpoint 0123456789ab, mills by fedcba987654, rooms by 001122334455");
});
