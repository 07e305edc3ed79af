// The live page: what is wrong now, the strangest streams, the chosen one's chart, what happened lately.

import { named, written } from "./address.js";
import { Chart } from "./chart.js";
import { KEYS, listenToKeys } from "./keys.js";
import { Past, READINGS } from "./past.js";
import { Refused, ask, follow } from "./service.js";
import { Lately, Since, serviceTime, standing } from "./standing.js";
import { ZONES, ago, clock, duration, fromLocalTime, localTime, number, rounded, score, since, writeTimesIn } from "./words.js";

const PAGE = 25; // streams
const LIST_EVERY_MS = 2000;
const SILENT_EVERY_MS = 10_000;
const RECENT = 60;
const NAME_TAIL = 14; // letters that are never cut
const CHOOSE = "Choose a stream in the list.";
const SEARCH_AFTER_MS = 150;
const CLOCKS_APART_MS = 60_000;

const narrow = matchMedia("(max-width: 900px)"); // as in the style: list and detail are two views there
const $ = (id) => document.getElementById(id);
const chart = new Chart($("chart"));
const past = new Past();
const page = {
  stream: null, // that is chosen
  at: null, // the time around which its past is shown; null: what is live
  readings: null, // how many of the past
  anomaly: null, // the one of the past that was asked for
  looked: false, // its past has been asked for
  excused: false, // it has been said why none is
  skipped: 0,
  recent: [], // anomaly events, newest first
  lately: new Lately(), // summaries
  opened: new Since(),
  heard: null, // since the last summary came
  lost: false, // the connection has ended
  refused: null, // why the service does not answer
  silent: [], // streams that have been silent longest
  found: null, // open anomalies, as last listed; null: not known
  end: () => {},
};

// --- how the service stands

function showSummary(summary) {
  page.lately.add(summary);
  page.heard = new Since();
  page.refused = null;
  showStanding();
}

// Called with every summary and twice a second: what was not updated in time is not shown as it was.
function showStanding() {
  const now = standing({ ...page, asking: $("ask").open });
  const open = now.fresh ? page.lately.now.anomalies_open : 0;
  showState(now.state, now.text);
  showTitle(`${open ? `(${open}) ` : ""}${now.short ? `${now.short} · ` : ""}Telltale`, open ? "open" : now.state);
  document.body.dataset.fresh = now.fresh;
  showUnjudged(now.items);
  showWell(now, open);
  if (page.lately.now) showFigures(page.lately.now, now.fresh);
}

function showFigures(summary, fresh) {
  const learning = summary.warming ? `, ${number(summary.warming)} learning` : "";
  $("figure-streams").textContent = number(summary.streams) + learning;
  const rate = fresh ? page.lately.rate : null;
  $("figure-rate").textContent = rate === null ? "–" : rounded(rate);
  $("figure-lag").textContent = summary.lag === null || !fresh ? "unknown" : number(summary.lag);
  const at = summary.event_time_ms;
  $("figure-newest").textContent = at === null ? "–" : ago(at, serviceNow());
  $("figure-newest").title = at === null ? "" : clock(at);
  $("build").textContent = `Telltale ${summary.version}, checkpoint ${summary.checkpoint.slice(0, 12)}.`;
  const apart = Date.now() - serviceNow();
  $("clocks").hidden = Math.abs(apart) < CLOCKS_APART_MS;
  $("clocks").textContent =
    `This browser's clock is ${duration(Math.abs(apart) / 1000)} ${apart > 0 ? "ahead of" : "behind"} the service's.`;
}

// By the service's clock: a browser's may be wrong.
const serviceNow = () => (page.lately.now ? serviceTime(page.lately.now, page.heard) : Date.now());

function showState(state, words) {
  $("state").dataset.state = state;
  if ($("state").textContent !== words) $("state").textContent = words; // what does not change is not read out again
}

// The window's title and icon are all that is seen of a page in the background.
function showTitle(title, state) {
  if (document.title !== title) document.title = title;
  if ($("icon").dataset.state === state) return;
  $("icon").dataset.state = state;
  $("icon").href = `data:image/svg+xml,${encodeURIComponent(icon(...ICONS[state]))}`;
}

