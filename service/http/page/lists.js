// The lists: what is wrong now, all streams, what happened lately.

import { began, changeName, expectedAndSeen, isSilent, kindName, noReadingSince, shares } from "./anomaly_words.js";
import { choose, show, showAnomaly, showSayings, showSilence } from "./chosen.js";
import { button, choice, detail, element, field, item, nameOf, replace, text } from "./elements.js";
import { ask } from "./service.js";
import { showStanding } from "./standing_view.js";
import { newestReading, page, quietly, serviceNow } from "./state.js";
import { ago, clock, number, rarity, score, since } from "./words.js";

/** @typedef {import("./types.d.ts").Stream} Stream */
/** @typedef {import("./types.d.ts").OpenAnomaly} OpenAnomaly */
/** @typedef {import("./types.d.ts").AnomalyEvent} AnomalyEvent */

const PAGE = 25; // streams
const OPEN = 100;
const OPEN_FIRST = 5; // on a phone: what lies below is not far away in a storm either
const RECENT = 60;
const SEARCH_AFTER_MS = 50;

const narrow = matchMedia("(max-width: 900px)"); // as in the style: list and detail are two views there

// --- what is wrong now

let openAsked = false; // for all of them

export async function showOpen() {
  /** @type {{ found: number, anomalies: OpenAnomaly[] }} */
  const { found, anomalies } = await ask("anomalies/open", { limit: OPEN });
  page.found = found;
  page.open = anomalies;
  showSayings();
  showAnomaly();
  showSilence();
  element("open-count").textContent = found ? number(found) : "";
  element("open-count").classList.toggle("hot", found > 0);
  element("open-more").hidden = found <= anomalies.length;
  element("open-more").textContent = `and ${number(found - anomalies.length)} more, less strange than these`;
  listOpen();
  showStanding();
  const free = page.place.stream === null && !page.excused && !narrow.matches;
  if (free && anomalies.length) show({ stream: anomalies[0].stream.stream });
}

function listOpen() {
  const shown = narrow.matches && !openAsked ? page.open.slice(0, OPEN_FIRST) : page.open;
  replace(element("open"), shown.map(openRow));
  element("open-all").hidden = shown.length === page.open.length;
  element("open-all").textContent = `show all ${number(page.open.length)}`;
}

/** @param {OpenAnomaly} anomaly */
function openRow({ stream, kind, channels, return_period_s }) {
  const row = pick(stream.stream, "open");
  const { alarm, time } = stream;
  if (alarm === null) return item(row); // never so: each of these has one
  const silent = alarm.opened_by === "silent";
  const latest = silent ? newestReading() : (time ?? alarm.opened_at); // silence lasts as long as others send
  row.append(
    nameOf(stream.stream),
    text("span", `${clock(alarm.opened_at)}, ${since(alarm.opened_at, latest)}`, "since"),
    detail([
      text("span", alarm.severity, `severity ${alarm.severity}`),
      kindName(kind ?? alarm.opened_by),
      silent && time ? noReadingSince(time) : channels && (expectedAndSeen(channels) ?? shares(channels)),
      return_period_s === null ? `peak ${score(alarm.peak)}` : rarity(return_period_s),
    ]),
  );
  return item(row);
}

// --- all streams

/** What is asked for of all streams, as a person has it now. */
const question = () => ({
  search: field("search").value,
  sort: choice("sort").value,
  offset: page.skipped,
  limit: PAGE,
});

/** @returns {Promise<void>} */
export async function showStreams() {
  const asked = question();
  const { search } = asked;
  /** @type {{ held: number, found: number, streams: Stream[] }} */
  const { held, found, streams } = await ask("streams", asked);
  if (JSON.stringify(asked) !== JSON.stringify(question())) return; // the answer to what is asked now comes later
  if (page.skipped && page.skipped >= found) {
    page.skipped = 0;
    return showStreams();
  }
  element("streams-count").textContent = search ? `${number(found)} of ${number(held)}` : number(held);
  const none = search ? "no stream has that in its name" : "none yet";
  const last = page.skipped + streams.length;
  element("place").textContent = found ? `${number(page.skipped + 1)} to ${number(last)} of ${number(found)}` : none;
  button("before").disabled = page.skipped === 0;
  button("after").disabled = last >= found;
  replace(element("streams"), streams.map(streamRow));
}

