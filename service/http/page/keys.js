// The keyboard map: keys of one letter, which can be turned off for those whose software types letters by itself.

/** @typedef {import("./types.d.ts").Action} Action */

/** @type {{ key: string, action: Action | null, words: string }[]} */
export const KEYS = [
  { key: "/", action: "search", words: "search streams" },
  { key: "j", action: "next", words: "next row of the lists" },
  { key: "k", action: "previous", words: "row before" },
  { key: "Enter", action: null, words: "choose the row" },
  { key: "a", action: "acknowledge", words: "acknowledge the row's incident, or the chosen one's" },
  { key: "m", action: "mute", words: "mute it" },
  { key: "b", action: "label", words: "label it: what it was" },
  { key: "[", action: "earlier", words: "earlier readings" },
  { key: "]", action: "later", words: "later readings" },
  { key: "n", action: "now", words: "live readings" },
  { key: "l", action: "list", words: "back to the list" },
  { key: "t", action: "theme", words: "light or dark" },
  { key: "?", action: "help", words: "this list" },
];
const WRITTEN_IN = "input, select, textarea";

/**
 * @param {Record<Action, () => unknown>} actions
 * @param {() => boolean} on whether keys are listened to
 */
export function listenToKeys(actions, on) {
  document.addEventListener("keydown", (event) => {
    const types = event.getModifierState("AltGraph"); // on some keyboards a bracket is typed with it
    if (event.metaKey || ((event.ctrlKey || event.altKey) && !types) || !on()) return;
    if (isWritten() || document.querySelector("dialog[open]")) return;
    const known = KEYS.find(({ key }) => key === event.key);
    if (!known?.action) return;
    event.preventDefault();
    actions[known.action]();
  });
}

/** A field in a dialog that has just closed keeps the focus until the browser draws again: nothing is written there. */
function isWritten() {
  const active = document.activeElement;
  return active?.matches(WRITTEN_IN) && active.checkVisibility();
}
