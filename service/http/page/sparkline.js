// A small chart: one channel's readings in the band that was expected, with the time at which an anomaly was open.

import { anomalySpans, judged } from "./readings.js";
import { area, drawn, path, round } from "./svg.js";
import { clock } from "./words.js";

/** @typedef {import("./types.d.ts").Traced} Traced */

export const WIDTH = 240;
export const HEIGHT = 56;
const MARGIN = 3;

/**
 * @param {Traced} traced
 * @param {string} channel
 * @returns {SVGElement | null} null: there are no two readings
 */
export function sparkline(traced, channel) {
  const lines = linesOf(traced, channel);
  if (lines === null) return null;
  const { readings } = judged(traced);
  const words = `${channel} from ${clock(readings[0].time)} to ${clock(readings[readings.length - 1].time)}`;
  const svg = drawn("svg", { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" });
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${words}, in the band that was expected`);
  for (const { x, width } of lines.spans) {
    svg.append(drawn("rect", { class: "span", x, width, y: 0, height: HEIGHT }));
  }
  if (lines.band) svg.append(drawn("path", { class: "band", d: lines.band }));
  svg.append(drawn("path", { class: "line", d: lines.reading }));
  return svg;
}

/**
 * Paths in a box of WIDTH times HEIGHT.
 * @param {Traced} traced
 * @param {string} channel
 */
export function linesOf(traced, channel) {
  const { readings } = judged(traced);
  const n = Math.max(0, traced.features.indexOf(channel));
  const values = readings.flatMap(({ values, lower, upper }) => [values[n], lower[n], upper[n]]);
  const known = values.filter((value) => value !== null);
  if (readings.length < 2 || !known.length) return null;
  const [first, last] = [readings[0], readings[readings.length - 1]].map(({ time }) => Date.parse(time));
  const [least, most] = [Math.min(...known), Math.max(...known)];
  /** @param {string} time */
  const across = (time) => round((WIDTH * (Date.parse(time) - first)) / (last - first || 1));
  /** @param {number} value */
  const up = (value) => round(HEIGHT - MARGIN - ((HEIGHT - 2 * MARGIN) * (value - least)) / (most - least || 1));
  /** @type {(value: number | null, time: string) => [number, number] | null} */
  const point = (value, time) => (value === null ? null : [across(time), up(value)]);
  const [upper, lower] = [
    readings.map((one) => point(one.upper[n], one.time)),
    readings.map((one) => point(one.lower[n], one.time)),
  ];
  return {
    reading: path(readings.map((one) => point(one.values[n], one.time))),
    band: area(upper, lower),
    spans: anomalySpans(readings).map(({ begin, end }) => {
      const x = across(readings[begin].time);
      return { x, width: Math.max(1, across(readings[end].time) - x) };
    }),
  };
}
