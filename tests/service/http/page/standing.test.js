import assert from "node:assert/strict";
import { test } from "node:test";
import { Lately } from "../../../../service/http/page/lately.js";
import { standing } from "../../../../service/http/page/standing.js";

/** @typedef {import("../../../../service/http/page/types.d.ts").Summary} Summary */

const STARTED = Date.parse("2026-01-20T09:00:00Z");
/** @type {Summary} */
const CALM = {
  state: "running",
  ready: true,
  reason: "ready",
  version: "1",
  checkpoint: "abc",
  models: {},
  topics: ["plant"],
  features: ["f0"],
  events: 0,
  started_ms: STARTED,
  published_ms: STARTED,
  beat_age_s: 0,
  event_time_ms: STARTED,
  partitions: 2,
  partitions_ready: 2,
  streams: 40,
  judged: 40,
  warming: 0,
  anomalies_open: 0,
  lag: 0,
  readings: 0,
  late: 0,
  duplicate: 0,
  rejected: 0,
  rejected_by_reason: {},
  many_rejected: false,
};

/**
 * After a minute of 40 readings a second.
 * @param {Partial<Summary>} last of the newest summary
 */
function minute(last = {}) {
  const lately = new Lately();
  for (let s = 0; s <= 60; s++) {
    const now = STARTED + 1000 * s;
    lately.add({ ...CALM, published_ms: now, event_time_ms: now, readings: 40 * s, ...(s === 60 && last) });
  }
  return lately;
}

/**
 * @param {Lately} lately
 * @param {Partial<import("../../../../service/http/page/standing.js").Known>} known
 */
const stands = (lately, known = {}) =>
  standing({
    lately,
    heard: { ms: 100, wall: STARTED },
    opened: { ms: 60_000, wall: STARTED },
    lost: false,
    refused: null,
    asking: false,
    silent: [],
    ...known,
  });

test("a service that judges all streams is ready, and nothing is wrong", () => {
  const { state, text, well, items, fresh } = stands(minute());
  assert.deepEqual([state, text, fresh, items], ["ready", "ready", true, []]);
  assert.deepEqual(well, {
    text: "Nothing. All 40 streams are judged, and each is as it is expected to be.",
    whole: true,
  });
});

test("nothing is well that was not updated for three seconds", () => {
  const lately = minute();
  assert.equal(stands(lately, { heard: { ms: 2900, wall: STARTED } }).state, "ready");
  const { state, well, fresh } = stands(lately, { heard: { ms: 3000, wall: STARTED } });
  assert.deepEqual([state, well, fresh], ["gone", null, false]);
  assert.equal(stands(lately, { lost: true }).state, "gone");
  assert.equal(stands(minute({ beat_age_s: 3 })).short, "not judging");
});

test("what is not judged comes before what is well", () => {
  const cases = /** @type {[Partial<Summary>, string][]} */ ([
    [{ state: "starting" }, "starting"],
    [{ partitions_ready: 1 }, "not ready"],
    [{ judged: 0, warming: 40 }, "learning"],
    [{ rejected: 5000, rejected_by_reason: { no_json: 5000 } }, "refusing"],
    [{ rejected: 1, rejected_by_reason: { no_json: 1 }, many_rejected: true }, "refusing"],
    [{ event_time_ms: STARTED + 400_000 }, "wrong time"],
    [{ late: 2000 }, "late"],
  ]);
  for (const [last, short] of cases) {
    const stand = stands(minute(last));
    assert.deepEqual([stand.state, stand.short], ["busy", short]);
    assert.notEqual(stand.items.length, 0);
  }
});

test("a little of what is not judged is told and keeps nothing from being ready", () => {
  const { state, items, well } = stands(minute({ rejected: 1, rejected_by_reason: { no_json: 1 } }));
  assert.equal(state, "ready");
  assert.match(items[0].text, /1 record was refused .* 1 no json/);
  assert.equal(well?.whole, false);
});

test("a stream is silent when it has missed many of its readings", () => {
  const one = (/** @type {number} */ s) => ({
    stream: "pump",
    topic: "plant",
    partition: 0,
    readings: 100,
    score: null,
    alarm: null,
    time: new Date(STARTED + 60_000 - 1000 * s).toISOString(),
  });
  assert.deepEqual(stands(minute(), { silent: [one(30)] }).items, []);
  assert.match(
    stands(minute(), { silent: [one(90)] }).items[0].text,
    /^pump has had no reading for 90 s: .* every 1 s/,
  );
});

test("figures of a worker that was started again are not mixed with those before", () => {
  const lately = minute();
  assert.equal(lately.rate, 40);
  lately.add({ ...CALM, started_ms: STARTED + 61_000, published_ms: STARTED + 61_000, readings: 3 });
  assert.equal(lately.seen.length, 1);
  assert.equal(lately.rate, null);
});
