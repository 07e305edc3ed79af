// Words for anomalies: what kind one is of, what became of it, which channels it came from.

import { clock, measured } from "./words.js";

/** @typedef {import("./types.d.ts").Channel} Channel */
/** @typedef {import("./types.d.ts").AnomalyData} AnomalyData */

const LEAST_SHARE = 0.1;
const MOST_NAMED = 3;

/** @type {Record<string, string>} */
const KINDS = {
  prediction: "not expected",
  level: "off its level",
  range: "outside its range",
  relation: "not as the other channels",
};

/** @param {string} kind */
export const kindName = (kind) => KINDS[kind] ?? kind.replaceAll("_", " ");

/**
 * @param {string} change the end of an event's type
 * @param {Pick<AnomalyData, "closed_as">} data
 */
export function changeName(change, { closed_as }) {
  if (change === "opened") return "opened";
  if (change === "updated") return "got worse";
  if (closed_as === "forgotten") return "is over: its stream was forgotten";
  if (closed_as === "promoted") return "is over: another model judges";
  return closed_as === "level_shift" ? "is the new normal" : "is over";
}

/**
 * The channels that an anomaly came from: by their share in the residual, or in the distance from the level where that
 * opened it; where there is none, those outside their band.
 * @param {Channel[]} channels
 */
export function shares(channels) {
  if (channels.length === 1) return channels[0].name;
  const most = channels.filter((one) => one.share >= LEAST_SHARE).sort((one, other) => other.share - one.share);
  if (most.length) {
    const named = most.slice(0, MOST_NAMED);
    return named.map((one) => `${one.name} ${Math.round(100 * one.share)} %`).join(", ");
  }
  return channels
    .filter(isOutside)
    .map((one) => one.name)
    .join(", ");
}

/** @param {Channel} channel */
function isOutside({ observed, lower, upper }) {
  if (observed === null) return false;
  return (lower !== null && observed < lower) || (upper !== null && observed > upper);
}

/**
 * The channel that an anomaly came from before all others; undefined where no reading changed it.
 * @param {Channel[]} channels
 * @returns {Channel | undefined}
 */
export const foremost = (channels) => [...channels].sort((one, other) => other.share - one.share)[0];

/**
 * What was seen in that channel, and what was expected.
 * @param {Channel[]} channels
 */
export function expectedAndSeen(channels) {
  const first = foremost(channels);
  if (!first) return null;
  const { name, observed, expected, lower, upper, unit } = first;
  const seen = observed === null ? "no value" : measured(observed, unit);
  if (expected === null) return `${name} ${seen}`;
  const band = lower === null || upper === null ? "" : ` (${measured(lower)} to ${measured(upper)})`;
  return `${name} ${seen}, expected ${measured(expected, unit)}${band}`;
}

/**
 * The same of any reading, in fewer words.
 * @param {Pick<Channel, "name" | "observed" | "lower" | "upper" | "unit">} channel
 */
export function seenInBand({ name, observed, lower, upper, unit }) {
  const seen = `${name} ${observed === null ? "no value" : measured(observed, unit)}`;
  return lower === null || upper === null ? seen : `${seen}, expected ${measured(lower)} to ${measured(upper)}`;
}

/**
 * Since when it has lasted, where that is before it opened. Of silence it is all that there is to say.
 * @param {Pick<AnomalyData, "began_at" | "opened_by" | "kind">} data
 */
export function began({ began_at, ...data }) {
  if (!began_at) return null;
  return isSilent(data) ? noReadingSince(began_at) : `began about ${clock(began_at)}`;
}

/**
 * No channel is to blame for silence.
 * @param {Pick<AnomalyData, "opened_by" | "kind">} data
 */
export const isSilent = ({ opened_by, kind }) => (opened_by ?? kind) === "silent";

/** @param {string} time of a silent stream's last reading */
export const noReadingSince = (time) => `no reading since ${clock(time)}`;
