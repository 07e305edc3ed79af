// The service's figures in the last minutes, and the time since something happened.

/** @typedef {import("./types.d.ts").Summary} Summary */

export const WINDOW_MS = 300_000; // "lately"
export const SETTLED_MS = 10_000; // a shorter window says little
const RATE_MS = 1500;

// The time since something happened. A page's own clock may stand still while its computer sleeps, and the wall clock
// may be set: the longer of the two counts.
export class Since {
  constructor() {
    this.monotonic = performance.now();
    this.wall = Date.now();
  }

  get ms() {
    return Math.max(performance.now() - this.monotonic, Date.now() - this.wall);
  }
}

// What the service's figures were in the last minutes, for as long as the page has been open.
export class Lately {
  constructor() {
    /** @type {Summary[]} the oldest first */
    this.seen = [];
  }

  /** @param {Summary} summary */
  add(summary) {
    const last = this.seen.at(-1);
    if (last && (last.started_ms !== summary.started_ms || summary.published_ms < last.published_ms)) this.seen = [];
    else if (last && last.published_ms === summary.published_ms) this.seen.pop(); // the same, but older
    this.seen.push(summary);
    while (this.seen.length > 1 && summary.published_ms - this.seen[0].published_ms > WINDOW_MS) this.seen.shift();
  }

  /** The newest, once there is one. */
  get now() {
    return this.seen[this.seen.length - 1];
  }

  /**
   * The newest that is at least so old; else the oldest.
   * @param {number} ms
   */
  before(ms) {
    return this.seen.findLast((one) => this.now.published_ms - one.published_ms >= ms) ?? this.seen[0];
  }

  get ms() {
    return this.now.published_ms - this.seen[0].published_ms;
  }

  // Readings a second; null: not known yet.
  get rate() {
    const before = this.before(RATE_MS);
    const ms = this.now.published_ms - before.published_ms;
    return ms < RATE_MS ? null : (1000 * (this.now.readings - before.readings)) / ms;
  }

  /**
   * Milliseconds of event time between two readings of a stream, on average; null: not known.
   * @returns {number | null}
   */
  get interval() {
    const [first, last] = [this.seen[0], this.now];
    const readings = last.readings - first.readings;
    if (first.event_time_ms === null || last.event_time_ms === null) return null;
    if (readings < 2 * last.streams || this.ms < SETTLED_MS) return null;
    return ((last.event_time_ms - first.event_time_ms) * last.streams) / readings || null;
  }

  // For how long no reading has come: at least so long.
  get quiet() {
    const { readings } = this.now;
    const first = this.seen.find((one) => one.readings === readings) ?? this.now;
    return this.now.published_ms - first.published_ms;
  }

  get words() {
    return this.ms < WINDOW_MS - SETTLED_MS ? "since this page was opened" : "in the last 5 min";
  }
}
