// The chosen stream's chart: readings in their expected band, the score against its threshold, anomalies as shaded
// spans over all of it, and what the gates of the memory let through beneath.

import { seenInBand } from "./anomaly_words.js";
import { Plot } from "./plot.js";
import { NOTHING, anomalySpans, before, joined, judged, latest, placeOf } from "./readings.js";
import { clock, number, score } from "./words.js";

/** @typedef {import("./types.d.ts").Reading} Reading */
/** @typedef {import("./types.d.ts").Gate} Gate */
/** @typedef {import("./types.d.ts").Traced} Traced */
/** @typedef {import("./plot.js").Panel} Panel */
/** @typedef {import("./plot.js").Span} Span */
/** @typedef {{ from: number, until: number }} Silence milliseconds: it was open as an anomaly, and no reading came */

const KEPT = 1000; // live readings
const MOST_CHANNELS = 4; // side by side, where no one has chosen one
const MARKED = 250; // readings: more are a line without dots
const DRAW_EVERY_MS = 300;
const REST = 3; // times as long as the last drawing took is left to the rest of the page, on a slow machine too
const LONGEST_REST_MS = 2000;
const HEIGHT = { channels: 0.335, fewest: 84, most: 230, score: 78, gates: 78 }; // pixels; of all channels: a share of the window
const SCORES = /** @type {[number, number]} */ ([0, 1.4]); // so that the threshold, 1, is in it
const SHARES = /** @type {[number, number]} */ ([0, 1]);

