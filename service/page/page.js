// The live page: what is wrong now, the strangest streams, the chosen one's chart, what happened lately.

import { Chart } from "./chart.js";
import { ask, follow } from "./service.js";

const PAGE = 25; // streams
const LIST_EVERY_MS = 2000;
const RECENT = 60;
const SEARCH_AFTER_MS = 150;

const $ = (id) => document.getElementById(id);
const chart = new Chart($("chart"));
const numbers = new Intl.NumberFormat("en");
const page = {
  stream: null, // that is chosen
  skipped: 0,
  recent: [], // anomaly events, newest first
  last: null, // summary
  end: () => {},
};

// --- the service's own state

function showSummary(summary) {
  const restoring = summary.partitions - summary.partitions_ready;
  showState(summary.ready ? "ready" : restoring ? "busy" : "gone", summary.ready ? "ready" : summary.reason);
  $("state").title = summary.reason;
  const warming = summary.warming ? `, ${numbers.format(summary.warming)} learning` : "";
  $("figure-streams").textContent = numbers.format(summary.streams) + warming;
  $("figure-lag").textContent = numbers.format(summary.lag);
  $("figure-newest").textContent = summary.event_time_ms === null ? "–" : ago(summary.event_time_ms);
  $("figure-newest").title = summary.event_time_ms === null ? "" : clock(summary.event_time_ms);
  $("build").textContent = `Telltale ${summary.version}, checkpoint ${summary.checkpoint.slice(0, 12)}.`;
  showRate(summary);
}

function showRate(summary) {
  const last = page.last;
  if (last === null || last.started_ms !== summary.started_ms) {
    page.last = summary;
  } else if (summary.published_ms - last.published_ms >= 1500) {
    const rate = (1000 * (summary.readings - last.readings)) / (summary.published_ms - last.published_ms);
    $("figure-rate").textContent = numbers.format(rate < 10 ? Math.round(10 * rate) / 10 : Math.round(rate));
    page.last = summary;
  }
}

function showState(state, text) {
  $("state").dataset.state = state;
  if ($("state").textContent !== text) $("state").textContent = text; // what does not change is not read out again
}

// --- what is wrong now

async function showOpen() {
  const { found, anomalies } = await ask("anomalies/open", { limit: 100 });
  document.title = found ? `(${found}) Telltale` : "Telltale";
  $("open-count").textContent = found ? numbers.format(found) : "";
  $("open-count").classList.toggle("hot", found > 0);
  $("open-none").hidden = found > 0;
  $("open-more").hidden = found <= anomalies.length;
  $("open-more").textContent = `and ${numbers.format(found - anomalies.length)} more, less strange than these`;
  replace($("open"), anomalies.map(openRow));
  if (page.stream === null && anomalies.length) choose(anomalies[0].stream.stream);
}

function openRow({ stream, kind, channels }) {
  const alarm = stream.alarm;
  const row = pick(stream.stream, "open");
  row.append(
    text("span", stream.stream, "name"),
    text("span", `${clock(alarm.opened_at)}, ${since(alarm.opened_at, stream.time)}`, "since"),
    detail([
      text("span", alarm.severity, `severity ${alarm.severity}`),
      `peak ${score(alarm.peak)}`,
      kindName(kind ?? alarm.opened_by),
      channels && shares(channels),
    ]),
  );
  return item(row);
}

function detail(parts) {
  const line = text("span", "", "detail");
  parts.filter(Boolean).forEach((part, n) => line.append(...(n ? [" · ", part] : [part])));
  return line;
}

// --- all streams

async function showStreams() {
  const parameters = { search: $("search").value, sort: $("sort").value, offset: page.skipped, limit: PAGE };
  const { held, found, streams } = await ask("streams", parameters);
  if (page.skipped && page.skipped >= found) {
    page.skipped = 0;
    return showStreams();
  }
  $("streams-count").textContent = parameters.search ? `${numbers.format(found)} of ${numbers.format(held)}` : numbers.format(held);
  $("place").textContent = found
    ? `${numbers.format(page.skipped + 1)} to ${numbers.format(page.skipped + streams.length)} of ${numbers.format(found)}`
    : "no stream has that in its name";
  $("before").disabled = page.skipped === 0;
  $("after").disabled = page.skipped + streams.length >= found;
  replace($("streams"), streams.map(streamRow));
}

