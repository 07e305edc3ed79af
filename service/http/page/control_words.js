// What people say of incidents, anomalies and streams: as controls, what of it holds, and the words for it.

import { clock, count } from "./words.js";

/** @typedef {import("./types.d.ts").Control} Control */
/** @typedef {import("./types.d.ts").ControlSeen} ControlSeen */
/** @typedef {import("./types.d.ts").NewControl} NewControl */
/** @typedef {import("./types.d.ts").Incident} Incident */
/** @typedef {import("./types.d.ts").MembersFound} MembersFound */
/** @typedef {import("./types.d.ts").Target} Target */
/** @typedef {import("./types.d.ts").Example} Example */
/** @typedef {import("./types.d.ts").Rule} Rule */

const HOUR_MS = 3_600_000;
const MOST_BYTES = 12_000; // of names in one control; the service takes 16,384 bytes in all
const MOST_PATTERNS = 100;
const MOST_EXAMPLES = 60;

/** For how long. @type {{ words: string, ms: number }[]} */
export const MUTES = [
  { words: "1 hour", ms: HOUR_MS },
  { words: "8 hours", ms: 8 * HOUR_MS },
  { words: "a day", ms: 24 * HOUR_MS },
];

/** What an anomaly was, by what the service calls it. @type {Record<string, string>} */
export const LABELS = { fault: "a fault", normal: "normal", known: "known, unimportant" };

/** Of later ones that are like it, by what the service calls it. @type {Record<string, string>} */
export const RULES = {
  day: "so are later ones like it, around its hour each day",
  week: "so are later ones like it, around its hour on its day of the week",
  always: "so are later ones like it, at any time",
};

// --- patterns of streams' names, as Python's fnmatch reads them

/** The pattern that fits this name alone. @param {string} name */
export const patternOf = (name) => name.replace(/[*?[]/g, "[$&]");

/**
 * @param {string} pattern
 * @param {string} name
 */
export function fits(pattern, name) {
  const parts = pattern.match(/\[!?\]?[^\]]*\]|[\s\S]/g) ?? [];
  return new RegExp(`^${parts.map(expression).join("")}$`, "s").test(name);
}

/** @param {string} part */
function expression(part) {
  if (part === "*") return ".*";
  if (part === "?") return ".";
  if (part.length === 1) return part.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
  const not = part[1] === "!";
  const inside = part.slice(not ? 2 : 1, -1).replace(/[\\\]^[]/g, "\\$&");
  return `[${not ? "^" : ""}${inside}]`;
}

/**
 * The pattern for all streams whose names begin as its group says; null where the group has a name of its own.
 * @param {Pick<Incident, "group" | "first_cause">} incident
 */
export function groupPattern({ group, first_cause: { stream } }) {
  if (stream === group) return patternOf(group);
  return stream.startsWith(group) ? `${patternOf(group)}${patternOf(stream[group.length])}*` : null;
}

/**
 * The patterns for the streams that it has now; null where there are too many to name.
 * @param {MembersFound} found
 */
export function memberPatterns({ members, members_left_out }) {
  const patterns = [...new Set(members.map(({ stream }) => patternOf(stream)))];
  const bytes = new TextEncoder().encode(patterns.join("  ")).length;
  return members_left_out || !patterns.length || patterns.length > MOST_PATTERNS || bytes > MOST_BYTES
    ? null
    : patterns;
}

/** Patterns as a person writes them, with commas between them. @param {string} written */
export const patterns = (written) =>
  written
    .split(",")
    .map((one) => one.trim())
    .filter(Boolean);

/** The pattern for all whose names begin as this one's, down to its last part; empty where it has one part. */
export const besidePattern = (/** @type {string} */ name) =>
  name.includes("/") ? `${patternOf(name.slice(0, name.lastIndexOf("/")))}/*` : "";

// --- controls

/** @type {(streams: string[], until: number, learn: boolean, by: string, note: string) => NewControl} */
export const mute = (streams, until, learn, by, note) => ({
  type: "quiet",
  streams,
  until: new Date(until).toISOString(),
  learn,
  reason: note || `muted by ${by}`,
  by,
});

/** @type {(streams: string[], on: string[], learn: boolean, by: string, note: string) => NewControl} */
export const depend = (streams, on, learn, by, note) => ({
  type: "dependency",
  streams,
  on,
  learn,
  reason: note || `${streamWords(on)} is anomalous`,
  by,
});

/** @type {(incident: string, by: string, note: string) => NewControl} */
export const acknowledge = (incident, by, note) => ({ type: "acknowledgement", incident, by, ...(note && { note }) });

/** @type {(label: string, anomaly: string, by: string, note: string, rule: Rule | null) => NewControl} */
export const labelAnomaly = (label, anomaly, by, note, rule) => ({
  type: "label",
  label,
  anomaly,
  by,
  ...(note && { note }),
  ...(rule && (label === "fault" ? { examples: rule.examples } : rule)),
});

