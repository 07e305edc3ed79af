// Judged readings of one stream with the gates at each, as the chart holds them: cut, joined, and where anomalies lie.

/** @typedef {import("./types.d.ts").Reading} Reading */
/** @typedef {import("./types.d.ts").Gate} Gate */
/** @typedef {import("./types.d.ts").Traced} Traced */

/** @typedef {{ readings: Reading[], gates: Gate[], place: string | null }} Part place: the partition they come from */

const GATE_ORDER = ["forget", "input", "output", "reset", "update"];

/** @type {Part} */
export const NOTHING = { readings: [], gates: [], place: null };

/** @param {Pick<Traced, "topic" | "partition">} traced */
export const placeOf = ({ topic, partition }) => `${topic} ${partition}`;

/**
 * @param {Traced} traced
 * @returns {Part}
 */
export function judged(traced) {
  const which = traced.readings.map((reading) => reading.fate === "judged");
  const gates = gatesOf(traced.layers).map(({ name, mean }) => ({ name, mean: mean.filter((_, n) => which[n]) }));
  return { readings: traced.readings.filter((_, n) => which[n]), gates, place: placeOf(traced) };
}

/**
 * @param {Part} part
 * @param {number} begin
 * @param {number} end
 * @returns {Part}
 */
const cut = ({ readings, gates, place }, begin, end) => ({
  readings: readings.slice(begin, end),
  gates: gates.map(({ name, mean }) => ({ name, mean: mean.slice(begin, end) })),
  place,
});

/**
 * @param {Part} part
 * @param {number} most
 */
export const latest = (part, most) => cut(part, Math.max(0, part.readings.length - most), part.readings.length);

/**
 * What of the past lies before what is live.
 * @param {Part} past
 * @param {Part} live
 */
export function before(past, live) {
  const first = live.readings[0]?.offset ?? Number.POSITIVE_INFINITY;
  return cut(past, 0, past.readings.filter((reading) => reading.offset < first).length);
}

/**
 * @param {Part} one
 * @param {Part} other behind it
 * @returns {Part}
 */
export function joined(one, other) {
  if (!one.readings.length) return other;
  if (!other.readings.length) return one;
  const known = Object.fromEntries(other.gates.map(({ name, mean }) => [name, mean]));
  const gates = one.gates.map(({ name, mean }) => ({ name, mean: mean.concat(known[name] ?? []) }));
  return { readings: one.readings.concat(other.readings), gates, place: other.place };
}

/**
 * Means of the top layer's gates; of a recurrence without any, the size of its memory.
 * @param {Traced["layers"]} layers
 * @returns {Gate[]}
 */
function gatesOf(layers) {
  const top = layers.at(-1);
  if (!top) return [];
  const gates = top.gates.filter((gate) => gate.name !== "candidate");
  gates.sort((one, other) => GATE_ORDER.indexOf(one.name) - GATE_ORDER.indexOf(other.name));
  return gates.length ? gates : [{ name: "memory", mean: top.memory }];
}

/**
 * The runs of readings at which an anomaly was open: the first of each, and the one behind it.
 * @param {Pick<Reading, "alarm">[]} readings
 */
export function anomalySpans(readings) {
  /** @type {{ begin: number, end: number }[]} */
  const runs = [];
  readings.forEach((reading, n) => {
    if (!reading.alarm) return;
    const end = Math.min(n + 1, readings.length - 1);
    if (readings[n - 1]?.alarm) runs[runs.length - 1].end = end;
    else runs.push({ begin: n, end });
  });
  return runs;
}
