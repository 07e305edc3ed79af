// The list of incidents, where their topic is read: each leads to its first cause, and can be opened to its members.

import { began, expectedAndSeen, foremost, isSilent, kindName } from "./anomaly_words.js";
import { choose } from "./chosen.js";
import { about } from "./control_words.js";
import { sayings } from "./controls.js";
import { detail, element, item, nameOf, replace, text } from "./elements.js";
import { acknowledged, announced, firstCause, heldBack, members, placeOf, targetOf, times } from "./incident_words.js";
import { Past } from "./past.js";
import { ask } from "./service.js";
import { sparkline } from "./sparkline.js";
import { page, quietly, serviceNow } from "./state.js";
import { clock, count, number, rarity } from "./words.js";

/** @typedef {import("./types.d.ts").Incident} Incident */
/** @typedef {import("./types.d.ts").Member} Member */
/** @typedef {import("./types.d.ts").MembersFound} MembersFound */
/** @typedef {import("./types.d.ts").IncidentsFound} IncidentsFound */

/** @typedef {import("./types.d.ts").Looked} Looked */

const LISTED = 50;
const DRAWN = 120; // readings of the small chart: half of them before the first cause

/** @type {IncidentsFound} */
let listed = { followed: false, found: 0, open: [], closed: [] };
/** Those that are opened, by their id; null: their members have not come. @type {Map<string, MembersFound | null>} */
const opened = new Map();
/** What the first cause's readings were, or why that is not shown, by the incident's id. @type {Map<string, Looked | string>} */
const looked = new Map();
const past = new Past();
/** Open ones that have been listed; null: none was asked for. @type {Set<string> | null} */
let known = null;

export const incidentsAreFollowed = () => listed.followed;

export async function showIncidents() {
  listed = await ask("incidents", { limit: LISTED });
  announceNew();
  drawIncidents();
  for (const incident of opened.keys()) quietly(() => lookInside(incident));
  quietly(showNamedIncident);
}

/** Read out, each once; not those that were open when the page was. */
function announceNew() {
  if (!listed.followed) return;
  const before = known;
  known = new Set([...(before ?? []), ...listed.open.map(({ incident }) => incident)]);
  const opened = before === null ? [] : listed.open.filter(({ incident }) => !before.has(incident));
  if (opened.length) element("announcement").textContent = announced(opened);
}

/** The members of the incident that the address named, in its row, which is brought into view. */
async function showNamedIncident() {
  const incident = page.named;
  if (incident === null) return;
  await lookInside(incident);
  page.named = null;
  rowOf(incident)?.scrollIntoView({ block: "nearest" });
}

/** @param {string} incident */
const rowOf = (incident) =>
  [...document.querySelectorAll(".incident")].find(
    (row) => row instanceof HTMLElement && row.dataset.incident === incident,
  );

export function drawIncidents() {
  const { followed, found, open, closed } = listed;
  element("incidents").hidden = !followed || (found === 0 && closed.length === 0);
  element("incidents-count").textContent = found ? number(found) : "";
  element("incidents-count").classList.toggle("hot", found > 0);
  element("incidents-none").hidden = found > 0;
  element("incidents-more").hidden = found <= open.length;
  element("incidents-more").textContent = `and ${number(found - open.length)} more, less rare`;
  element("incidents-closed").hidden = closed.length === 0;
  element("no-token").hidden = !page.controls.followed || page.controls.may_write;
  replace(element("incidents-open"), open.map(incidentRow));
  replace(element("incidents-closed-list"), closed.map(incidentRow));
}

/** @param {Incident} incident */
function incidentRow(incident) {
  const row = text("button", "", "pick incident");
  row.type = "button";
  row.title = `${incident.group}: to its first cause, ${incident.first_cause.stream}`;
  row.dataset.incident = incident.incident;
  row.addEventListener("click", () => choose(placeOf(incident)));
  const target = targetOf(incident);
  const seen = knownOf(incident);
  const said = about(page.controls.controls, target, serviceNow());
  row.append(
    nameOf(incident.group),
    text("span", times(incident, serviceNow()), "since"),
    detail([
      text("span", incident.severity, `severity ${incident.severity}`),
      members(incident),
      firstCause(incident),
      seen && (isSilent(seen) ? began(seen) : expectedAndSeen(seen.channels)),
      incident.return_period_s > 0 ? rarity(incident.return_period_s) : seen && rarity(seen.return_period_s),
      said.some(({ given }) => given.type === "acknowledgement") ? null : acknowledged(incident),
      heldBack(incident),
    ]),
  );
  const whole = item(row, sayings([{ target, kinds: ["acknowledge", "mute", "label"] }], [moreButton(incident)]));
  const inside = opened.get(incident.incident);
  if (inside) whole.append(...chartOf(incident), insideOf(inside));
  return whole;
}