const ROUND = "<circle cx='8' cy='8' r='6'/>";
const SQUARE = "<rect x='2' y='2' width='12' height='12'/>";
const ICONS = {
  ready: ["#0a8f66", ROUND],
  busy: ["#b47a00", ROUND],
  open: ["#c22f3c", ROUND],
  gone: ["#c22f3c", SQUARE],
  waiting: ["#7d8794", ROUND],
};
const icon = (colour, shape) =>
  `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' fill='${colour}'>${shape}</svg>`;

function showUnjudged(items) {
  const shown = JSON.stringify(items);
  if ($("unjudged-list").dataset.shown === shown) return;
  $("unjudged-list").dataset.shown = shown;
  $("unjudged").hidden = items.length === 0;
  $("unjudged-list").replaceChildren(...items.map((one) => item(text("p", one.text, one.grave ? "grave" : ""))));
}

// That nothing is wrong is said only of streams that are judged.
function showWell({ fresh, well }, open) {
  const listed = page.found > 0 || open > 0 || (fresh && page.found === null);
  const said = listed
    ? ""
    : (well?.text ?? (fresh ? "Nothing is judged now, so nothing can be found wrong." : "Not known."));
  $("open-none").hidden = listed;
  $("open-none").className = well?.whole ? "calm" : "faint";
  if ($("open-none").textContent !== said) $("open-none").textContent = said;
}

// --- what is wrong now

async function showOpen() {
  const { found, anomalies } = await ask("anomalies/open", { limit: 100 });
  page.found = found;
  $("open-count").textContent = found ? number(found) : "";
  $("open-count").classList.toggle("hot", found > 0);
  $("open-more").hidden = found <= anomalies.length;
  $("open-more").textContent = `and ${number(found - anomalies.length)} more, less strange than these`;
  replace($("open"), anomalies.map(openRow));
  showStanding();
  if (page.stream === null && !page.excused && anomalies.length && !narrow.matches) show({ stream: anomalies[0].stream.stream });
}

