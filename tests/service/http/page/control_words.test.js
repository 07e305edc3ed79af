import assert from "node:assert/strict";
import { test } from "node:test";
import * as controls from "../../../../service/http/page/control_words.js";
import { writeTimesIn } from "../../../../service/http/page/words.js";

/** @typedef {import("../../../../service/http/page/types.d.ts").ControlSeen} ControlSeen */
/** @typedef {import("../../../../service/http/page/types.d.ts").Incident} Incident */

const AT = "2026-01-20T09:26:00Z";
const NOW = Date.parse(AT);
const SAID = { by: "anna", at: AT };
const FIRST = { anomaly: "a-1", stream: "site/line-3/pump-7", kind: "level", opened_at: AT };
const LEFT = { severity: "major", streams: 2, anomalies: 2, open_anomalies: 2, held_back: null };
/** @type {Incident} */
const INCIDENT = {
  ...LEFT,
  incident: "i-1",
  group: "site/line-3",
  status: "open",
  opened_at: AT,
  closed_at: null,
  acknowledged_by: null,
  acknowledged_at: null,
  peak: 2,
  return_period_s: 0,
  first_cause: FIRST,
};
const TARGET = { incident: INCIDENT, stream: FIRST.stream, anomaly: "a-1", opened_at: AT };

/** @type {(stream: string, opened_at?: string) => import("../../../../service/http/page/types.d.ts").Member} */
const member = (stream, opened_at = AT) => ({
  ...{ anomaly: stream, stream, status: "open", severity: "minor", kind: "level", closed_as: null, label: null },
  ...{ channel: "flow", rule: null, return_period_s: 86_400, opened_at },
});

test("a pattern fits names as Python's fnmatch reads it", () => {
  /** @type {[string, string, boolean][]} */
  const cases = [
    ["site/*", "site/line-3/pump", true],
    ["site/*", "other/site/", false],
    ["a?c", "abc", true],
    ["a?c", "ac", false],
    ["a[bc]d", "acd", true],
    ["a[!bc]d", "acd", false],
    ["a[[]x]", "a[x]", true],
    ["a.c", "abc", false],
    ["a[", "a[", true],
  ];
  for (const [pattern, name, fits] of cases) assert.equal(controls.fits(pattern, name), fits, `${pattern} ${name}`);
});

test("the pattern of a name fits that name and no other", () => {
  for (const name of ["plain", "a*b", "x[1]?", "(a+b)", "back\\slash"]) {
    assert.ok(controls.fits(controls.patternOf(name), name), name);
    assert.ok(!controls.fits(controls.patternOf(name), `${name}x`), name);
  }
  assert.ok(!controls.fits(controls.patternOf("a*b"), "a and b"));
});

test("an incident is muted by its streams' common beginning, or by their names where its group is declared", () => {
  assert.equal(controls.groupPattern(INCIDENT), "site/line-3/*");
  assert.equal(controls.groupPattern({ group: "cooling", first_cause: FIRST }), null);
  assert.equal(controls.groupPattern({ group: FIRST.stream, first_cause: FIRST }), FIRST.stream);
  const found = { incident: INCIDENT, members: [member("a"), member("a"), member("b*")], members_left_out: 0 };
  assert.deepEqual(controls.memberPatterns(found), ["a", "b[*]"]);
  assert.equal(controls.memberPatterns({ ...found, members_left_out: 1 }), null);
  const long = Array.from({ length: 60 }, (_, n) => member(`${n}${"x".repeat(250)}`));
  assert.equal(controls.memberPatterns({ ...found, members: long }), null);
});

test("a label of an incident is about the anomalies that it has now", () => {
  const members = [member("a"), member("b", "2026-01-20T09:30:00Z")];
  const found = { incident: INCIDENT, members, members_left_out: 0 };
  assert.deepEqual(controls.labelMembers("known", found, ["a", "b"], "anna", "", null), {
    ...{ type: "label", label: "known", streams: ["a", "b"], by: "anna" },
    from: AT,
    until: "2026-01-20T09:30:00.001Z",
  });
});

test("what is in force of an incident is what names it, and what its first cause lies in", () => {
  /** @type {ControlSeen[]} */
  const all = [
    { control: "ack", given: { type: "acknowledgement", incident: "i-1", ...SAID } },
    { control: "other-ack", given: { type: "acknowledgement", incident: "i-2", ...SAID } },
    {
      control: "quiet",
      given: { ...SAID, type: "quiet", streams: ["site/*"], reason: "x", until: "2026-01-21T00:00:00Z" },
    },
    { control: "over", given: { ...SAID, type: "quiet", streams: ["site/*"], reason: "x", until: AT } },
    {
      control: "elsewhere",
      given: { ...SAID, type: "quiet", streams: ["b/*"], reason: "x", until: "2026-01-21T00:00:00Z" },
    },
    { control: "label", given: { ...SAID, type: "label", label: "fault", anomaly: "a-1" } },
    { control: "other-label", given: { ...SAID, type: "label", label: "fault", anomaly: "a-2" } },
    {
      control: "span",
      given: { ...SAID, type: "label", label: "known", streams: ["site/*"], from: AT, until: "2026-01-20T10:00:00Z" },
    },
  ];
  const found = controls.about(all, TARGET, NOW).map(({ control }) => control);
  assert.deepEqual(found, ["ack", "quiet", "label", "span"]);
  const alone = controls.about(all, { ...TARGET, incident: null, anomaly: null, opened_at: null }, NOW);
  assert.deepEqual(
    alone.map(({ control }) => control),
    ["quiet"],
  );
});

