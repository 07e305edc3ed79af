// The list of incidents, where their topic is read: each leads to its first cause.

import { choose } from "./chosen.js";
import { detail, element, item, nameOf, replace, text } from "./elements.js";
import { acknowledged, firstCause, heldBack, members, placeOf, times } from "./incident_words.js";
import { ask } from "./service.js";
import { serviceNow } from "./state.js";
import { number } from "./words.js";

/** @typedef {import("./types.d.ts").Incident} Incident */
/** @typedef {import("./types.d.ts").IncidentsFound} IncidentsFound */

const LISTED = 50;

export async function showIncidents() {
  /** @type {IncidentsFound} */
  const { followed, found, open, closed } = await ask("incidents", { limit: LISTED });
  element("incidents").hidden = !followed || (found === 0 && closed.length === 0);
  element("incidents-count").textContent = found ? number(found) : "";
  element("incidents-count").classList.toggle("hot", found > 0);
  element("incidents-none").hidden = found > 0;
  element("incidents-more").hidden = found <= open.length;
  element("incidents-more").textContent = `and ${number(found - open.length)} more, less severe or older`;
  element("incidents-closed").hidden = closed.length === 0;
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
  row.append(
    nameOf(incident.group),
    text("span", times(incident, serviceNow()), "since"),
    detail([
      text("span", incident.severity, `severity ${incident.severity}`),
      members(incident),
      firstCause(incident),
      acknowledged(incident),
      heldBack(incident),
    ]),
  );
  return item(row);
}
