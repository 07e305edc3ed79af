// Where an axis has its ticks, and what stands there.

import { dateOf, localTime } from "./words.js";

/** @typedef {{ at: number, words: string, date?: string }} Tick date: where the day is another than at the tick before */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  ...[0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30].map((many) => many * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((many) => many * MINUTE),
  ...[1, 2, 3, 6, 12].map((many) => many * HOUR),
  ...[1, 2, 7, 14, 28, 91, 182, 364, 1820].map((many) => many * DAY),
];
const LARGE = 1e6;
const SMALL = 1e-3;

/**
 * At round times of the zone in which times are written.
 * @param {number} from milliseconds
 * @param {number} until
 * @param {number} most how many there is room for
 * @returns {Tick[]}
 */
export function timeTicks(from, until, most) {
  const step = STEPS.find((one) => (until - from) / one <= most) ?? STEPS[STEPS.length - 1];
  /** @type {Tick[]} */
  const ticks = [];
  let date = "";
  for (let local = Math.ceil((from + shift(from)) / step) * step; local - shift(until) <= until; local += step) {
    const at = local - shift(local - shift(from)); // of another shift than the first, where clocks are changed between
    if (at < from || at > until) continue;
    const day = dateOf(at);
    ticks.push({
      at,
      ...(step >= DAY ? { words: day } : { words: timeOf(at, step), ...(day !== date && { date: day }) }),
    });
    date = day;
  }
  return ticks;
}

/** From UTC to the zone's clock, in milliseconds. @param {number} time */
const shift = (time) => Date.parse(`${localTime(time)}Z`) - time;

/**
 * @param {number} time
 * @param {number} step
 */
function timeOf(time, step) {
  const [, clock] = localTime(time).split("T");
  if (step >= MINUTE) return clock.slice(0, 5);
  return step >= SECOND ? clock.slice(0, 8) : clock.slice(0, 10);
}

/**
 * At round values, with as many digits as tell them apart.
 * @param {number} least
 * @param {number} most
 * @param {number} many how many ticks, about
 * @returns {Tick[]}
 */
export function valueTicks(least, most, many) {
  const rough = (most - least) / many;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * ([1, 2, 5].find((one) => one * unit >= rough) ?? 10);
  const [first, last] = [Math.ceil(least / step), Math.floor(most / step)];
  const written = valueWords(step, Math.max(Math.abs(first), Math.abs(last)) * step);
  return Array.from({ length: last - first + 1 }, (_, n) => ({
    at: (first + n) * step,
    words: written.format((first + n) * step),
  }));
}

/**
 * @param {number} step
 * @param {number} largest
 */
function valueWords(step, largest) {
  const notation = largest >= LARGE ? "compact" : largest < SMALL ? "scientific" : "standard";
  if (notation === "standard") {
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    return new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }
  const digits = Math.min(21, Math.max(1, 1 + Math.round(Math.log10(largest / step))));
  return new Intl.NumberFormat("en", { notation, maximumSignificantDigits: digits });
}
