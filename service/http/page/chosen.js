// The chosen stream: its address, its chart, and its past.

import { named, written } from "./address.js";
import { began, expectedAndSeen, isSilent, kindName, shares } from "./anomaly_words.js";
import { Chart } from "./chart.js";
import { sayings } from "./controls.js";
import { button, choice, detail, element, field, replace, rows, text } from "./elements.js";
import { members } from "./incident_words.js";
import { Past, READINGS } from "./past.js";
import { ask } from "./service.js";
import { newestReading, page, quietly, serviceNow } from "./state.js";
import { clock, digest, fromLocalTime, localTime, rarity, score } from "./words.js";

/** @typedef {import("./types.d.ts").Place} Place */
/** @typedef {import("./types.d.ts").Looked} Looked */
/** @typedef {import("./types.d.ts").Traced} Traced */
/** @typedef {import("./types.d.ts").Reading} Reading */
/** @typedef {import("./types.d.ts").AnomalyEvent} AnomalyEvent */

const CHOOSE = "Choose a stream in the list.";
/** @type {Place} */
const NOWHERE = { stream: null, at: null, readings: null, anomaly: null, incident: null };

const narrow = matchMedia("(max-width: 900px)"); // as in the style: list and detail are two views there
const past = new Past();
export const chart = new Chart(element("chart"));

/** What is called when another stream, or time, is chosen. */
let listen = () => {};

// --- which one

/**
 * What a person chooses is a step that the back button takes back.
 * @param {Partial<Place> & { stream: string }} place
 */
export function choose(place) {
  const hash = written(place);
  if (location.hash === hash) return;
  history.pushState(null, "", hash);
  show(place);
  if (narrow.matches) element("chosen").focus();
}

export function backToList() {
  if (location.hash) history.pushState(null, "", location.pathname + location.search);
  showList();
}

/** With the row that led away from it in view. */
function showList() {
  const { stream, incident } = page.place;
  unchoose(CHOOSE, "list");
  const all = rows();
  const row = all.find(({ dataset }) => incident !== null && dataset.incident === incident);
  (row ?? all.find(({ dataset }) => dataset.stream === stream))?.focus();
}

/** @param {Partial<Place> & { stream: string }} place */
export function show(place) {
  history.replaceState(null, "", written(place));
  const { stream, at } = begin({ ...NOWHERE, ...place }, "detail");
  element("chosen-title").textContent = stream;
  element("chosen-note").textContent = at === null ? "Its readings are kept from now on." : `Around ${clock(at)}.`;
  chart.marked = at;
  listen();
  quietly(findIncident);
  if (at !== null) quietly(lookBack);
}

/**
 * @param {string} why
 * @param {"list" | "detail"} view
 */
export function unchoose(why, view = "detail") {
  const listening = page.place.stream !== null;
  begin(NOWHERE, view);
  page.excused = true;
  element("chosen-title").textContent = "No stream is chosen";
  element("chosen-note").textContent = why;
  if (listening) listen();
}

/**
 * Nothing is shown of the place before.
 * @param {Place} place
 * @param {"list" | "detail"} view
 */
function begin(place, view) {
  Object.assign(page, { place, excused: false, looked: false, newer: false, incident: null, named: null });
  showSayings();
  found = null;
  past.end();
  chart.clear();
  document.body.dataset.view = view;
  for (const id of ["legend", "meaning", "closer", "channel", "chosen-anomaly"]) element(id).hidden = true;
  for (const row of rows()) row.setAttribute("aria-current", String(row.dataset.stream === place.stream));
  showTimes();
  sayOfPast("", undefined);
  return place;
}

/** The stream that the address names, if it is another place than the one that is shown. */
export function showNamed() {
  const { excuse, ...place } = named(location.hash);
  if (excuse) unchoose(`${excuse} ${CHOOSE}`);
  else if (place.stream === null) {
    if (page.place.stream !== null) showList();
  } else if (written({ ...place, stream: place.stream }) !== writtenNow()) {
    show({ ...place, stream: place.stream });
    page.named = place.incident;
  }
}

const writtenNow = () => (page.place.stream === null ? null : written({ ...page.place, stream: page.place.stream }));

// --- its readings

/** @param {Traced} traced of what is live */
export function showReadings(traced) {
  if (traced.stream !== page.place.stream || page.place.at !== null) return;
  chart.foremost = foremost(traced.stream);
  chart.add(traced);
  showPlace(traced);
  showTools();
  quietly(lookBack);
}

/** @param {{ reason: string }} excuse why the stream cannot be followed */
export function showExcuse({ reason }) {
  if (page.place.at !== null) return;
  element("chosen-note").textContent = reason;
  quietly(lookBack);
}

