// The chosen stream's chart: readings in their expected band, the score against its threshold, anomalies as shaded
// spans over all of it, and what the gates of the memory let through beneath.

import { NOTHING, anomalySpans, before, joined, judged, latest, placeOf } from "./readings.js";
import { clock, localTime, number, score } from "./words.js";

/** @typedef {import("./types.d.ts").Reading} Reading */
/** @typedef {import("./types.d.ts").Gate} Gate */
/** @typedef {import("./types.d.ts").Traced} Traced */
/** @typedef {Record<"ink" | "faint" | "line" | "sheet" | "raised" | "reading" | "band" | "expected" | "score" | "alarm" | "critical", string> & { gates: string[] }} Colours */
/** @typedef {{ from: number, until: number }} Silence milliseconds: it was open as an anomaly, and no reading came */
/** @typedef {{ domain: [number, number], range?: [number, number] }} Axis */
/** @typedef {Record<string, any> & { shapes: object[], annotations: object[] }} Layout as the chart library takes it */

const LIBRARY = "/page/plotly.js";
const KEPT = 1000; // live readings
const MOST_CHANNELS = 4; // side by side, where no one has chosen one
const MARKED = 250; // readings: more are a line without dots
const DRAW_EVERY_MS = 300;
const REST = 3; // times as long as the last drawing took is left to the rest of the page, on a slow machine too
const LONGEST_REST_MS = 2000;
const HALF_MINUTE_MS = 30_000;
const TICK = 110; // pixels: a date has room, level
const HEIGHT = { channels: 0.335, fewest: 84, most: 230, score: 78, gates: 78, gap: 23 }; // pixels; of all channels: a share of the window
const GATE_DASHES = ["solid", "dash", "dot"]; // as in the legend: not told apart by colour alone

const VALUE = ",.4~r"; // four digits that count, as in the lists
const SHARE = ".2f";