function openRow({ stream, kind, channels }) {
  const alarm = stream.alarm;
  const row = pick(stream.stream, "open");
  row.append(
    nameOf(stream.stream),
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
  $("streams-count").textContent = parameters.search ? `${number(found)} of ${number(held)}` : number(held);
  $("place").textContent = found
    ? `${number(page.skipped + 1)} to ${number(page.skipped + streams.length)} of ${number(found)}`
    : parameters.search
      ? "no stream has that in its name"
      : "none yet";
  $("before").disabled = page.skipped === 0;
  $("after").disabled = page.skipped + streams.length >= found;
  replace($("streams"), streams.map(streamRow));
}

function streamRow(stream) {
  const row = pick(stream.stream, "stream");
  const silent = $("sort").value === "silence";
  row.append(nameOf(stream.stream), silent ? text("span", lastOf(stream), "since") : gauge(stream));
  return item(row);
}

const lastOf = ({ time }) => (time === null ? "never" : ago(new Date(time), serviceNow()));

function gauge(stream) {
  const box = text("span", "", stream.score >= 1 || stream.alarm ? "gauge hot" : "gauge");
  const track = text("span", "", "track");
  const fill = text("span", "", "fill");
  fill.style.width = `${100 * Math.min(1, stream.score ?? 0)}%`;
  track.append(fill);
  box.append(track, text("span", stream.score === null ? "–" : score(stream.score), "value"));
  return box;
}

async function lookForSilent() {
  page.silent = (await ask("streams", { sort: "silence", limit: PAGE })).streams;
}

// --- the chosen stream

// What a person chooses is a step that the back button takes back.
function choose(stream, place = {}) {
  const hash = written({ stream, ...place });
  if (location.hash === hash) return;
  history.pushState(null, "", hash);
  show({ stream, ...place });
  if (narrow.matches) $("chosen").focus();
}

function backToList() {
  const { stream } = page;
  history.pushState(null, "", location.pathname + location.search);
  unchoose(CHOOSE);
  [...document.querySelectorAll(".pick")].find((row) => row.dataset.stream === stream)?.focus();
}

function show({ stream, at = null, readings = null, anomaly = null }) {
  Object.assign(page, { stream, at, readings, anomaly, excused: false, looked: false });
  history.replaceState(null, "", written(page));
  past.end();
  document.body.dataset.view = "detail";
  $("chosen-title").textContent = stream;
  $("chosen-note").textContent = at === null ? "Its readings are kept from now on." : `Around ${clock(at)}.`;
  $("legend").hidden = $("channel").hidden = $("chosen-anomaly").hidden = true;
  chart.clear();
  chart.marked = at;
  markChosen();
  showTimes();
  sayOfPast("", undefined);
  listen();
  if (at !== null) quietly(lookBack);
}

function unchoose(why) {
  const listening = page.stream !== null;
  Object.assign(page, { stream: null, at: null, readings: null, anomaly: null, excused: true });
  past.end();
  document.body.dataset.view = why === CHOOSE ? "list" : "detail";
  sayOfPast("", undefined);
  $("times").hidden = $("chosen-anomaly").hidden = true;
  $("chosen-title").textContent = "No stream is chosen";
  $("chosen-note").textContent = why;
  $("legend").hidden = $("channel").hidden = true;
  chart.clear();
  markChosen();
  if (listening) listen();
}

function markChosen() {
  for (const row of document.querySelectorAll(".pick"))
    row.setAttribute("aria-current", row.dataset.stream === page.stream);
}

function showReadings(traced) {
  if (traced.stream !== page.stream || page.at !== null) return;
  chart.foremost = foremost(traced.stream);
  chart.add(traced);
  showPlace(traced);
  showTools();
  quietly(lookBack);
}

function showPlace({ topic, partition }) {
  const where = `${topic}, partition ${partition}`;
  const [first, last] = [chart.readings[0], chart.readings.at(-1)];
  const until = page.at !== null && last ? ` until ${clock(last.time)}` : "";
  const again = chart.past.readings.length ? ", judged again from the topic" : "";
  $("chosen-note").textContent = first
    ? `${where}. Readings since ${clock(first.time)}${until}${again}.`
    : `${where}. Nothing has come since it is looked at; its readings are kept from now on.`;
}

// --- its past

// Once for a choice: of what is live, as soon as that has begun, so that nothing is missing in between.
async function lookBack() {
  if (page.looked) return;
  page.looked = true;
  const { stream, at } = page;
  const found = await past.ask(page, sayOfPast);
  if (found === null || page.stream !== stream || page.at !== at) return;
  const { trace, older, events, remarks } = found;
  chart.foremost = foremost(stream);
  chart.addPast(trace);
  page.newer = found.newer;
  const first = trace.readings[0];
  if (first) showPlace(trace);
  sayOfPast([pastWords(older, first, at), ...remarks].filter(Boolean).join(" "), undefined);
  showAnomaly(events);
  $("earlier").disabled = older !== "kept";
  showTools();
}

function pastWords(older, first, at) {
  if (!first) return "The topic has no reading of this stream.";
  const late = at !== null && at < Date.parse(first.time);
  if (older === "gone") return `${late ? "That is older than the topic keeps. " : ""}The topic keeps nothing older than ${clock(first.time)}.`;
  return older === "none" ? `${late ? "That is before the stream began. " : ""}This is where the stream begins.` : "";
}

// share: undefined: nothing is under way, null: how far it has come is not known.
function sayOfPast(words, share) {
  $("past-note").hidden = !words;
  $("past-note").textContent = words;
  const bar = $("past-progress");
  bar.hidden = share === undefined;
  if (typeof share === "number") bar.value = share;
  else bar.removeAttribute("value");
}

// The anomaly that was asked for, as it last stood.
function showAnomaly(events) {
  const mine = events.filter(({ data }) => data.anomaly === page.anomaly);
  $("chosen-anomaly").hidden = !mine.length;
  if (!mine.length) return;
  const { data } = mine.at(-1);
  const parts = [
    text("span", data.severity, `severity ${data.severity}`),
    kindName(data.kind),
    shares(mine[0].data.channels),
    `opened ${clock(data.opened_at)}`,
    data.closed_at ? `closed ${clock(data.closed_at)}` : "not closed in what is shown",
    `peak ${score(data.peak)}`,
  ];
  const line = detail(parts);
  line.className = "";
  $("chosen-anomaly").replaceChildren(line);
}

function showTimes() {
  $("times").hidden = page.stream === null;
  $("now").disabled = $("later").disabled = page.at === null;
  $("earlier").disabled = false;
  $("span").value = page.readings ?? READINGS;
  $("around").value = page.at === null ? "" : localTime(page.at).slice(0, 19);
}

function shift(reading) {
  if (reading) choose(page.stream, { at: Date.parse(reading.time), readings: page.readings });
}

function showTools() {
  $("legend").hidden = !chart.readings.length;
  replace(
    $("key-gates"),
    chart.gates.map((gate, n) => {
      const key = text("span", gate.name === "memory" ? "size of the memory" : `${gate.name} gate`, "gate");
      key.dataset.gate = n;
      return key;
    }),
  );
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
  const at = Date.parse(data.opened_at);
  link.addEventListener("click", () => choose(event.subject, { at, anomaly: data.anomaly }));
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
  ({
    opened: "opened",
    updated: "got worse",
    closed: data.closed_as === "level_shift" ? "is the new normal" : "is over",
  })[change];

const kindName = (kind) =>
  ({ prediction: "not expected", level: "off its level", range: "outside its range" })[kind] ??
  kind.replaceAll("_", " ");

// The channels that it came from: by their share in the residual, or in the distance from the level where that opened it;
// where there is none, those outside their band.
function shares(channels) {
  if (channels.length === 1) return channels[0].name;
  const most = channels.filter((one) => one.share >= 0.1).sort((one, other) => other.share - one.share);
  if (most.length)
    return most
      .slice(0, 3)
      .map((one) => `${one.name} ${Math.round(100 * one.share)} %`)
      .join(", ");
  return channels
    .filter((one) => one.observed < one.lower || one.observed > one.upper)
    .map((one) => one.name)
    .join(", ");
}

// --- elements

// The beginning gives way where there is no room, so that what tells names apart stays: their middle is cut.
function nameOf(stream) {
  const letters = [...stream];
  const tail = Math.min(NAME_TAIL, Math.floor(letters.length / 2));
  const name = text("span", "", "name");
  name.append(
    text("span", letters.slice(0, letters.length - tail).join(""), "head"),
    text("span", letters.slice(letters.length - tail).join(""), "tail"),
  );
  return name;
}

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

// Keeps the focus on the stream that had it; waits for the next time where one is just being pressed.
function replace(list, content) {
  if (list.querySelector(":active")) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.stream : undefined;
  list.replaceChildren(...content);
  if (focused !== undefined) [...list.querySelectorAll(".pick")].find((row) => row.dataset.stream === focused)?.focus();
}

// --- what comes by itself

const HEARD = {
  summary: showSummary,
  readings: showReadings,
  stream: ({ reason }) => {
    if (page.at !== null) return;
    $("chosen-note").textContent = reason;
    quietly(lookBack);
  },
  gap: refresh,
  anomaly: (event) => {
    page.recent = [event, ...page.recent.filter((known) => known.id !== event.id)].slice(0, RECENT);
    listRecent();
    announce(event);
    setTimeout(() => quietly(showOpen), 1100); // by then the streams' table has it too
  },
};

// Read out, once for each anomaly that opens.
function announce({ type, subject, data }) {
  if (!type.endsWith(".opened")) return;
  $("announcement").textContent = `A ${data.severity} anomaly has opened in ${subject}: ${kindName(data.kind)}.`;
}

function listen() {
  page.end();
  page.end = follow(
    page.at === null ? page.stream : null,
    (name, data) => HEARD[name]?.(data),
    (connected, error) => {
      page.lost = !connected;
      page.refused = null;
      if (connected) quietly(refresh);
      else if (error instanceof Refused) refuse(error);
      showStanding();
    },
  );
}

// What cannot be shown of a stream is shown without one.
function refuse({ status, message }) {
  if (status === 422 && page.stream !== null) unchoose(`The service refuses to show this stream: ${message}`);
  else page.refused = message;
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
$("earlier").addEventListener("click", () => shift(chart.readings[0]));
$("later").addEventListener("click", () => (page.newer ? shift(chart.readings.at(-1)) : choose(page.stream)));
$("now").addEventListener("click", () => choose(page.stream));
$("around").addEventListener("change", (event) => {
  const at = fromLocalTime(event.target.value);
  if (!Number.isNaN(at)) choose(page.stream, { at, readings: page.readings });
});
$("span").addEventListener("change", (event) => {
  const at = page.at ?? serviceNow();
  choose(page.stream, { at, readings: Number(event.target.value), anomaly: page.anomaly });
});
$("channel").addEventListener("change", (event) => {
  chart.channel = event.target.value || null;
  chart.draw();
});
$("back").addEventListener("click", backToList);
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("chosen").focus();
});

// --- keys

const ACTIONS = {
  search: () => $("search").focus(),
  next: () => stepOn(1),
  previous: () => stepOn(-1),
  earlier: () => $("earlier").click(),
  later: () => $("later").click(),
  now: () => $("now").click(),
  list: () => page.stream !== null && backToList(),
  theme: () => $("theme").click(),
  help: showKeys,
};

// To the next of the rows of both lists, or the one before.
function stepOn(by) {
  const rows = [...document.querySelectorAll(".pick")].filter((row) => row.offsetParent !== null);
  const at = rows.indexOf(document.activeElement);
  rows.at(at === -1 && by < 0 ? -1 : Math.min(rows.length - 1, Math.max(0, at + by)))?.focus();
}

function showKeys() {
  if (!$("keys").open) $("keys").showModal();
}

replace(
  $("keys-list"),
  KEYS.map(({ key, words }) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    term.append(text("kbd", key));
    row.append(term, text("dd", words));
    return row;
  }),
);
$("letters").checked = localStorage.getItem("telltale-keys") !== "off";
$("letters").addEventListener("change", (event) => {
  localStorage.setItem("telltale-keys", event.target.checked ? "on" : "off");
});
$("show-keys").addEventListener("click", showKeys);
listenToKeys(ACTIONS, () => $("letters").checked);

