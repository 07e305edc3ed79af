// What a person prefers, kept in this browser: keys, the time zone, light or dark.

import { backToList } from "./chosen.js";
import { press } from "./controls.js";
import { button, choice, element, field, replace, rows, text } from "./elements.js";
import { KEYS, listenToKeys } from "./keys.js";
import { ZONES, writeTimesIn } from "./words.js";

/** @typedef {import("./types.d.ts").Action} Action */

const KEYS_KEPT = "telltale-keys";
const ZONE_KEPT = "telltale-zone";
const THEME_KEPT = "telltale-theme"; // read by theme.js

// --- keys

/** @type {Record<Action, () => void>} */
const ACTIONS = {
  search: () => field("search").focus(),
  next: () => stepOn(1),
  previous: () => stepOn(-1),
  earlier: () => button("earlier").click(),
  later: () => button("later").click(),
  now: () => button("now").click(),
  list: backToList,
  theme: () => button("theme").click(),
  help: showKeys,
  acknowledge: () => press("acknowledge"),
  mute: () => press("mute"),
  label: () => press("label"),
};

/**
 * To the next of the rows of all lists, or the one before.
 * @param {1 | -1} by
 */
function stepOn(by) {
  const shown = rows().filter((row) => row.offsetParent !== null);
  const at = shown.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
  shown.at(at === -1 && by < 0 ? -1 : Math.min(shown.length - 1, Math.max(0, at + by)))?.focus();
}

function showKeys() {
  const dialog = element("keys", HTMLDialogElement);
  if (!dialog.open) dialog.showModal();
}

/** @param {{ key: string, words: string }} key */
function keyRow({ key, words }) {
  const term = document.createElement("dt");
  term.append(text("kbd", key));
  const row = document.createElement("div");
  row.append(term, text("dd", words));
  return row;
}

function preferKeys() {
  replace(element("keys-list"), KEYS.map(keyRow));
  const letters = field("letters");
  letters.checked = localStorage.getItem(KEYS_KEPT) !== "off";
  letters.addEventListener("change", () => localStorage.setItem(KEYS_KEPT, letters.checked ? "on" : "off"));
  button("show-keys").addEventListener("click", showKeys);
  listenToKeys(ACTIONS, () => letters.checked);
}

// --- the time zone

/** @param {() => void} changed */
function preferZone(changed) {
  const zone = choice("zone");
  zone.append(...ZONES.map((name) => new Option(name, name)));
  zone.value = writeTimesIn(localStorage.getItem(ZONE_KEPT));
  zone.addEventListener("change", () => {
    localStorage.setItem(ZONE_KEPT, zone.value);
    writeTimesIn(zone.value);
    changed();
  });
}

// --- light and dark

function preferTheme() {
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";

  const nameOther = () => {
    button("theme").textContent = isDark() ? "light" : "dark";
  };

  button("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(THEME_KEPT, root.dataset.theme);
    nameOther();
  });
  prefersDark.addEventListener("change", nameOther);
  nameOther();
}

/** @param {() => void} zoneChanged called when times are written in another zone */
export function listenToPreferences(zoneChanged) {
  preferKeys();
  preferZone(zoneChanged);
  preferTheme();
}
