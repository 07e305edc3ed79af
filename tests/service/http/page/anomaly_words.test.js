import assert from "node:assert/strict";
import { test } from "node:test";
import { began, expectedAndSeen, seenInBand } from "../../../../service/http/page/anomaly_words.js";

const CHANNEL = { name: "flow", observed: 45.234, expected: 20.1, lower: 19.8, upper: 20.4, share: 0.9 };
const OTHER = { ...CHANNEL, name: "power", share: 0.1 };

test("what was seen and expected is that of the channel with the largest share, with its unit", () => {
  const said = expectedAndSeen([OTHER, { ...CHANNEL, unit: "m³/h" }]);
  assert.equal(said, "flow 45.23\u00a0m³/h, expected 20.1\u00a0m³/h (19.8 to 20.4)");
});

test("what is not known is not said", () => {
  assert.equal(expectedAndSeen([{ ...CHANNEL, observed: null }]), "flow no value, expected 20.1 (19.8 to 20.4)");
  assert.equal(expectedAndSeen([{ ...CHANNEL, lower: null }]), "flow 45.23, expected 20.1");
  assert.equal(expectedAndSeen([{ ...CHANNEL, expected: null }]), "flow 45.23");
  assert.equal(expectedAndSeen([]), null);
});

test("of any reading the value is said with its band", () => {
  assert.equal(seenInBand({ ...CHANNEL, unit: "m³/h" }), "flow 45.23\u00a0m³/h, expected 19.8 to 20.4");
  assert.equal(seenInBand({ ...CHANNEL, observed: null, lower: null }), "flow no value");
});

test("of silence it is said since when nothing came, of others since when it has lasted", () => {
  const data = { began_at: "2020-01-20T09:26:00Z", kind: "silent" };
  assert.match(String(began(data)), /^no reading since 20 Jan 2020 /);
  assert.match(String(began({ ...data, kind: "power loss", opened_by: "silent" })), /^no reading since /);
  assert.match(String(began({ ...data, kind: "level" })), /^began about /);
  assert.equal(began({ kind: "level" }), null);
});