const coarse = matchMedia("(pointer: coarse)");

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
    this.zoom = 0; // another number: the whole is shown again
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.waiting = undefined;
    this.drawn = Number.NEGATIVE_INFINITY; // when it last was
    this.took = 0; // milliseconds, the last time
    this.begun = false;
    /** @type {HTMLScriptElement | null} the library, once it is needed */
    this.library = null;
    /** Called when a person has zoomed in, or shows all again. @type {(closer: boolean) => void} */
    this.zoomed = () => {};
    this.hearDoubleClicks();
  }

  /** Called once there are lists to see: nothing is drawn before. Until a stream is chosen the library is only fetched. */
  begin() {
    this.begun = true;
    this.draw();
    if (this.library) return;
    const ahead = document.createElement("link");
    Object.assign(ahead, { rel: "prefetch", as: "script", href: LIBRARY });
    document.head.append(ahead);
  }

  /** The library is large, and a browser does nothing else while it reads it. */
  load() {
    if (this.library) return;
    this.library = document.createElement("script");
    this.library.src = LIBRARY;
    this.library.addEventListener("load", () => this.draw());
    document.head.append(this.library);
  }

  /** All of it, after a closer look. */
  showAll() {
    this.zoom += 1;
    this.draw();
    this.zoomed(false);
  }

  clear() {
    this.features = [];
    this.live = this.past = NOTHING;
    this.readings = [];
    this.gates = [];
    this.marked = this.channel = this.silence = null;
    this.foremost = [];
    this.zoom += 1;
    clearTimeout(this.waiting);
    this.waiting = undefined;
    if (window.Plotly && this.element.classList.contains("js-plotly-plot")) Plotly.purge(this.element);
    this.zoomed(false);
    this.element.replaceChildren();
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
    if (!this.readings.length || !this.begun) return;
    if (!window.Plotly) return this.load();
    const channels = this.channels;
    const each = Math.min(HEIGHT.most, Math.max(HEIGHT.fewest, (HEIGHT.channels * innerHeight) / channels.length));
    const heights = [...channels.map(() => each), HEIGHT.score, HEIGHT.gates];
    const colours = coloursOf(this.element);
    const layout = frame(heights, colours, this.zoom);
    layout.xaxis.nticks = Math.max(2, Math.floor(this.element.clientWidth / TICK));
    const times = this.readings.map((reading) => localTime(reading.time));
    /** @type {object[]} */
    const traces = channels.flatMap((name, n) => this.channelTraces(name, n + 1, times, colours, layout));
    traces.push(...this.scoreTraces(channels.length + 1, times, colours, layout));
    traces.push(...this.gateTraces(channels.length + 2, times, colours, layout));
    layout.shapes.push(...spans(this.readings, times, colours), ...pointer(this.marked, colours));
    if (times[0] === times[times.length - 1]) layout.xaxis.range = around(this.readings[0].time);
    if (this.silence) addSilence(layout, this.silence, times, colours);
    layout.dragmode = coarse.matches ? false : "zoom"; // a finger scrolls the page
    this.describe();
    const began = performance.now();
    Plotly.react(this.element, traces, layout, { displayModeBar: false, responsive: true, doubleClick: false });
    this.listen();
    this.drawn = performance.now();
    this.took = this.drawn - began;
  }

  /** Purged with what was drawn: then it listens again. */
  listen() {
    const drawn = /** @type {import("./types.d.ts").Drawn} */ (/** @type {unknown} */ (this.element));
    drawn.removeAllListeners("plotly_relayout");
    drawn.on("plotly_relayout", (changes) => {
      if ("xaxis.range[0]" in changes) this.zoomed(true);
    });
  }

  /** The system's own, which has the speed that its user chose; the library's is 300 ms by a clock that stops on a busy page. */
  hearDoubleClicks() {
    const pressed = (/** @type {MouseEvent} */ { detail }) => {
      if (detail === 2) addEventListener("mouseup", () => this.showAll(), { once: true });
    };
    this.element.addEventListener("mousedown", pressed, { capture: true });
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
   * @param {number} row
   * @param {string[]} times
   * @param {Colours} colours
   * @param {Layout} layout
   */
  channelTraces(name, row, times, colours, layout) {
    const at = this.features.indexOf(name);
    /** @param {"lower" | "upper" | "expected" | "values"} key */
    const column = (key) => this.readings.map((reading) => reading[key][at]);
    const common = { x: times, yaxis: `y${row}`, hoverinfo: "skip", mode: "lines" };
    const unit = this.units[at] ?? "";
    label(layout, row, unit ? `${name}, ${unit}` : name);
    return [
      { ...common, y: column("lower"), line: { width: 0 } },
      { ...common, y: column("upper"), line: { width: 0 }, fill: "tonexty", fillcolor: colours.band },
      {
        ...common,
        y: column("expected"),
        line: { width: 1.2, color: colours.expected, dash: "dot" },
        name: "expected",
        ...hover("expected", VALUE),
      },
      {
        ...common,
        y: column("values"),
        mode: times.length > MARKED ? "lines" : "lines+markers",
        line: { width: 1.4, color: colours.reading },
        marker: { size: 3, color: colours.reading },
        name,
        ...hover(name, VALUE, unit),
      },
    ];
  }

  /**
   * @param {number} row
   * @param {string[]} times
   * @param {Colours} colours
   * @param {Layout} layout
   */
  scoreTraces(row, times, colours, layout) {
    label(layout, row, "score");
    const scores = this.readings.map((reading) => reading.score);
    layout[`yaxis${row}`].range = [0, Math.max(1.5, 1.08 * Math.max(...scores))];
    layout.shapes.push({
      type: "line",
      xref: "paper",
      x0: 0,
      x1: 1,
      yref: `y${row}`,
      y0: 1,
      y1: 1,
      line: { width: 1, dash: "dash", color: colours.critical },
    });
    return [
      {
        x: times,
        y: scores,
        yaxis: `y${row}`,
        mode: "lines",
        name: "score",
        ...hover("score", SHARE),
        line: { width: 1.5, color: colours.score },
      },
    ];
  }

  /**
   * @param {number} row
   * @param {string[]} times
   * @param {Colours} colours
   * @param {Layout} layout
   */
  gateTraces(row, times, colours, layout) {
    label(layout, row, "gates");
    return this.gates.map((gate, n) => ({
      x: times,
      y: gate.mean,
      yaxis: `y${row}`,
      mode: "lines",
      name: gate.name,
      ...hover(gate.name, SHARE),
      line: { width: 1.4, color: colours.gates[n % colours.gates.length], dash: GATE_DASHES[n % GATE_DASHES.length] },
    }));
  }
}

/**
 * What is said of a reading where the pointer is; the time is said once.
 * @param {string} name
 * @param {string} format
 */
const hover = (name, format, unit = "") => ({
  hoverinfo: "all",
  hovertemplate: `${escaped(name)} %{y:${format}} ${escaped(unit)}<extra></extra>`,
});

/**
 * @param {number[]} heights pixels, of each row
 * @param {Colours} colours
 * @param {number} zoom
 * @returns {Layout}
 */