/**
 * What a rule can be made of; null where the members are not all named, or too many for one control.
 * @param {MembersFound} found
 * @param {string | null} anomaly the one that it is about; null: all of them
 * @returns {Example[] | null}
 */
export function examples({ members, members_left_out }, anomaly) {
  const mine = members.filter((one) => anomaly === null || one.anomaly === anomaly);
  const made = mine.map(({ stream, kind, channel, severity, opened_at, return_period_s }) => ({
    ...{ stream, kind, channel, severity },
    ...{ opened_at, return_period_s },
  }));
  const whole = anomaly !== null || !members_left_out;
  const fit = made.length <= MOST_EXAMPLES && new TextEncoder().encode(JSON.stringify(made)).length <= MOST_BYTES / 2;
  return whole && made.length && fit ? made : null;
}

/**
 * Of all anomalies that it has now.
 * @param {string} label
 * @param {MembersFound} found
 * @param {string[]} streams
 * @param {string} by
 * @param {string} note
 * @param {Rule | null} rule
 * @returns {NewControl}
 */
export function labelMembers(label, { incident, members, members_left_out }, streams, by, note, rule) {
  const opened = [incident.opened_at, ...members.map((one) => one.opened_at)].map((time) => Date.parse(time));
  const closed = members_left_out ? Date.parse(incident.closed_at ?? "") || Date.now() : 0;
  const until = new Date(Math.max(...opened, closed) + 1).toISOString();
  const more = { ...(note && { note }), ...(label !== "fault" && rule) };
  return { type: "label", label, streams, from: incident.opened_at, until, by, ...more };
}

// --- what holds

/**
 * Those that are about it, the one given last first. Of an incident its first cause counts.
 * @param {ControlSeen[]} controls
 * @param {Target} target
 * @param {number} now milliseconds
 */
export function about(controls, target, now) {
  return controls.filter(({ given }) => isAbout(given, target, now));
}

/**
 * @param {Control} given
 * @param {Target} target
 * @param {number} now
 */
function isAbout(given, { incident, stream, anomaly, opened_at }, now) {
  if (given.type === "acknowledgement") return given.incident === incident?.incident;
  const opened = Date.parse(opened_at ?? "");
  if (given.type === "quiet") return !given.cron && within(now, given) && some(given.streams, stream);
  if (given.type === "dependency") return some([...given.streams, ...given.on], stream);
  if (given.type !== "label") return false;
  if (given.examples?.some((one) => one.stream === stream)) return true;
  if (given.anomaly) return given.anomaly === anomaly;
  return within(opened, given) && some(given.streams ?? [], stream);
}

/**
 * @param {number} time
 * @param {{ from?: string | null, until?: string | null }} span
 */
const within = (time, { from, until }) =>
  !(from && time < Date.parse(from)) && !(until && time >= Date.parse(until)) && !Number.isNaN(time);

/** @type {(patterns: string[], name: string) => boolean} */
const some = (patterns, name) => patterns.some((pattern) => fits(pattern, name));

// --- words

/** @param {string[]} streams */
export const streamWords = (streams) => (streams.length === 1 ? streams[0] : count(streams.length, "stream"));

/** @param {Control} given */
export function controlWords(given) {
  const why = "reason" in given && given.reason !== `muted by ${given.by}` ? given.reason : given.note;
  return `${what(given)} by ${given.by}, ${clock(given.at)}${why ? `: ${why}` : ""}`;
}

/** @param {Control} given */
function what(given) {
  if (given.type === "acknowledgement") return "acknowledged";
  if (given.type === "label") {
    const called = `called ${LABELS[given.label] ?? given.label}`;
    return given.rule ? `${called} (${RULES[given.rule] ?? given.rule})` : called;
  }
  if (given.type === "model") return "promoted";
  if (given.type === "holds") return "holds: nothing is learned";
  const learned = given.learn ? ", learned from" : "";
  if (given.type === "dependency") return `quiet while ${streamWords(given.on)} is anomalous${learned}`;
  if (given.cron) return `muted again and again (${given.cron})${learned}`;
  return `muted until ${clock(given.until ?? "")}${learned}`;
}

/** What it is about, for a list of its own. @param {Control} given */
export function aboutWords(given) {
  if (given.type === "acknowledgement") return `incident ${given.incident}`;
  if (given.type === "label" && given.anomaly) return given.examples?.[0]?.stream ?? `anomaly ${given.anomaly}`;
  if (given.type === "model") return `model ${given.checkpoint}`;
  if (given.type === "holds") return `dependency ${given.dependency}`;
  return streamWords(given.streams ?? []);
}
