// What the page knows: one object, which its modules read and change.

import { Lately, Since } from "./lately.js";
import { serviceTime } from "./standing.js";

/** @typedef {import("./types.d.ts").Place} Place */
/** @typedef {import("./types.d.ts").AnomalyEvent} AnomalyEvent */
/** @typedef {import("./types.d.ts").Stream} Stream */
/** @typedef {import("./types.d.ts").OpenAnomaly} OpenAnomaly */
/** @typedef {import("./types.d.ts").ControlsFound} ControlsFound */

export const page = {
  /** @type {Place} what is chosen */
  place: { stream: null, at: null, readings: null, anomaly: null, incident: null },
  looked: false, // its past has been asked for
  newer: false, // the topic has readings after the past that is shown
  /** @type {import("./types.d.ts").Incident | null} that the chosen anomaly belongs to */
  incident: null,
  /** @type {string | null} the incident that the address named, until its members are asked for */
  named: null,
  excused: false, // it has been said why no stream is chosen
  skipped: 0, // streams, before those that are listed
  /** @type {AnomalyEvent[]} the newest first */
  recent: [],
  /** @type {OpenAnomaly[]} as last listed */
  open: [],
  /** @type {ControlsFound} what people have said, as last listed */
  controls: { followed: false, may_write: false, found: 0, controls: [] },
  lately: new Lately(),
  opened: new Since(),
  /** @type {Since | null} since the last summary came */
  heard: null,
  lost: false, // the connection has ended
  /** @type {string | null} why the service does not answer */
  refused: null,
  /** @type {Stream[]} that have been silent longest */
  silent: [],
  /** @type {number | null} open anomalies, as last listed; null: not known */
  found: null,
};

/** Now, by the service's clock: a browser's may be wrong. */
export const serviceNow = () => (page.lately.now && page.heard ? serviceTime(page.lately.now, page.heard) : Date.now());

/** Of any stream, in milliseconds: as the service knows it, or its clock. */
export const newestReading = () => page.lately.now?.event_time_ms ?? serviceNow();

/**
 * What cannot be had now is asked for again soon; the state says what is the matter.
 * @param {() => Promise<unknown>} show
 */
export const quietly = (show) => show().catch(() => {});