/**
 * What is known of its first cause without looking back.
 * @param {Incident} incident
 */
function knownOf({ incident, first_cause: { anomaly } }) {
  const found = looked.get(incident);
  const past = typeof found === "object" ? found.events.find(({ data }) => data.anomaly === anomaly) : undefined;
  return past?.data ?? page.recent.find(({ data }) => data.anomaly === anomaly)?.data ?? null;
}

// --- what is in it

/** @param {Incident} incident */
function moreButton({ incident, group, anomalies, first_cause }) {
  const more = text("button", count(anomalies, "member"), "quiet more");
  more.type = "button";
  more.dataset.key = `more ${incident}`;
  more.setAttribute("aria-expanded", String(opened.has(incident)));
  more.setAttribute("aria-label", `${count(anomalies, "member")} of incident ${group}`);
  more.addEventListener("click", () => {
    if (opened.delete(incident)) drawIncidents();
    else {
      quietly(() => lookInside(incident));
      quietly(() => lookBack(incident, first_cause));
    }
  });
  return more;
}

/**
 * The first cause's readings: one question after the other, the one pressed last alone. Where later ones were still to
 * come they are asked for again, and shown until then.
 * @param {string} incident
 * @param {Incident["first_cause"]} cause
 */
async function lookBack(incident, { stream, opened_at }) {
  const before = looked.get(incident);
  if (typeof before === "object" && before.newer) return;
  /** @type {Looked | null} */
  const found = await past.ask({ stream, at: Date.parse(opened_at), readings: DRAWN }, (words) => {
    if (typeof before !== "object") looked.set(incident, words);
    drawIncidents();
  });
  if (found === null) return;
  looked.set(incident, found);
  drawIncidents();
}

/**
 * @param {Incident} incident
 * @returns {Element[]}
 */
function chartOf({ incident, first_cause: { stream, anomaly } }) {
  const found = looked.get(incident);
  if (found === undefined) return [];
  if (typeof found === "string") return [text("p", found, "faint looking")];
  const event = found.events.find(({ data }) => data.anomaly === anomaly);
  const { features, units } = found.trace;
  const channel = foremost(event?.data.channels ?? [])?.name ?? features[0];
  const unit = units[features.indexOf(channel)];
  const chart = sparkline(found.trace, channel);
  return chart ? [text("p", [stream, channel, unit].filter(Boolean).join(", "), "faint looking"), chart] : [];
}

/** @param {string} incident */
async function lookInside(incident) {
  if (!opened.has(incident)) opened.set(incident, null);
  try {
    opened.set(incident, await ask(`incidents/${encodeURIComponent(incident)}`));
  } catch (error) {
    if (!opened.get(incident)) opened.delete(incident);
    throw error;
  } finally {
    drawIncidents();
  }
}

/** @param {MembersFound} inside */
function insideOf({ members, members_left_out }) {
  const list = text("ul", "", "members");
  list.append(...[...members].sort(byOpening).map((member) => item(memberRow(member))));
  if (members_left_out) list.append(item(text("p", `and ${number(members_left_out)} more, less severe`, "faint")));
  return list;
}

/** @type {(one: Member, other: Member) => number} */
const byOpening = (one, other) => Date.parse(one.opened_at) - Date.parse(other.opened_at);

/** @param {Member} member */
function memberRow({ anomaly, stream, status, severity, kind, opened_at, label, rule }) {
  const row = text("button", "", "member");
  row.type = "button";
  row.dataset.key = `member ${anomaly}`;
  row.addEventListener("click", () => choose({ stream, at: Date.parse(opened_at), anomaly }));
  row.append(
    nameOf(stream),
    text("span", clock(opened_at), "since"),
    detail([
      text("span", severity, `severity ${severity}`),
      kindName(kind),
      status === "open" ? "open" : "over",
      label && `called ${label}`,
      rule && `no one is notified: rule of ${rule}`,
    ]),
  );
  return row;
}