test("what people said is put in words: what, who, when and why", () => {
  writeTimesIn("UTC");
  const quiet = controls.mute(["a/*"], Date.parse("2026-01-20T10:26:00Z"), true, "anna", "");
  assert.equal("reason" in quiet && quiet.reason, "muted by anna");
  /** @param {import("../../../../service/http/page/types.d.ts").NewControl} control */
  const said = (control) => controls.controlWords(/** @type {any} */ ({ ...control, at: AT }));
  const day = "20 Jan 2026";
  assert.equal(said(quiet), `muted until ${day} 10:26:00, learned from by anna, ${day} 09:26:00`);
  assert.equal(
    said(controls.acknowledge("i-1", "anna", "on my way")),
    `acknowledged by anna, ${day} 09:26:00: on my way`,
  );
  assert.equal(
    said(controls.labelAnomaly("known", "a-1", "ben", "", null)),
    `called known, unimportant by ben, ${day} 09:26:00`,
  );
  assert.equal(
    said(controls.labelAnomaly("normal", "a-1", "ben", "", RULE)),
    `called normal (so are later ones like it, around its hour each day) by ben, ${day} 09:26:00`,
  );
});

const RULE = {
  ...{ rule: "day", time_zone: "Europe/Berlin" },
  examples: [
    { stream: "a", kind: "level", channel: "flow", severity: "minor", opened_at: AT, return_period_s: 86_400 },
  ],
};

test("a rule is made of what is labelled, if all of it is known and fits into one control", () => {
  const found = { incident: INCIDENT, members: [member("a"), member("b")], members_left_out: 0 };
  assert.deepEqual(controls.examples(found, "a"), RULE.examples);
  assert.deepEqual(
    controls.examples(found, null)?.map(({ stream }) => stream),
    ["a", "b"],
  );
  assert.equal(controls.examples(found, "c"), null);
  const more = { ...found, members_left_out: 1 };
  assert.equal(controls.examples(more, null), null);
  assert.deepEqual(controls.examples(more, "a"), RULE.examples);
  const many = { ...found, members: Array.from({ length: 61 }, (_, n) => member(`${n}`)) };
  assert.equal(controls.examples(many, null), null);
});

test("a fault makes no rule, and says what it was like", () => {
  assert.deepEqual(controls.labelAnomaly("fault", "a", "anna", "", RULE), {
    ...{ type: "label", label: "fault", anomaly: "a", by: "anna", examples: RULE.examples },
  });
  const normal = controls.labelAnomaly("normal", "a", "anna", "", RULE);
  assert.equal("rule" in normal && normal.rule, "day");
});

test("a label is in force of the streams that its rule is about", () => {
  /** @type {ControlSeen} */
  const one = { control: "l", given: { type: "label", label: "normal", anomaly: "earlier", ...SAID, ...RULE } };
  /** @param {string} stream */
  const of = (stream) => controls.about([one], { incident: null, stream, anomaly: "later", opened_at: AT }, NOW).length;
  assert.deepEqual([of("a"), of("b")], [1, 0]);
  assert.equal(controls.aboutWords(one.given), "a");
});

test("a promoted model is among what was said, by its file", () => {
  /** @type {ControlSeen["given"]} */
  const given = { type: "model", ...SAID, checkpoint: "/models/plant-2.safetensors", sha256: "ab".repeat(32) };
  assert.equal(controls.aboutWords(given), "model /models/plant-2.safetensors");
  assert.match(controls.controlWords(given), /^promoted by anna/);
});

test("what depends on a stream is named by patterns, and is in force of both", () => {
  assert.equal(controls.besidePattern("site/line[3]/drive"), "site/line[[]3]/*");
  assert.equal(controls.besidePattern("alone"), "");
  assert.deepEqual(controls.patterns(" a/*, b ,, "), ["a/*", "b"]);
  const made = controls.depend(["site/line-3/*"], ["site/line-3/drive"], false, "anna", "");
  assert.equal(made.type === "dependency" && made.reason, "site/line-3/drive is anomalous");
  /** @type {ControlSeen} */
  const seen = {
    control: "d",
    given: { ...SAID, type: "dependency", streams: ["site/line-3/*"], on: ["site/drive"], reason: "it stands" },
  };
  for (const [stream, found] of /** @type {[string, number][]} */ ([
    ["site/line-3/pump-7", 1],
    ["site/drive", 1],
    ["site/line-4/pump-7", 0],
  ])) {
    assert.equal(controls.about([seen], { ...TARGET, stream }, NOW).length, found, stream);
  }
});