export class Chart {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    /** @type {string[]} */
    this.features = [];
    /** @type {(string | null)[]} of each of them */
    this.units = [];
    this.live = NOTHING;
    this.past = NOTHING;
    /** @type {Reading[]} of both */
    this.readings = [];
    /** @type {Gate[]} a value a reading */
    this.gates = [];
    /** @type {string | null} where the readings come from */
    this.place = null;
    /** @type {number | null} a time to be pointed at */
    this.marked = null;
    /** @type {Silence | null} */
    this.silence = null;
    /** @type {string | null} null: those that matter most */
    this.channel = null;
    /** @type {string[]} names of channels that drove the last anomaly */
    this.foremost = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.waiting = undefined;
    this.drawn = Number.NEGATIVE_INFINITY; // when it last was
    this.took = 0; // milliseconds, the last time
    /** Called when a person has looked closer, or shows all again. @type {(closer: boolean) => void} */
    this.zoomed = () => {};
    this.plot = new Plot(element, (closer) => this.zoomed(closer));
  }

  /** All of it, after a closer look. */
  showAll() {
    this.plot.showAll();
  }

  clear() {
    this.features = [];
    this.live = this.past = NOTHING;
    this.readings = [];
    this.gates = [];
    this.marked = this.channel = this.silence = null;
    this.foremost = [];
    clearTimeout(this.waiting);
    this.waiting = undefined;
    this.plot.clear();
    this.zoomed(false);
    this.element.removeAttribute("role");
    this.element.removeAttribute("aria-label");
  }

  /**
   * What the service has traced since the last time, or, on a reset, all that it has kept.
   * @param {Traced} traced
   */
  add(traced) {
    this.live = latest(joined(traced.reset ? NOTHING : this.live, judged(traced)), KEPT);
    this.show(traced);
  }

  /**
   * What was judged again from the topic: it is shown as far as it lies before what is live.
   * @param {Traced} traced
   */
  addPast(traced) {
    this.past = judged(traced);
    this.show(traced);
  }

  /** @param {Traced} traced */
  show(traced) {
    ({ features: this.features, units: this.units } = traced);
    const place = placeOf(traced);
    if (this.place !== place)
      [this.past, this.live] = [this.past, this.live].map((one) => (one.place === place ? one : NOTHING));
    this.place = place;
    ({ readings: this.readings, gates: this.gates } = joined(before(this.past, this.live), this.live));
    this.drawSoon();
  }

  /** @param {Silence | null} silence */
  showSilence(silence) {
    if (this.silence?.from === silence?.from && this.silence?.until === silence?.until) return;
    this.silence = silence;
    this.drawSoon();
  }

  drawSoon() {
    const rest = Math.min(LONGEST_REST_MS, Math.max(DRAW_EVERY_MS, REST * this.took));
    this.waiting ??= setTimeout(
      () => {
        this.waiting = undefined;
        this.draw();
      },
      Math.max(0, this.drawn + rest - performance.now()),
    );
  }

  get channels() {
    if (this.channel !== null) return [this.channel];
    const first = [...new Set([...this.foremost, ...this.features])].slice(0, MOST_CHANNELS);
    return this.features.filter((name) => first.includes(name));
  }

  draw() {
    if (!this.readings.length) return;
    const began = performance.now();
    const channels = this.channels;
    const each = Math.min(HEIGHT.most, Math.max(HEIGHT.fewest, (HEIGHT.channels * innerHeight) / channels.length));
    this.plot.draw({
      times: this.readings.map(({ time }) => Date.parse(time)),
      panels: [...channels.map((name) => this.channelPanel(name, each)), this.scorePanel(), this.gatePanel()],
      spans: this.spans(),
      marked: this.marked,
    });
    this.describe();
    this.drawn = performance.now();
    this.took = this.drawn - began;
  }

  // For those who cannot see it.
  describe() {
    const [first, last] = [this.readings[0], this.readings[this.readings.length - 1]];
    const highest = Math.max(...this.readings.map((reading) => reading.score ?? 0));
    const open = this.readings.filter((reading) => reading.alarm).length;
    this.element.setAttribute("role", "img");
    this.element.setAttribute(
      "aria-label",
      `${number(this.readings.length)} readings of ${this.channels.join(", ")} from ${clock(first.time)} to ${clock(last.time)}: ` +
        `highest score ${score(highest)}, an anomaly open at ${number(open)} of them.`,
    );
  }

  /**
   * @param {string} name
   * @param {number} height
   * @returns {Panel}
   */
  channelPanel(name, height) {
    const at = this.features.indexOf(name);
    const unit = this.units[at] ?? undefined;
    /** @param {"lower" | "upper" | "expected" | "values"} key */
    const column = (key) => this.readings.map((reading) => reading[key][at]);
    const [values, expected, lower, upper] = [column("values"), column("expected"), column("lower"), column("upper")];
    return {
      title: unit ? `${name}, ${unit}` : name,
      height,
      band: { lower, upper },
      lines: [
        { name: "expected", kind: "expected", values: expected },
        { name, kind: "reading", values, dots: values.length <= MARKED },
      ],
      told: (n) => seenInBand({ name, observed: values[n], lower: lower[n], upper: upper[n], unit }),
    };
  }

  /** @returns {Panel} */
  scorePanel() {
    const values = this.readings.map((reading) => reading.score);
    return {
      title: "score",
      height: HEIGHT.score,
      threshold: 1,
      within: SCORES,
      lines: [{ name: "score", kind: "score", values }],
      told: (n) => `score ${shortOf(values[n])}`,
    };
  }

  /** @returns {Panel} */
  gatePanel() {
    return {
      title: "gates",
      height: HEIGHT.gates,
      within: this.gates.some(({ name }) => name === "memory") ? undefined : SHARES,
      lines: this.gates.map(({ name, mean }, n) => ({ name, kind: `gate-${n}`, values: mean })),
      told: (n) => this.gates.map(({ name, mean }) => `${name} ${shortOf(mean[n])}`).join(", "),
    };
  }

  /** The times at which an anomaly was open, and that in which nothing came, which says so. @returns {Span[]} */
  spans() {
    const at = (/** @type {number} */ n) => Date.parse(this.readings[n].time);
    const open = anomalySpans(this.readings).map(({ begin, end }) => ({ from: at(begin), until: at(end) }));
    return this.silence ? [...open, { ...this.silence, words: "no reading" }] : open;
  }
}

/** @param {number | null} value */
const shortOf = (value) => (value === null ? "none" : score(value));