function streamRow(stream) {
  const row = pick(stream.stream, "stream");
  const silent = $("sort").value === "silence";
  row.append(text("span", stream.stream, "name"), silent ? text("span", ago(stream.time), "since") : gauge(stream));
  return item(row);
}

function gauge(stream) {
  const box = text("span", "", stream.score >= 1 || stream.alarm ? "gauge hot" : "gauge");
  const track = text("span", "", "track");
  const fill = text("span", "", "fill");
  fill.style.width = `${100 * Math.min(1, stream.score ?? 0)}%`;
  track.append(fill);
  box.append(track, text("span", stream.score === null ? "–" : score(stream.score), "value"));
  return box;
}

// --- the chosen stream

function choose(stream) {
  page.stream = stream;
  history.replaceState(null, "", `#${encodeURIComponent(stream)}`);
  $("chosen-title").textContent = stream;
  $("chosen-note").textContent = "Its readings are kept from now on.";
  $("legend").hidden = $("channel").hidden = true;
  chart.clear();
  markChosen();
  listen();
}

function markChosen() {
  for (const row of document.querySelectorAll(".pick")) row.setAttribute("aria-current", row.dataset.stream === page.stream);
}

function showReadings(traced) {
  if (traced.stream !== page.stream) return;
  chart.foremost = foremost(traced.stream);
  chart.add(traced);
  const first = chart.readings[0];
  const where = `${traced.topic}, partition ${traced.partition}`;
  $("chosen-note").textContent = first
    ? `${where}. Readings since ${clock(first.time)}, which is as far back as they are kept.`
    : `${where}. Nothing has come since it is looked at; its readings are kept from now on.`;
  showTools();
}

function showTools() {
  $("legend").hidden = !chart.readings.length;
  replace($("key-gates"), chart.gates.map((gate, n) => {
    const key = text("span", gate.name === "memory" ? "size of the memory" : `${gate.name} gate`, "gate");
    key.dataset.gate = n;
    return key;
  }));
  const choice = $("channel");
  choice.hidden = chart.features.length < 2;
  if (choice.options.length !== chart.features.length + 1) {
    const all = chart.channels.length < chart.features.length ? "those that matter most" : "all channels";
    replace(choice, [new Option(all, ""), ...chart.features.map((name) => new Option(name, name))]);
  }
  choice.value = chart.channel ?? "";
}

function foremost(stream) {
  const last = page.recent.find((event) => event.subject === stream);
  return last ? [...last.data.channels].sort((one, other) => other.share - one.share).map((one) => one.name) : [];
}

// --- what happened lately

async function showRecent() {
  const { anomalies } = await ask("anomalies", { limit: RECENT });
  page.recent = anomalies;
  listRecent();
}

function listRecent() {
  $("recent-none").hidden = page.recent.length > 0;
  replace($("recent"), page.recent.map(recentRow));
}

function recentRow(event) {
  const { data } = event;
  const change = event.type.split(".").at(-1);
  const row = document.createElement("tr");
  const link = text("button", event.subject, "link");
  link.type = "button";
  link.addEventListener("click", () => choose(event.subject));
  const stream = document.createElement("td");
  stream.append(link);
  const what = document.createElement("td");
  what.append(text("span", data.severity, `severity ${data.severity}`), ` ${changeName(change, data)}`);
  row.append(
    text("td", clock(event.time)),
    stream,
    what,
    text("td", score(data.peak), "number"),
    text("td", kindName(data.kind)),
    text("td", shares(data.channels), "channels"),
  );
  return row;
}

const changeName = (change, data) =>
  ({ opened: "opened", updated: "got worse", closed: data.closed_as === "level_shift" ? "is the new normal" : "is over" })[change];

const kindName = (kind) => ({ prediction: "not expected", level: "off its level", range: "outside its range" })[kind] ?? kind.replaceAll("_", " ");

