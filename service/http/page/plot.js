// Panels below one another with one axis of time: drawn as SVG, and what the pointer does there.

import { area, drawn, path, thinned } from "./svg.js";
import { timeTicks, valueTicks } from "./ticks.js";
import { clock } from "./words.js";

/** @typedef {import("./svg.js").Point} Point */
/** @typedef {(number | null)[]} Values one a time */
/** @typedef {{ from: number, until: number, words?: string }} Span milliseconds */
/** @typedef {{ name: string, kind: string, values: Values, dots?: boolean }} Line kind: its class in the style */
/**
 * told: what is said of the n-th time where the pointer is. within: what the axis has at least.
 * @typedef {{
 *   title: string,
 *   height: number,
 *   lines: Line[],
 *   band?: { lower: Values, upper: Values },
 *   threshold?: number,
 *   within?: [number, number],
 *   told: (n: number) => string,
 * }} Panel
 */
/** times: in milliseconds, ascending. marked: a time that was asked for. @typedef {{ times: number[], panels: Panel[], spans: Span[], marked: number | null }} Drawing */
/** @typedef {{ from: number, until: number }} Range */
/** @typedef {{ top: number, height: number, least: number, most: number }} Place of a panel */

const MARGIN = { left: 58, right: 10, top: 20, bottom: 36 }; // pixels, as what follows
const GAP = 23;
const TICK = 80; // a date has room
const VALUE_TICKS = 4;
const HEADROOM = 0.06; // of the values' range, on either side
const LEAST_DRAG = 5;
const LETTER = 6.4; // of an axis's words
const NARROW = 600; // what is told begins at the edge
const HALF_MINUTE_MS = 30_000;

export class Plot {
  /**
   * @param {HTMLElement} element
   * @param {(closer: boolean) => void} zoomed called when a person looks closer, or at all again
   */
  constructor(element, zoomed) {
    this.element = element;
    this.zoomed = zoomed;
    this.svg = drawn("svg", { class: "plot" });
    /** @type {Drawing | null} */
    this.drawing = null;
    /** @type {Range | null} a closer look; null: all */
    this.range = null;
    /** @type {number | null} the time where the pointer is */
    this.pointed = null;
    /** @type {{ from: number, to: number, moved: Range | null } | null} pixels; moved: the range that is moved, null: one is chosen */
    this.drag = null;
    /** @type {SVGElement | null} what follows the pointer */
    this.front = null;
    /** @type {Place[]} */
    this.places = [];
    /** @type {Range} what is drawn */
    this.shown = { from: 0, until: 1 };
    this.width = 0; // pixels
    this.bottom = 0;
    this.hear();
    new ResizeObserver(() => this.element.clientWidth !== this.width && this.drawAgain()).observe(element);
  }

  /** @param {Drawing} drawing of at least one time */
  draw(drawing) {
    this.drawing = drawing;
    this.drawAgain();
  }

  clear() {
    this.drawing = this.range = this.pointed = this.drag = null;
    this.svg.remove();
  }

  showAll() {
    this.range = null;
    this.drawAgain();
    this.zoomed(false);
  }

  drawAgain() {
    const { drawing } = this;
    this.width = this.element.clientWidth;
    if (drawing === null || this.width === 0) return; // on a phone the list is shown instead: drawn when it is not
    this.shown = this.range ?? wholeOf(drawing);
    const within = this.shownTimes(drawing.times);
    this.place(drawing.panels, within);
    const height = this.bottom + MARGIN.bottom;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.setAttribute("height", String(height));
    this.front = drawn("g", { class: "front" });
    this.svg.replaceChildren(
      this.inside(),
      ...this.timeAxis(),
      ...drawing.panels.flatMap((panel, n) => this.panel(panel, this.places[n], within)),
      ...this.spans(drawing),
      this.front,
    );
    this.drawFront();
    if (!this.svg.isConnected) this.element.replaceChildren(this.svg);
  }

  /** Those that are shown, with one beyond either end: lines go on. @param {number[]} times */
  shownTimes(times) {
    const { from, until } = this.shown;
    const first = times.findIndex((time) => time >= from);
    const behind = times.findIndex((time) => time > until);
    const begin = Math.max(0, (first < 0 ? times.length : first) - 1);
    return { begin, end: behind < 0 ? times.length : behind + 1 };
  }