// --- the time zone

function showZone(name) {
  $("zone").value = writeTimesIn(name);
  quietly(refresh);
  showTimes();
  chart.draw();
}

$("zone").append(...ZONES.map((name) => new Option(name, name)));
$("zone").addEventListener("change", (event) => {
  localStorage.setItem("telltale-zone", event.target.value);
  showZone(event.target.value);
});
$("zone").value = writeTimesIn(localStorage.getItem("telltale-zone"));

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

// --- the page's own clock

let listed = new Since();
let looked = null;

function tick() {
  showStanding();
  if (document.hidden || document.body.dataset.fresh !== "true") return;
  if (listed.ms >= LIST_EVERY_MS) {
    listed = new Since();
    quietly(showOpen);
    quietly(showStreams);
  }
  if (looked === null || looked.ms >= SILENT_EVERY_MS) {
    looked = new Since();
    quietly(lookForSilent);
  }
}

new Worker("/page/ticking.js").addEventListener("message", tick);
document.addEventListener("visibilitychange", tick);

// --- the stream that the address names

function showNamed() {
  const { excuse, ...place } = named(location.hash);
  if (excuse) unchoose(`${excuse} ${CHOOSE}`);
  else if (place.stream !== null) show(place);
}

addEventListener("hashchange", () => {
  const place = named(location.hash);
  const same = place.stream !== null && ["stream", "at", "readings", "anomaly"].every((key) => place[key] === page[key]);
  if (place.stream === null && !place.excuse) unchoose(CHOOSE);
  else if (!same) showNamed();
});
showNamed();
if (page.stream === null) listen();