/** @param {Traced} traced */
function showPlace({ topic, partition, checkpoint }) {
  const where = `${topic}, partition ${partition}, judged by checkpoint ${digest(checkpoint)}`;
  const [first, last] = [chart.readings[0], chart.readings.at(-1)];
  const until = page.place.at !== null && last ? ` until ${clock(last.time)}` : "";
  const again = chart.past.readings.length ? ", judged again from the topic" : "";
  element("chosen-note").textContent = first
    ? `${where}. Readings since ${clock(first.time)}${until}${again}.`
    : `${where}. Nothing has come since it is looked at; its readings are kept from now on.`;
}

function showTools() {
  for (const id of ["legend", "meaning", "closer"]) element(id).hidden = !chart.readings.length;
  showEarlier();
  replace(element("key-gates"), chart.gates.map(gateKey));
  const shown = choice("channel");
  shown.hidden = chart.features.length < 2;
  if (shown.options.length !== chart.features.length + 1) {
    const all = chart.channels.length < chart.features.length ? "those that matter most" : "all channels";
    replace(shown, [new Option(all, ""), ...chart.features.map((name) => new Option(name, name))]);
  }
  shown.value = chart.channel ?? "";
}

/**
 * @param {{ name: string }} gate
 * @param {number} n
 */
function gateKey(gate, n) {
  const key = text("span", gate.name === "memory" ? "size of the memory" : `${gate.name} gate`, "gate");
  key.dataset.gate = String(n);
  return key;
}

/** @param {string} stream */
function foremost(stream) {
  const last = page.recent.find((event) => event.subject === stream);
  return last ? [...last.data.channels].sort((one, other) => other.share - one.share).map((one) => one.name) : [];
}

// --- its past

/** @type {Looked | null} what looking back found of the place that is shown */
let found = null;

/** Once for a choice: of what is live, as soon as that has begun, so that nothing is missing in between. */
async function lookBack() {
  if (page.looked) return;
  page.looked = true;
  const asked = page.place;
  const { stream, at, readings } = asked;
  if (stream === null) return;
  const answer = await past.ask({ stream, at, readings }, sayOfPast);
  if (answer === null || page.place !== asked) return;
  found = answer;
  chart.foremost = foremost(stream);
  chart.addPast(answer.trace);
  page.newer = answer.newer;
  showFound(answer);
  showTools();
}

/** @param {Looked} looked */
function showFound(looked) {
  if (looked.trace.readings.length) showPlace(looked.trace);
  sayOfPast([pastWords(looked, page.place.at), ...looked.remarks].filter(Boolean).join(" "), undefined);
  showAnomaly();
}

/** What is written of the place that is shown, in the time zone of now. */
export function writeAgain() {
  showTimes();
  if (found) showFound(found);
  chart.draw();
}

/**
 * @param {Looked} found
 * @param {number | null} at
 */
function pastWords({ trace, older }, at) {
  const first = trace.readings[0];
  if (!first) return "The topic has no reading of this stream.";
  const late = at !== null && at < Date.parse(first.time);
  if (older === "gone") {
    const why = late ? "That is older than the topic keeps. " : "";
    return `${why}The topic keeps nothing older than ${clock(first.time)}.`;
  }
  const before = late ? "That is before the stream began. " : "";
  return older === "none" ? `${before}This is where the stream begins.` : "";
}

/**
 * @param {string} words
 * @param {number | null | undefined} share undefined: nothing is under way, null: how far it has come is not known
 */
function sayOfPast(words, share) {
  element("past-note").hidden = !words;
  element("past-note").textContent = words;
  const bar = element("past-progress", HTMLProgressElement);
  bar.hidden = share === undefined;
  if (typeof share === "number") bar.value = share;
  else bar.removeAttribute("value");
}

/** The anomaly that was asked for, or that is open in the stream as it is now, as it last stood. */
export function showAnomaly() {
  const anomaly = chosenAnomaly()?.anomaly;
  // A stream judged by itself is silent from the reading that ends it: what was told while it lasted is another anomaly.
  const known = new Map([...page.recent, ...(found?.events ?? [])].map((event) => [event.id, event]));
  const mine = [...known.values()].filter(({ data }) => data.anomaly === anomaly);
  mine.sort((one, other) => Date.parse(one.time) - Date.parse(other.time));
  const last = mine.at(-1);
  element("chosen-anomaly").hidden = !last;
  if (!last) return;
  const { data } = last;
  const alarm = openAlarm(data); // it knows more than what was last told
  const severity = alarm?.severity ?? data.severity;
  if (isSilent(data)) chart.showSilence(silence(data.opened_at, data.closed_at));
  const line = detail([
    text("span", severity, `severity ${severity}`),
    kindName(data.kind),
    isSilent(data) ? null : (expectedAndSeen(mine[0].data.channels) ?? shares(mine[0].data.channels)),
    `opened ${clock(data.opened_at)}`,
    began(mine[0].data),
    data.closed_at ? `closed ${clock(data.closed_at)}` : alarm ? "still open" : "not closed in what is shown",
    rarity(Math.max(...mine.map((one) => one.data.return_period_s))),
    `peak ${score(alarm?.peak ?? data.peak)}`,
  ]);
  line.className = "";
  if (element("chosen-anomaly").textContent !== line.textContent) element("chosen-anomaly").replaceChildren(line);
}