  /**
   * @param {Panel[]} panels
   * @param {{ begin: number, end: number }} within
   */
  place(panels, { begin, end }) {
    let top = MARGIN.top;
    this.places = panels.map(({ height, lines, band, within, threshold }) => {
      const columns = [...lines.map(({ values }) => values), ...(band ? [band.lower, band.upper] : [])];
      const values = [...columns.flatMap((one) => one.slice(begin, end)), threshold ?? null, ...(within ?? [])];
      const known = values.filter((value) => value !== null);
      const [least, most] = known.reduce(
        ([least, most], value) => [Math.min(least, value), Math.max(most, value)],
        [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
      );
      const place = { top, height, ...(known.length ? roomy(least, most) : { least: 0, most: 1 }) };
      top += height + GAP;
      return place;
    });
    this.bottom = top - GAP;
  }

  get right() {
    return Math.max(MARGIN.left + 1, this.width - MARGIN.right);
  }

  /** @param {number} time */
  across(time) {
    const { from, until } = this.shown;
    return MARGIN.left + ((this.right - MARGIN.left) * (time - from)) / (until - from);
  }

  /** @param {number} x */
  timeAt(x) {
    const { from, until } = this.shown;
    return from + ((until - from) * (x - MARGIN.left)) / (this.right - MARGIN.left);
  }

  // --- what is drawn

  /** All panels, as one place for the pointer; lines of a closer look end at its edges. */
  inside() {
    const box = { x: MARGIN.left, y: 0, width: this.right - MARGIN.left, height: this.bottom };
    const group = drawn("g");
    const clip = drawn("clipPath", { id: "inside" });
    clip.append(drawn("rect", box));
    group.append(clip, drawn("rect", { ...box, class: "inside" }));
    return group;
  }

  timeAxis() {
    const { from, until } = this.shown;
    const most = Math.max(2, Math.floor((this.right - MARGIN.left) / TICK));
    return timeTicks(from, until, most).flatMap(({ at, words, date }) => {
      const x = this.across(at);
      const label = { class: "tick", x, "text-anchor": x < MARGIN.left + TICK / 4 ? "start" : "middle" };
      return [
        ...this.places.map(({ top, height }) =>
          drawn("line", { class: "grid", x1: x, x2: x, y1: top, y2: top + height }),
        ),
        drawn("text", { ...label, y: this.bottom + 15 }, words),
        ...(date ? [drawn("text", { ...label, y: this.bottom + 29 }, date)] : []),
      ];
    });
  }

  /**
   * @param {Panel} panel
   * @param {Place} place
   * @param {{ begin: number, end: number }} within
   */
  panel({ title, lines, band, threshold }, place, { begin, end }) {
    const { top, height, least, most } = place;
    const times = /** @type {Drawing} */ (this.drawing).times.slice(begin, end);
    const up = (/** @type {number} */ value) => top + (height * (most - value)) / (most - least);
    /** @param {Values} values */
    const points = (values) =>
      values
        .slice(begin, end)
        .map((value, n) => /** @type {Point | null} */ (value === null ? null : [this.across(times[n]), up(value)]));
    const level = (/** @type {number} */ y, /** @type {string} */ kind) =>
      drawn("line", { class: kind, x1: MARGIN.left, x2: this.right, y1: y, y2: y });
    const ticks = valueTicks(least, most, VALUE_TICKS).flatMap(({ at, words }) => [
      level(up(at), "grid"),
      drawn("text", { class: "tick", x: MARGIN.left - 6, y: up(at) + 4, "text-anchor": "end" }, words),
    ]);
    const inside = drawn("g", { "clip-path": "url(#inside)" });
    if (band) inside.append(drawn("path", { class: "band", d: area(points(band.upper), points(band.lower)) }));
    for (const { name, kind, values, dots } of lines) {
      const all = points(values);
      inside.append(drawn("path", { class: `line ${kind}`, "data-name": name, d: path(thinned(all)) }));
      if (dots) inside.append(drawn("path", { class: `dots ${kind}`, d: dotsAt(all) }));
    }
    return [
      ...ticks,
      ...(threshold === undefined ? [] : [level(up(threshold), "threshold")]),
      inside,
      drawn("text", { class: "title", x: MARGIN.left, y: top - 6 }, title),
    ];
  }

  /**
   * Over all panels: the times of anomalies, and the one that was asked for.
   * @param {Drawing} drawing
   */
  spans({ spans, marked }) {
    const group = drawn("g", { "clip-path": "url(#inside)" });
    for (const { from, until, words } of spans) {
      const [x, end] = [this.across(from), this.across(until)];
      const box = { x, y: MARGIN.top, width: Math.max(1, end - x), height: this.bottom - MARGIN.top };
      group.append(drawn("rect", { ...box, class: "span" }));
      if (words)
        group.append(drawn("text", { class: "word", x: end - 4, y: MARGIN.top + 14, "text-anchor": "end" }, words));
    }
    if (marked !== null) group.append(this.upright(this.across(marked), "marked"));
    return [group];
  }

  /**
   * @param {number} x
   * @param {string} kind
   */
  upright(x, kind) {
    return drawn("line", { class: kind, x1: x, x2: x, y1: MARGIN.top, y2: this.bottom });
  }

  /** What follows the pointer: a line through all panels with the time, what each has there, what is being chosen. */
  drawFront() {
    if (this.drawing === null || this.front === null) return;
    const { times, panels } = this.drawing;
    const pointed = this.pointed === null ? null : nearest(times, this.pointed);
    const x = pointed === null ? Number.NaN : this.across(times[pointed]);
    const isPointed = pointed !== null && x >= MARGIN.left - 1 && x <= this.right + 1;
    this.svg.classList.toggle("pointed", isPointed);
    this.front.replaceChildren();
    if (this.drag && !this.drag.moved) {
      const [x, end] = [this.drag.from, this.drag.to].sort((one, other) => one - other);
      const box = { x, y: MARGIN.top, width: end - x, height: this.bottom - MARGIN.top };
      this.front.append(drawn("rect", { ...box, class: "selected" }));
    }
    if (!isPointed) return;
    const from = this.width < NARROW ? 0 : MARGIN.left;
    this.front.append(
      this.upright(x, "pointer"),
      ...panels.map(({ told }, n) =>
        drawn("text", { class: "told", x: from, y: this.places[n].top - 6 }, told(pointed)),
      ),
      ...this.when(x, clock(times[pointed])),
    );
  }

  /**
   * Below the axis, in place of the tick that is there.
   * @param {number} x
   * @param {string} words
   */
  when(x, words) {
    const width = LETTER * words.length + 8;
    const begin = Math.min(this.width - width, Math.max(0, x - width / 2));
    return [
      drawn("rect", { class: "behind", x: begin, y: this.bottom + 3, width, height: 15 }),
      drawn("text", { class: "when", x: begin + width / 2, y: this.bottom + 15, "text-anchor": "middle" }, words),
    ];
  }

  // --- what the pointer does

  hear() {
    const { svg } = this;
    svg.addEventListener("pointerdown", (event) => this.begin(event));
    svg.addEventListener("pointermove", (event) => this.move(event));
    svg.addEventListener("pointerup", () => this.end());
    svg.addEventListener("pointercancel", () => {
      this.drag = null;
      this.drawFront();
    });
    svg.addEventListener("pointerleave", ({ pointerType }) => {
      if (pointerType === "touch") return; // a finger that is lifted leaves what it has pointed at
      this.pointed = null;
      this.drawFront();
    });
    svg.addEventListener("dblclick", () => this.showAll());
  }

  /** @param {MouseEvent} event */
  placeOf = ({ clientX }) =>
    Math.min(this.right, Math.max(MARGIN.left, clientX - this.svg.getBoundingClientRect().left));

  /** A finger points, and scrolls the page. @param {PointerEvent} event */
  begin(event) {
    const x = this.placeOf(event);
    if (event.pointerType === "touch") this.point(x);
    else if (event.button === 0) {
      event.preventDefault(); // of selecting words
      this.svg.setPointerCapture(event.pointerId);
      this.drag = { from: x, to: x, moved: event.shiftKey ? this.shown : null };
    }
  }

  /** @param {PointerEvent} event */
  move(event) {
    const x = this.placeOf(event);
    if (this.drag?.moved) this.shift(this.drag.from, x, this.drag.moved);
    else {
      if (this.drag) this.drag.to = x;
      this.point(x);
    }
  }

  /** @param {number} x */
  point(x) {
    this.pointed = this.timeAt(x);
    this.drawFront();
  }

  /**
   * @param {number} from
   * @param {number} to
   * @param {Range} range as it was
   */
  shift(from, to, range) {
    const by = ((range.until - range.from) * (from - to)) / (this.right - MARGIN.left);
    this.range = { from: range.from + by, until: range.until + by };
    this.drawAgain();
    this.zoomed(true);
  }

  end() {
    const { drag } = this;
    this.drag = null;
    if (drag && !drag.moved && Math.abs(drag.to - drag.from) >= LEAST_DRAG) {
      const [from, until] = [drag.from, drag.to].sort((one, other) => one - other).map((x) => this.timeAt(x));
      this.range = { from, until };
      this.drawAgain();
      this.zoomed(true);
    } else this.drawFront();
  }
}

/** A single time has a minute around it. @param {Drawing} drawing @returns {Range} */
function wholeOf({ times, spans }) {
  const from = Math.min(times[0], ...spans.map((one) => one.from));
  const until = Math.max(times[times.length - 1], ...spans.map((one) => one.until));
  return from < until ? { from, until } : { from: from - HALF_MINUTE_MS, until: until + HALF_MINUTE_MS };
}

/**
 * @param {number} least
 * @param {number} most
 */
function roomy(least, most) {
  const room = HEADROOM * (most - least) || Math.abs(most) / 20 || 1;
  return { least: least - room, most: most + room };
}

/** Each point a line of no length, which has round ends. @param {(Point | null)[]} points */
const dotsAt = (points) => path(points.flatMap((point) => (point ? [point, point, null] : [])));

/**
 * @param {number[]} times ascending, at least one
 * @param {number} time
 */
export function nearest(times, time) {
  let [low, high] = [0, times.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle;
    else high = middle;
  }
  return Math.abs(times[low] - time) <= Math.abs(times[high] - time) ? low : high;
}