/** @param {Stream} stream */
function streamRow(stream) {
  const row = pick(stream.stream, "stream");
  const silent = choice("sort").value === "silence";
  row.append(nameOf(stream.stream), silent ? text("span", lastOf(stream), "since") : gauge(stream));
  return item(row);
}

/** @param {Stream} stream */
const lastOf = ({ time }) => (time === null ? "never" : ago(new Date(time), serviceNow()));

/** @param {Stream} stream */
function gauge(stream) {
  const reached = stream.score ?? 0;
  const box = text("span", "", reached >= 1 || stream.alarm ? "gauge hot" : "gauge");
  const track = text("span", "", "track");
  const fill = text("span", "", "fill");
  fill.style.width = `${100 * Math.min(1, reached)}%`;
  track.append(fill);
  box.append(track, text("span", stream.score === null ? "–" : score(stream.score), "value"));
  return box;
}

export async function lookForSilent() {
  page.silent = (await ask("streams", { sort: "silence", limit: PAGE })).streams;
}

/**
 * @param {string} stream
 * @param {string} className
 */
function pick(stream, className) {
  const row = text("button", "", `pick ${className}`);
  row.type = "button";
  row.title = stream;
  row.dataset.stream = stream;
  row.setAttribute("aria-current", String(stream === page.place.stream));
  row.addEventListener("click", () => choose({ stream }));
  return row;
}

/** @param {number} skipped streams before those that are listed from now on */
function turnTo(skipped) {
  page.skipped = Math.max(0, skipped);
  quietly(showStreams);
}

// --- what happened lately

export async function showRecent() {
  page.recent = (await ask("anomalies", { limit: RECENT })).anomalies;
  listRecent();
}

/** @param {AnomalyEvent} event */
export function addRecent(event) {
  page.recent = [event, ...page.recent.filter((known) => known.id !== event.id)].slice(0, RECENT);
  listRecent();
}

function listRecent() {
  element("recent-none").hidden = page.recent.length > 0;
  element("recent-table").hidden = page.recent.length === 0;
  replace(element("recent"), page.recent.map(recentRow));
}

/** @param {AnomalyEvent} event */
function recentRow({ id, type, subject, time, data }) {
  const change = type.slice(type.lastIndexOf(".") + 1);
  const link = text("button", "", "link");
  link.append(nameOf(subject));
  link.title = subject;
  link.type = "button";
  link.dataset.key = id;
  link.dataset.stream = subject;
  const at = Date.parse(data.opened_at);
  link.addEventListener("click", () => choose({ stream: subject, at, anomaly: data.anomaly }));
  const stream = document.createElement("td");
  stream.append(link);
  const what = text("td", "", "words");
  what.append(text("span", data.severity, `severity ${data.severity}`), ` ${changeName(change, data)}`);
  const row = document.createElement("tr");
  row.append(
    text("td", clock(time)),
    stream,
    what,
    text("td", rarity(data.return_period_s), "number"),
    text("td", kindName(data.kind), "words"),
    text("td", isSilent(data) ? (began(data) ?? "") : shares(data.channels), "channels"),
  );
  return row;
}

/** What a person does to the list of streams. */
export function listenToLists() {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let searching;
  field("search").addEventListener("input", () => {
    page.skipped = 0;
    clearTimeout(searching);
    searching = setTimeout(() => quietly(showStreams), SEARCH_AFTER_MS);
  });
  button("open-all").addEventListener("click", () => {
    openAsked = true;
    listOpen();
    /** @type {HTMLElement | null} */ (element("open").querySelector(`li:nth-child(${OPEN_FIRST + 1}) .pick`))?.focus();
  });
  choice("sort").addEventListener("change", () => turnTo(0));
  button("before").addEventListener("click", () => turnTo(page.skipped - PAGE));
  button("after").addEventListener("click", () => turnTo(page.skipped + PAGE));
}
