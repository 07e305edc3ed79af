import assert from "node:assert/strict";
import { test } from "node:test";
import { named, written } from "../../../../service/http/page/address.js";

const NOWHERE = { stream: null, at: null, readings: null, anomaly: null, incident: null };
const AT = Date.parse("2026-01-20T09:26:00Z");

test("a place comes back from its address as it was", () => {
  for (const stream of ["pump/7", "a&at=1", "100 % #1", "ä€😀"]) {
    const place = { stream, at: AT, readings: 200, anomaly: "5f/é", incident: "i-1&2" };
    assert.deepEqual(named(written(place)), place);
    assert.deepEqual(named(written({ stream })), { ...NOWHERE, stream });
  }
});

test("of what is live, an address has the stream alone", () => {
  assert.equal(written({ stream: "pump", at: null, readings: 600, anomaly: "x" }), "#pump");
});

test("an address without a stream is no excuse", () => {
  assert.deepEqual(named(""), NOWHERE);
  assert.deepEqual(named("#"), NOWHERE);
});

test("what is wrong with an address is said", () => {
  assert.match(named("#%zz").excuse ?? "", /not a stream's name/);
  assert.match(named(`#${"x".repeat(257)}`).excuse ?? "", /more than 256 bytes/);
  assert.match(named("#pump&at=yesterday").excuse ?? "", /2026-01-20T09:26:00Z/);
});

test("how many readings an address asks for has bounds", () => {
  const asked = (/** @type {string} */ count) => named(`#pump&at=2026-01-20T09:26:00Z&readings=${count}`).readings;
  assert.deepEqual(["1", "200", "99999999", "many"].map(asked), [2, 200, 5000, null]);
});
