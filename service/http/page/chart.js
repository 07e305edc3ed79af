// The chosen stream's chart: readings in their expected band, the score against its threshold, anomalies as shaded
// spans over all of it, and what the gates of the memory let through beneath.

/* global Plotly */

import { clock, localTime, number, score } from "./words.js";

const KEPT = 1000; // live readings
const MOST_CHANNELS = 4; // side by side, where no one has chosen one
const MARKED = 250; // readings: more are a line without dots
const DRAW_EVERY_MS = 300;
const HEIGHT = { channels: 0.335, fewest: 84, most: 230, score: 78, gates: 78, gap: 23 }; // pixels; of all channels: a share of the window
const GATE_DASHES = ["solid", "dash", "dot"]; // as in the legend: not told apart by colour alone
const GATE_ORDER = ["forget", "input", "output", "reset", "update"];

const coarse = matchMedia("(pointer: coarse)");

export class Chart {
  constructor(element) {
    this.element = element;
    this.waiting = null;
    this.clear();
  }

  clear() {
    this.features = [];
    this.live = NOTHING;
    this.past = NOTHING;
    this.readings = []; // of both
    this.gates = []; // {name, mean: a value a reading}
    this.marked = null; // a time to be pointed at
    this.channel = null; // null: those that matter most
    this.foremost = []; // names of channels that drove the last anomaly
    this.zoom = (this.zoom ?? 0) + 1;
    clearTimeout(this.waiting);
    this.waiting = null;
    if (window.Plotly && this.element.classList.contains("js-plotly-plot")) Plotly.purge(this.element);
    this.element.replaceChildren();
    this.element.removeAttribute("role");
    this.element.removeAttribute("aria-label");
  }

  // What the service has traced since the last time, or, on a reset, all that it has kept.
  add(traced) {
    this.live = latest(joined(traced.reset ? NOTHING : this.live, judged(traced)), KEPT);
    this.show(traced);
  }

  // What was judged again from the topic: it is shown as far as it lies before what is live.
  addPast(traced) {
    this.past = judged(traced);
    this.show(traced);
  }

  show({ features, topic, partition }) {
    this.features = features;
    const place = `${topic} ${partition}`;
    if (this.place !== place) [this.past, this.live] = [this.past, this.live].map((one) => (one.place === place ? one : NOTHING));
    this.place = place;
    const first = this.live.readings[0]?.offset ?? Infinity;
    const before = this.past.readings.filter((reading) => reading.offset < first).length;
    ({ readings: this.readings, gates: this.gates } = joined(cut(this.past, 0, before), this.live));
    this.drawSoon();
  }

  drawSoon() {
    this.waiting ??= setTimeout(
      () => {
        this.waiting = null;
        this.draw();
      },
      this.drawn && performance.now() - this.drawn < DRAW_EVERY_MS ? DRAW_EVERY_MS : 0,
    );
  }

  get channels() {
    if (this.channel !== null) return [this.channel];
    const first = [...new Set([...this.foremost, ...this.features])].slice(0, MOST_CHANNELS);
    return this.features.filter((name) => first.includes(name));
  }

  draw() {
    if (!this.readings.length) return;
    const channels = this.channels;
    const each = Math.min(HEIGHT.most, Math.max(HEIGHT.fewest, (HEIGHT.channels * innerHeight) / channels.length));
    const heights = [...channels.map(() => each), HEIGHT.score, HEIGHT.gates];
    const colours = coloursOf(this.element);
    const layout = frame(heights, colours, this.zoom);
    const times = this.readings.map((reading) => localTime(reading.time));
    const traces = channels.flatMap((name, n) => this.channelTraces(name, n + 1, times, colours, layout));
    traces.push(...this.scoreTraces(channels.length + 1, times, colours, layout));
    traces.push(...this.gateTraces(channels.length + 2, times, colours, layout));
    layout.shapes.push(...spans(this.readings, times, colours), ...pointer(this.marked, colours));
    layout.dragmode = coarse.matches ? false : "zoom"; // a finger scrolls the page
    this.drawn = performance.now();
    this.describe();
    Plotly.react(this.element, traces, layout, { displayModeBar: false, responsive: true, doubleClick: "reset" });
  }

  // For those who cannot see it.
  describe() {
    const [first, last] = [this.readings[0], this.readings.at(-1)];
    const highest = Math.max(...this.readings.map((reading) => reading.score ?? 0));
    const open = this.readings.filter((reading) => reading.alarm).length;
    this.element.setAttribute("role", "img");
    this.element.setAttribute(
      "aria-label",
      `${number(this.readings.length)} readings of ${this.channels.join(", ")} from ${clock(first.time)} to ${clock(last.time)}: ` +
        `highest score ${score(highest)}, an anomaly open at ${number(open)} of them.`,
    );
  }