// The channels that it came from: by their share in the residual, or in the distance from the level where that opened it;
// where there is none, those outside their band.
function shares(channels) {
  if (channels.length === 1) return channels[0].name;
  const most = channels.filter((one) => one.share >= 0.1).sort((one, other) => other.share - one.share);
  if (most.length) return most.slice(0, 3).map((one) => `${one.name} ${Math.round(100 * one.share)} %`).join(", ");
  return channels.filter((one) => one.observed < one.lower || one.observed > one.upper).map((one) => one.name).join(", ");
}

// --- elements

function text(kind, content, className = "") {
  const element = document.createElement(kind);
  element.textContent = content;
  element.className = className;
  return element;
}

function item(content) {
  const element = document.createElement("li");
  element.append(content);
  return element;
}

function pick(stream, className) {
  const row = text("button", "", `pick ${className}`);
  row.type = "button";
  row.title = stream;
  row.dataset.stream = stream;
  row.setAttribute("aria-current", stream === page.stream);
  row.addEventListener("click", () => choose(stream));
  return row;
}

// Keeps the focus on the stream that had it; waits for the next time where somebody is just pressing one.
function replace(list, content) {
  if (list.querySelector(":active")) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.stream : undefined;
  list.replaceChildren(...content);
  if (focused !== undefined) [...list.querySelectorAll(".pick")].find((row) => row.dataset.stream === focused)?.focus();
}

// --- words for numbers and times

const score = (value) => value.toFixed(value < 10 ? 2 : 1);

function clock(time) {
  const date = new Date(time);
  const day = date.toDateString() === new Date().toDateString() ? "" : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} `;
  return day + date.toLocaleTimeString("en-GB");
}

function ago(time) {
  if (time === null) return "never";
  const seconds = (Date.now() - new Date(time)) / 1000;
  return Math.abs(seconds) < 30 * 86_400 ? `${duration(Math.max(0, seconds))} ago` : clock(time);
}

const since = (opened, latest) => duration(Math.max(0, (new Date(latest) - new Date(opened)) / 1000));

function duration(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

// --- what comes by itself

const HEARD = {
  summary: showSummary,
  readings: showReadings,
  stream: ({ reason }) => ($("chosen-note").textContent = reason),
  gap: refresh,
  anomaly: (event) => {
    page.recent = [event, ...page.recent.filter((known) => known.id !== event.id)].slice(0, RECENT);
    listRecent();
    setTimeout(() => quietly(showOpen), 1100); // by then the streams' table has it too
  },
};

function listen() {
  page.end();
  page.end = follow(page.stream, (name, data) => HEARD[name]?.(data), (connected) => {
    if (!connected) showState("gone", "the service does not answer");
    else quietly(refresh);
  });
}

async function refresh() {
  await Promise.all([showRecent(), showOpen(), showStreams()]);
}

// What cannot be had now is asked for again soon; the state says what is the matter.
const quietly = (show) => show().catch(() => {});

let searching = null;
$("search").addEventListener("input", () => {
  page.skipped = 0;
  clearTimeout(searching);
  searching = setTimeout(() => quietly(showStreams), SEARCH_AFTER_MS);
});
$("sort").addEventListener("change", () => {
  page.skipped = 0;
  quietly(showStreams);
});
$("before").addEventListener("click", () => {
  page.skipped = Math.max(0, page.skipped - PAGE);
  quietly(showStreams);
});
$("after").addEventListener("click", () => {
  page.skipped += PAGE;
  quietly(showStreams);
});
$("channel").addEventListener("change", (event) => {
  chart.channel = event.target.value || null;
  chart.draw();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !["INPUT", "SELECT"].includes(document.activeElement.tagName)) {
    event.preventDefault();
    $("search").focus();
  }
});

// --- light and dark

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";

function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  $("theme").textContent = isDark() ? "light" : "dark";
  chart.draw();
}

$("theme").addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  localStorage.setItem("telltale-theme", theme);
  showTheme(theme);
});
prefersDark.addEventListener("change", () => showTheme());
showTheme(localStorage.getItem("telltale-theme"));

setInterval(() => {
  if (document.hidden) return;
  quietly(showOpen);
  quietly(showStreams);
}, LIST_EVERY_MS);

const named = () => decodeURIComponent(location.hash.slice(1));
addEventListener("hashchange", () => named() && choose(named()));
if (named()) choose(named());
else listen();
