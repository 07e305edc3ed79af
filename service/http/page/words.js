// Words for numbers and times.

/** @typedef {string | number | Date} Time */

const numbers = new Intl.NumberFormat("en");

/** @param {number} value */
export const number = (value) => numbers.format(value);

/** @param {number} value */
export const rounded = (value) => numbers.format(value < 10 ? Math.round(10 * value) / 10 : Math.round(value));

/** @param {number} value */
export const score = (value) => value.toFixed(value < 10 ? 2 : 1);

/** @type {(value: number, one: string, many?: string) => string} */
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

export const ZONES = [Intl.DateTimeFormat().resolvedOptions().timeZone, "UTC"].filter(
  (zone, n, all) => all.indexOf(zone) === n,
);
let zone = ZONES[0];

/**
 * Times are written in this zone from now on.
 * @param {string | null} name
 */
export function writeTimesIn(name) {
  if (name !== null && ZONES.includes(name)) zone = name;
  return zone;
}

/**
 * The day is left out where it is today.
 * @param {Time} time
 */
export function clock(time) {
  const clockTime = new Date(time).toLocaleTimeString("en-GB", { timeZone: zone });
  return dateOf(time) === dateOf(new Date()) ? clockTime : `${dateOf(time)} ${clockTime}`;
}

/** @param {Time} time */
export const dateOf = (time) =>
  new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: zone });

/**
 * As 2026-01-20T09:26:00.000, for what takes times without zones.
 * @param {Time} time
 */
export function localTime(time) {
  const date = new Date(time);
  const text = date.toLocaleString("sv-SE", { timeZone: zone }).replace(" ", "T");
  return `${text}.${String(date.getUTCMilliseconds()).padStart(3, "0")}`;
}

/**
 * The other way round, in milliseconds; NaN where it is no time.
 * @param {string} text
 */
export const fromLocalTime = (text) => Date.parse(zone === "UTC" ? `${text}Z` : text);

const values = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

/**
 * A reading, or what was expected of one; its unit stays on its line.
 * @param {number} value
 * @param {string} [unit]
 */
export const measured = (value, unit) => (unit ? `${values.format(value)}\u00a0${unit}` : values.format(value));

/** @type {[number, string][]} seconds */
const PERIODS = [
  [365.25 * 86_400, "years"],
  [86_400, "days"],
  [3600, "hours"],
  [60, "minutes"],
];
const LONGEST_YEARS = 100;

/**
 * How rarely something comes: in a unit of which there are two or more.
 * @param {number} seconds
 */
export function rarity(seconds) {
  const [length, unit] = PERIODS.find(([length]) => seconds >= 2 * length) ?? [1, "seconds"];
  const many = Math.round(seconds / length);
  if (unit === "years" && many > LONGEST_YEARS) return `once in more than ${LONGEST_YEARS} years`;
  return `once in ${number(many)} ${unit}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

/**
 * How a time lies to now, both by the same clock.
 * @param {number | Date} time milliseconds
 * @param {number} now milliseconds
 */
export function ago(time, now) {
  const seconds = Math.round((now - Number(time)) / 1000);
  if (seconds < -1) return `${duration(-seconds)} ahead`;
  return seconds < 30 * 86_400 ? `${duration(Math.max(0, seconds))} ago` : clock(time);
}

/** @type {(opened: Time, latest: Time) => string} */
export const since = (opened, latest) =>
  duration(Math.max(0, (Number(new Date(latest)) - Number(new Date(opened))) / 1000));

/** @type {(whole: string) => string} of a checkpoint, as much of it as people compare */
export const digest = (whole) => whole.slice(0, 12);

/**
 * Which checkpoint judges, and which other one judges a topic of its own.
 * @param {{ checkpoint: string, models: Record<string, string> }} summary
 */
export function modelWords({ checkpoint, models }) {
  const others = Object.entries(models).map(([topic, one]) => `${topic} by ${digest(one)}`);
  return [`checkpoint ${digest(checkpoint)}`, ...others].join(", ");
}