/** @param {{ anomaly: string }} data */
const openAlarm = ({ anomaly }) => page.open.find(({ stream }) => stream.alarm?.anomaly === anomaly)?.stream.alarm;

/** That of a stream which is shown live lasts as long as others send. */
export function showSilence() {
  const { stream, at } = page.place;
  if (at !== null) return;
  const alarm = page.open.find((one) => one.stream.stream === stream)?.stream.alarm;
  chart.showSilence(alarm?.opened_by === "silent" ? silence(alarm.opened_at, null) : null);
}

/** @type {(opened: string, closed: string | null) => import("./chart.js").Silence} */
const silence = (opened, closed) => ({
  from: Date.parse(opened),
  until: closed === null ? newestReading() : Date.parse(closed),
});

/** The anomaly that is chosen by its name, or that is open in the stream as it is now. */
function chosenAnomaly() {
  const { stream, at, anomaly } = page.place;
  if (anomaly !== null) return { anomaly, opened_at: at === null ? null : new Date(at).toISOString() };
  return at === null ? (page.open.find((one) => one.stream.stream === stream)?.stream.alarm ?? null) : null;
}

/** The incident that the chosen anomaly belongs to. */
export async function findIncident() {
  const asked = page.place;
  const chosen = chosenAnomaly();
  /** @type {import("./types.d.ts").IncidentsFound | null} */
  const found = chosen && (await ask("incidents", { anomaly: chosen.anomaly }));
  if (page.place !== asked) return;
  const all = found ? [...found.open, ...found.closed] : [];
  page.incident = all.find(({ incident }) => incident === asked.incident) ?? all[0] ?? null;
  showSayings();
}

/** What people have said of what is chosen, and the buttons to say more. */
export function showSayings() {
  const { stream } = page.place;
  const box = element("chosen-sayings");
  box.hidden = stream === null;
  if (stream === null) return;
  const { incident } = page;
  const chosen = chosenAnomaly();
  const target = { incident: null, stream, anomaly: chosen?.anomaly ?? null, opened_at: chosen?.opened_at ?? null };
  const mine = sayings([
    { target: { ...target, incident }, kinds: ["acknowledge"] },
    { target, kinds: ["mute", "label", "depend"] },
  ]);
  replace(box, incident === null ? [mine] : [detail([`in incident ${incident.group}`, members(incident)]), mine]);
}

/** The tools that choose a time, as the place that is shown has it. */
function showTimes() {
  const { stream, at, readings } = page.place;
  element("times").hidden = stream === null;
  button("now").disabled = button("later").disabled = at === null;
  showEarlier();
  choice("span").value = String(readings ?? READINGS);
  field("around").value = at === null ? "" : localTime(at).slice(0, 19);
}

/** Where there is nothing to go back from, or to, it cannot be pressed. */
function showEarlier() {
  button("earlier").disabled = chart.readings.length === 0 || (found !== null && found.older !== "kept");
}

/** @param {Partial<Omit<Place, "stream">>} place of the chosen stream */
function move(place) {
  const { stream } = page.place;
  if (stream !== null) choose({ stream, ...place });
}

/** @param {Reading | undefined} reading */
function moveTo(reading) {
  if (reading) move({ at: Date.parse(reading.time), readings: page.place.readings });
}

/**
 * What a person does to what is chosen.
 * @param {() => void} whenChosen called when another stream, or time, is chosen
 */
export function listenToChosen(whenChosen) {
  listen = whenChosen;
  button("earlier").addEventListener("click", () => moveTo(chart.readings[0]));
  button("later").addEventListener("click", () => (page.newer ? moveTo(chart.readings.at(-1)) : move({})));
  button("now").addEventListener("click", () => move({}));
  button("whole").addEventListener("click", () => {
    chart.showAll();
    element("chosen").focus();
  });
  chart.zoomed = (closer) => {
    button("whole").hidden = !closer;
  };
  field("around").addEventListener("change", () => {
    const at = fromLocalTime(field("around").value);
    if (!Number.isNaN(at)) move({ at, readings: page.place.readings });
  });
  choice("span").addEventListener("change", () => {
    const { at, anomaly } = page.place;
    move({ at: at ?? serviceNow(), readings: Number(choice("span").value), anomaly });
  });
  choice("channel").addEventListener("change", () => {
    chart.channel = choice("channel").value || null;
    chart.draw();
  });
  button("back").addEventListener("click", backToList);
  element("skip").addEventListener("click", (event) => {
    event.preventDefault();
    element("chosen").focus();
  });
  addEventListener("hashchange", showNamed);
}