  channelTraces(name, row, times, colours, layout) {
    const at = this.features.indexOf(name);
    const column = (key) => this.readings.map((reading) => reading[key][at]);
    const common = { x: times, yaxis: `y${row}`, hoverinfo: "skip", mode: "lines" };
    label(layout, row, name);
    return [
      { ...common, y: column("lower"), line: { width: 0 } },
      { ...common, y: column("upper"), line: { width: 0 }, fill: "tonexty", fillcolor: colours.band },
      {
        ...common,
        y: column("expected"),
        line: { width: 1.2, color: colours.expected, dash: "dot" },
        name: "expected",
        hoverinfo: "y+name",
      },
      {
        ...common,
        y: column("values"),
        mode: times.length > MARKED ? "lines" : "lines+markers",
        line: { width: 1.4, color: colours.reading },
        marker: { size: 3, color: colours.reading },
        name,
        hoverinfo: "x+y+name",
      },
    ];
  }

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
        hoverinfo: "y+name",
        line: { width: 1.5, color: colours.score },
      },
    ];
  }

  gateTraces(row, times, colours, layout) {
    label(layout, row, "gates");
    return this.gates.map((gate, n) => ({
      x: times,
      y: gate.mean,
      yaxis: `y${row}`,
      mode: "lines",
      name: gate.name,
      hoverinfo: "y+name",
      line: { width: 1.4, color: colours.gates[n % colours.gates.length], dash: GATE_DASHES[n % GATE_DASHES.length] },
    }));
  }
}

// Readings that were judged, with the gates at each, and where they come from.
const NOTHING = { readings: [], gates: [], place: null };

function judged(traced) {
  const which = traced.readings.map((reading) => reading.fate === "judged");
  const kept = (values) => values.filter((_, n) => which[n]);
  const gates = gatesOf(traced.layers).map(({ name, mean }) => ({ name, mean: kept(mean) }));
  return { readings: kept(traced.readings), gates, place: `${traced.topic} ${traced.partition}` };
}

const cut = ({ readings, gates, place }, begin, end) => ({
  readings: readings.slice(begin, end),
  gates: gates.map(({ name, mean }) => ({ name, mean: mean.slice(begin, end) })),
  place,
});

const latest = (part, most) => cut(part, Math.max(0, part.readings.length - most));

function joined(one, other) {
  if (!one.readings.length) return other;
  if (!other.readings.length) return one;
  const known = Object.fromEntries(other.gates.map(({ name, mean }) => [name, mean]));
  const gates = one.gates.map(({ name, mean }) => ({ name, mean: mean.concat(known[name] ?? []) }));
  return { readings: one.readings.concat(other.readings), gates, place: other.place };
}

// Means of the top layer's gates; of a recurrence without any, the size of its memory.
function gatesOf(layers) {
  if (!layers.length) return [];
  const top = layers.at(-1);
  const gates = top.gates.filter((gate) => gate.name !== "candidate");
  gates.sort((one, other) => GATE_ORDER.indexOf(one.name) - GATE_ORDER.indexOf(other.name));
  return gates.length ? gates : [{ name: "memory", mean: top.memory }];
}

function frame(heights, colours, zoom) {
  const margin = { l: 58, r: 10, t: 20, b: 36 };
  const inside = heights.reduce((sum, height) => sum + height + HEIGHT.gap, -HEIGHT.gap);
  const layout = {
    height: inside + margin.t + margin.b,
    margin,
    shapes: [],
    annotations: [],
    showlegend: false,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    uirevision: zoom,
    hovermode: "x",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colours.faint },
    hoverlabel: { bgcolor: colours.raised, bordercolor: colours.line, font: { color: colours.ink } },
    xaxis: {
      type: "date",
      anchor: `y${heights.length}`,
      gridcolor: colours.line,
      linecolor: colours.line,
      zeroline: false,
      tickfont: { size: 11 },
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

// A shaded rectangle over all rows for every run of readings at which the alarm was open.
function spans(readings, times, colours) {
  const shapes = [];
  readings.forEach((reading, n) => {
    if (reading.alarm && !readings[n - 1]?.alarm) shapes.push({ begin: n, end: n });
    if (reading.alarm) shapes.at(-1).end = Math.min(n + 1, readings.length - 1);
  });
  return shapes.map(({ begin, end }) => ({
    type: "rect",
    xref: "x",
    yref: "paper",
    x0: times[begin],
    x1: times[end],
    y0: 0,
    y1: 1,
    fillcolor: colours.alarm,
    line: { width: 1, color: colours.alarm },
    layer: "below",
  }));
}

// A line over all rows at the time that was asked for.
function pointer(time, colours) {
  if (time === null) return [];
  const x = localTime(time);
  const line = { width: 1, dash: "dot", color: colours.faint };
  return [{ type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line }];
}

function coloursOf(element) {
  const probe = document.createElement("span");
  element.append(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const names = ["ink", "faint", "line", "raised", "reading", "band", "expected", "score", "alarm", "critical"];
  const found = Object.fromEntries(names.map((name) => [name, colour(name)]));
  found.gates = ["gate-forget", "gate-input", "gate-output"].map(colour);
  probe.remove();
  return found;
}

const escaped = (text) => text.replace(/[&<>]/g, (letter) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[letter]);
