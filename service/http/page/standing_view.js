// How the service stands, shown: the header, the window's title and icon, what is not judged, that nothing is wrong.

import { element, item, say, text } from "./elements.js";
import { standing } from "./standing.js";
import { page, serviceNow } from "./state.js";
import { ago, clock, duration, modelWords, number, rounded } from "./words.js";

/** @typedef {import("./types.d.ts").Standing} Standing */
/** @typedef {import("./types.d.ts").State} State */
/** @typedef {import("./types.d.ts").Summary} Summary */
/** @typedef {import("./types.d.ts").Note} Note */

const CLOCKS_APART_MS = 60_000;
const ROUND = "<circle cx='8' cy='8' r='6'/>";
const SQUARE = "<rect x='2' y='2' width='12' height='12'/>";
/** @type {Record<State | "open", [string, string]>} */
const ICONS = {
  ready: ["#0a8f66", ROUND],
  busy: ["#b47a00", ROUND],
  open: ["#c22f3c", ROUND],
  gone: ["#c22f3c", SQUARE],
  waiting: ["#7d8794", ROUND],
};

/** Called with every summary and twice a second: what was not updated in time is not shown as it was. */
export function showStanding() {
  const now = standing({ ...page, asking: element("ask", HTMLDialogElement).open });
  const open = now.fresh ? page.lately.now.anomalies_open : 0;
  showState(now.state, now.text);
  showTitle(`${open ? `(${open}) ` : ""}${now.short ? `${now.short} · ` : ""}Telltale`, open ? "open" : now.state);
  document.body.dataset.fresh = String(now.fresh);
  showUnjudged(now.items);
  showWell(now, open);
  if (page.lately.now) showFigures(page.lately.now, now.fresh);
}

/**
 * @param {Summary} summary
 * @param {boolean} fresh
 */
function showFigures(summary, fresh) {
  const learning = summary.warming ? `, ${number(summary.warming)} learning` : "";
  element("figure-streams").textContent = number(summary.streams) + learning;
  element("figure-streams-unit").textContent = summary.streams === 1 ? "stream" : "streams";
  const rate = fresh ? page.lately.rate : null;
  element("figure-rate").textContent = rate === null ? "–" : rounded(rate);
  element("figure-lag").textContent = summary.lag === null || !fresh ? "unknown" : number(summary.lag);
  const at = summary.event_time_ms;
  element("figure-newest").textContent = at === null ? "–" : ago(at, serviceNow());
  element("figure-newest").title = at === null ? "" : clock(at);
  element("build").textContent = `Telltale ${summary.version}, ${modelWords(summary)}.`;
  showClocks(Date.now() - serviceNow());
}

/** @param {number} apart milliseconds from the service's clock to this one */
function showClocks(apart) {
  element("clocks").hidden = Math.abs(apart) < CLOCKS_APART_MS;
  const words = `${duration(Math.abs(apart) / 1000)} ${apart > 0 ? "ahead of" : "behind"}`;
  element("clocks").textContent = `This browser's clock is ${words} the service's.`;
}

/**
 * @param {State} state
 * @param {string} words
 */
function showState(state, words) {
  element("state").dataset.state = state;
  say(element("state"), words);
}

/**
 * The window's title and icon are all that is seen of a page in the background.
 * @param {string} title
 * @param {State | "open"} state
 */
function showTitle(title, state) {
  if (document.title !== title) document.title = title;
  const icon = element("icon", HTMLLinkElement);
  if (icon.dataset.state === state) return;
  const [colour, shape] = ICONS[state];
  const drawn = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' fill='${colour}'>${shape}</svg>`;
  icon.dataset.state = state;
  icon.href = `data:image/svg+xml,${encodeURIComponent(drawn)}`;
}

/** @param {Note[]} items */
function showUnjudged(items) {
  const list = element("unjudged-list");
  const shown = JSON.stringify(items);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  element("unjudged").hidden = items.length === 0;
  list.replaceChildren(...items.map((one) => item(text("p", one.text, one.grave ? "grave" : ""))));
}

/**
 * That nothing is wrong is said only of streams that are judged.
 * @param {Standing} now
 * @param {number} open anomalies
 */
function showWell({ fresh, well }, open) {
  const none = element("open-none");
  const listed = (page.found ?? 0) > 0 || open > 0 || (fresh && page.found === null);
  none.hidden = listed;
  none.className = well?.whole ? "calm" : "faint";
  if (listed) say(none, "");
  else say(none, well?.text ?? (fresh ? "Nothing is judged now, so nothing can be found wrong." : "Not known."));
}