function frame(heights, colours, zoom) {
  const margin = { l: 58, r: 10, t: 20, b: 36 };
  const inside = heights.reduce((sum, height) => sum + height + HEIGHT.gap, -HEIGHT.gap);
  /** @type {Layout} */
  const layout = {
    height: inside + margin.t + margin.b,
    margin,
    shapes: [],
    annotations: [],
    showlegend: false,
    paper_bgcolor: colours.sheet,
    plot_bgcolor: colours.sheet,
    uirevision: zoom,
    hovermode: "x",
    hoversubplots: "axis", // one line and one time through all panels
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colours.faint },
    hoverlabel: { bgcolor: colours.raised, bordercolor: colours.line, font: { color: colours.ink } },
    xaxis: {
      type: "date",
      anchor: `y${heights.length}`,
      gridcolor: colours.line,
      linecolor: colours.line,
      zeroline: false,
      tickfont: { size: 11 },
      tickangle: 0,
      showspikes: true,
      spikemode: "across",
      spikesnap: "hovered data",
      spikedash: "solid",
      spikethickness: 1,
      spikecolor: colours.faint,
      hoverformat: "%-d %b %Y %H:%M:%S",
    },
  };
  let top = inside;
  heights.forEach((height, n) => {
    layout[`yaxis${n + 1}`] = {
      domain: [Math.max(0, (top - height) / inside), top / inside],
      gridcolor: colours.line,
      zeroline: false,
      nticks: 4,
      tickfont: { size: 11 },
      automargin: false,
      fixedrange: true,
    };
    top -= height + HEIGHT.gap;
  });
  return layout;
}

/**
 * @param {Layout} layout
 * @param {number} row
 * @param {string} text
 */
function label(layout, row, text) {
  layout.annotations.push({
    text: escaped(text),
    xref: "paper",
    x: 0,
    xanchor: "left",
    yref: "paper",
    y: layout[`yaxis${row}`].domain[1],
    yanchor: "bottom",
    showarrow: false,
    font: { size: 12 },
  });
}

/**
 * A shaded rectangle over all rows for every run of readings at which the alarm was open.
 * @param {Reading[]} readings
 * @param {string[]} times
 * @param {Colours} colours
 */
function spans(readings, times, colours) {
  return anomalySpans(readings).map(({ begin, end }) => span(times[begin], times[end], colours));
}

/**
 * @param {string} x0
 * @param {string} x1
 * @param {Colours} colours
 */
function span(x0, x1, colours) {
  const line = { width: 1, color: colours.alarm };
  return {
    type: "rect",
    xref: "x",
    yref: "paper",
    x0,
    x1,
    y0: 0,
    y1: 1,
    fillcolor: colours.alarm,
    line,
    layer: "below",
  };
}

/**
 * A single reading has a minute around it.
 * @param {string} time
 */
const around = (time) => [-HALF_MINUTE_MS, HALF_MINUTE_MS].map((ms) => localTime(Date.parse(time) + ms));

/**
 * The time in which nothing came is in what is shown, and says so.
 * @param {Layout} layout
 * @param {Silence} silence
 * @param {string[]} times of the readings
 * @param {Colours} colours
 */
function addSilence(layout, { from, until }, times, colours) {
  const [begin, end] = [localTime(from), localTime(until)];
  const [first, , , last] = [times[0], times[times.length - 1], begin, end].sort(); // as texts in the order of time
  layout.xaxis.range = [first, last];
  layout.shapes.push(span(begin, end, colours));
  const place = { xref: "x", x: end, xanchor: "right", yref: "paper", y: 0.99, yanchor: "top" }; // short ones too
  layout.annotations.push({ ...place, text: "no reading", showarrow: false, font: { color: colours.ink } });
}

/**
 * A line over all rows at the time that was asked for.
 * @param {number | null} time
 * @param {Colours} colours
 */
function pointer(time, colours) {
  if (time === null) return [];
  const x = localTime(time);
  const line = { width: 1, dash: "dot", color: colours.faint };
  return [{ type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line }];
}

/**
 * @param {HTMLElement} element
 * @returns {Colours}
 */
function coloursOf(element) {
  const probe = document.createElement("span");
  element.append(probe);
  /** @param {string} name */
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const names = [
    "ink",
    "faint",
    "line",
    "sheet",
    "raised",
    "reading",
    "band",
    "expected",
    "score",
    "alarm",
    "critical",
  ];
  const found = Object.fromEntries(names.map((name) => [name, colour(name)]));
  const gates = ["gate-forget", "gate-input", "gate-output"].map(colour);
  probe.remove();
  return /** @type {Colours} */ ({ ...found, gates });
}

/** @param {string} text */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
