// The live page: what comes by itself and what a person does, handed to the modules that show it.

import { kindName } from "./anomaly_words.js";
import {
  findIncident,
  listenToChosen,
  showExcuse,
  showNamed,
  showReadings,
  showSayings,
  unchoose,
  writeAgain,
} from "./chosen.js";
import { askControls, listenToControls } from "./controls.js";
import { element } from "./elements.js";
import { drawIncidents, incidentsAreFollowed, showIncidents } from "./incidents.js";
import { Since } from "./lately.js";
import { addRecent, listenToLists, lookForSilent, showOpen, showRecent, showStreams } from "./lists.js";
import { listenToPreferences } from "./preferences.js";
import { Refused, follow } from "./service.js";
import { showStanding } from "./standing_view.js";
import { page, quietly } from "./state.js";

/** @typedef {import("./types.d.ts").AnomalyEvent} AnomalyEvent */
/** @typedef {import("./types.d.ts").Summary} Summary */

const LIST_EVERY_MS = 2000;
const SILENT_EVERY_MS = 10_000;
const FIRST_WITHIN_MS = 1500; // the lists are shown together, but not later than this
const EARLIER_MS = 8000; // by then a service that has just started, or has more partitions, has read what was told before
const LISTED_MS = 1100; // after an event: by then the streams' table has it too

// --- what comes by itself

/** @type {Record<string, (data: any) => void>} */
const HEARD = {
  summary: hearSummary,
  readings: showReadings,
  stream: showExcuse,
  gap: all,
  anomaly: hearAnomaly,
};

function all() {
  showLists();
  quietly(showRecent);
  quietly(showSaid);
}

/** What is asked for again every 2 s, and so need not wait until the service can be followed. */
function showLists() {
  return Promise.all([quietly(showOpen), quietly(showStreams)]);
}

/** Controls before incidents: these show what is said of them. */
async function showSaid() {
  await askControls();
  await Promise.all([showIncidents(), findIncident()]);
}

function drawSaid() {
  drawIncidents();
  showSayings();
}

/** @param {Summary} summary */
function hearSummary(summary) {
  const before = page.lately.now;
  const another = before?.started_ms !== summary.started_ms || before.partitions !== summary.partitions;
  if (another) setTimeout(() => quietly(showRecent), EARLIER_MS);
  page.lately.add(summary);
  page.heard = new Since();
  page.refused = null;
  showStanding();
}

/** @param {AnomalyEvent} event */
function hearAnomaly(event) {
  addRecent(event);
  if (event.type.endsWith(".opened") && !incidentsAreFollowed()) announce(event);
  setTimeout(() => quietly(showOpen), LISTED_MS);
}

/**
 * Read out, once for each anomaly that opens; where incidents are followed, those are, of which a storm has one.
 * @param {AnomalyEvent} event
 */
function announce({ subject, data }) {
  const what = `A ${data.severity} anomaly has opened in ${subject}: ${kindName(data.kind)}.`;
  element("announcement").textContent = what;
}

let end = () => {};

function listen() {
  end();
  const { stream, at } = page.place;
  end = follow(
    at === null ? stream : null,
    (name, data) => HEARD[name]?.(data),
    (connected, error) => {
      if (connected && page.lost) all();
      else if (connected) quietly(showRecent);
      page.lost = !connected;
      page.refused = null;
      if (!connected && error instanceof Refused) refuse(error);
      showStanding();
    },
  );
}

/**
 * What cannot be shown of a stream is shown without one.
 * @param {Refused} refused
 */
function refuse({ status, message }) {
  if (status === 422 && page.place.stream !== null) unchoose(`The service refuses to show this stream: ${message}`);
  else page.refused = message;
}

// --- the page's own clock

let listed = new Since();
/** @type {Since | null} */
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
    quietly(showSaid);
  }
}

function zoneChanged() {
  all();
  writeAgain();
}

listenToLists();
listenToControls(drawSaid);
listenToChosen(listen);
listenToPreferences(zoneChanged);
new Worker("/page/ticking.js").addEventListener("message", tick);
document.addEventListener("visibilitychange", tick);
showNamed();
if (page.place.stream === null) listen();
const first = Promise.all([showLists(), quietly(showSaid)]);
// What comes first would push away what lies below it, and what one is about to press.
Promise.race([first, new Promise((resolve) => setTimeout(resolve, FIRST_WITHIN_MS))]).then(() => {
  document.body.dataset.begun = "true";
});
