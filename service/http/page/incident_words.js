// Words for incidents: how many anomalies belong to one, what was first, what people said of it.

import { kindName } from "./anomaly_words.js";
import { clock, count, since } from "./words.js";

/** @typedef {import("./types.d.ts").Incident} Incident */

/** @param {Pick<Incident, "anomalies" | "open_anomalies" | "streams">} incident */
export function members({ anomalies, open_anomalies, streams }) {
  const open = open_anomalies > 0 && open_anomalies < anomalies ? `, ${open_anomalies} open` : "";
  return `${count(anomalies, "anomaly", "anomalies")} in ${count(streams, "stream")}${open}`;
}

/**
 * What was first; where the group is of its name's first parts, by the others.
 * @param {Pick<Incident, "group" | "first_cause">} incident
 */
export function firstCause({ group, first_cause: { stream, kind } }) {
  const own = stream.startsWith(`${group}/`) ? stream.slice(group.length + 1) : stream;
  return `first ${own}: ${kindName(kind)}`;
}

/**
 * Read out when they open: the first of them, which is the rarest, and how many there are.
 * @param {Pick<Incident, "group" | "severity" | "anomalies" | "open_anomalies" | "streams" | "first_cause">[]} opened at least one
 */
export function announced(opened) {
  const [foremost] = opened;
  const { group, severity } = foremost;
  const what = `in ${group}: ${members(foremost)}, ${firstCause(foremost)}.`;
  if (opened.length === 1) return `A ${severity} incident has opened ${what}`;
  return `${count(opened.length, "incident")} have opened, the rarest, ${severity}, ${what}`;
}

/** @param {Pick<Incident, "acknowledged_by">} incident */
export const acknowledged = ({ acknowledged_by }) =>
  acknowledged_by === null ? null : `acknowledged by ${acknowledged_by}`;

/** @param {Pick<Incident, "held_back">} incident */
export const heldBack = ({ held_back }) => (held_back === null ? null : `no one is notified: ${held_back}`);

/**
 * @param {Pick<Incident, "opened_at" | "closed_at">} incident
 * @param {number} now milliseconds
 */
export const times = ({ opened_at, closed_at }, now) => `${clock(opened_at)}, ${since(opened_at, closed_at ?? now)}`;

/**
 * Where the page shows the first cause: at the time when it began.
 * @param {Pick<Incident, "incident" | "first_cause">} incident
 */
export const placeOf = ({ incident, first_cause }) => ({
  stream: first_cause.stream,
  at: Date.parse(first_cause.opened_at),
  anomaly: first_cause.anomaly,
  incident,
});

/**
 * What is said of it is about its first cause too.
 * @param {Incident} incident
 * @returns {import("./types.d.ts").Target}
 */
export const targetOf = (incident) => {
  const { stream, anomaly, opened_at } = incident.first_cause;
  return { incident, stream, anomaly, opened_at };
};
