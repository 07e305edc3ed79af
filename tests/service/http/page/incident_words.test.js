import assert from "node:assert/strict";
import { test } from "node:test";
import * as incidents from "../../../../service/http/page/incident_words.js";
import { writeTimesIn } from "../../../../service/http/page/words.js";

const FIRST = { anomaly: "a-1", stream: "site/line-3/pump-7/flow", kind: "level", opened_at: "2026-01-20T09:26:00Z" };

test("an incident says how many anomalies it has, and how many are open where others closed", () => {
  /** @type {(anomalies: number, open_anomalies: number, streams: number) => string} */
  const said = (anomalies, open_anomalies, streams) => incidents.members({ anomalies, open_anomalies, streams });
  assert.equal(said(1, 1, 1), "1 anomaly in 1 stream");
  assert.equal(said(1200, 3, 500), "1,200 anomalies in 500 streams, 3 open");
  assert.equal(said(4, 0, 2), "4 anomalies in 2 streams");
});

test("what was first is named, and is where the incident leads to, at its time", () => {
  const group = "site/line-3";
  assert.equal(incidents.firstCause({ group, first_cause: FIRST }), "first pump-7/flow: off its level");
  assert.equal(incidents.firstCause({ group: "line-3", first_cause: FIRST }), `first ${FIRST.stream}: off its level`);
  const near = { ...FIRST, stream: "site/line-30/pump-7" };
  assert.equal(incidents.firstCause({ group, first_cause: near }), "first site/line-30/pump-7: off its level");
  const alone = { ...FIRST, stream: group };
  assert.equal(incidents.firstCause({ group, first_cause: alone }), "first site/line-3: off its level");
  const at = Date.parse(FIRST.opened_at);
  assert.deepEqual(incidents.placeOf({ incident: "i-1", first_cause: FIRST }), {
    stream: FIRST.stream,
    at,
    anomaly: "a-1",
    incident: "i-1",
  });
});

test("who acknowledged it and why no one is notified is said where it is so", () => {
  assert.equal(incidents.acknowledged({ acknowledged_by: "anna" }), "acknowledged by anna");
  assert.equal(incidents.acknowledged({ acknowledged_by: null }), null);
  assert.equal(incidents.heldBack({ held_back: "overhaul" }), "no one is notified: overhaul");
  assert.equal(incidents.heldBack({ held_back: null }), null);
});

test("an incident that closed lasted until then, an open one until now", () => {
  writeTimesIn("UTC");
  const now = Date.parse("2026-01-20T11:26:00Z");
  const opened_at = FIRST.opened_at;
  assert.match(incidents.times({ opened_at, closed_at: null }, now), /2 h$/);
  assert.match(incidents.times({ opened_at, closed_at: "2026-01-20T09:27:00Z" }, now), /60 s$/);
});

test("incidents that open are read out: the most severe, and how many there are", () => {
  const counts = { anomalies: 3, open_anomalies: 3, streams: 2, first_cause: FIRST };
  const major = { group: "site/line-3", severity: "major", ...counts };
  const what = "in site/line-3: 3 anomalies in 2 streams, first pump-7/flow: off its level.";
  assert.equal(incidents.announced([major]), `A major incident has opened ${what}`);
  const minor = { ...major, group: "site/line-4", severity: "minor" };
  assert.equal(incidents.announced([major, minor]), `2 incidents have opened, the rarest, major, ${what}`);
});
