// The document's elements: those that the page has, found by their id, and those that are made.

const TAIL = 22; // letters at a name's end that are never cut, with as many of its parts as fit
const SHORT_TAIL = 14; // of a part that is longer

/**
 * @overload
 * @param {string} id
 * @returns {HTMLElement}
 */
/**
 * @template {HTMLElement} T
 * @overload
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
/**
 * @param {string} id
 * @param {new () => HTMLElement} kind
 */
export function element(id, kind = HTMLElement) {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new Error(`the page has no ${kind.name} with the id ${id}`);
}

/** @param {string} id */
export const button = (id) => element(id, HTMLButtonElement);

/** @param {string} id */
export const choice = (id) => element(id, HTMLSelectElement);

/** @param {string} id */
export const field = (id) => element(id, HTMLInputElement);

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} kind
 * @param {string} content
 * @param {string} className
 */
export function text(kind, content, className = "") {
  const made = document.createElement(kind);
  made.textContent = content;
  made.className = className;
  return made;
}

/** @param {...(Node | string)} content */
export function item(...content) {
  const made = document.createElement("li");
  made.append(...content);
  return made;
}

/**
 * One line of parts, those that are not there left out.
 * @param {(Node | string | null | undefined)[]} parts
 */
export function detail(parts) {
  const line = text("span", "", "detail");
  const there = parts.filter((part) => part !== null && part !== undefined).filter((part) => part !== "");
  line.append(...there.flatMap((part, n) => (n ? [" · ", part] : [part])));
  return line;
}

/**
 * Where there is no room, the beginning of a name gives way: its middle is cut, and what tells names apart stays.
 * @param {string} stream
 */
export function nameOf(stream) {
  const letters = [...stream];
  const begins = letters.findIndex((letter, n) => letter === "/" && n > 0 && letters.length - n <= TAIL);
  const tail = begins < 0 ? Math.min(SHORT_TAIL, Math.floor(letters.length / 2)) : letters.length - begins;
  const name = text("span", "", "name");
  name.append(
    text("span", letters.slice(0, letters.length - tail).join(""), "head"),
    text("span", letters.slice(letters.length - tail).join(""), "tail"),
  );
  return name;
}

/** The rows of all lists that can be chosen. */
export const rows = () => /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("button.pick")]);

/** @param {HTMLElement | null | undefined} one */
const keyOf = (one) => one?.dataset.key ?? one?.dataset.stream ?? one?.dataset.incident;

/** What has the focus: by this it is found again in a list that is another by then. */
export function focusedKeys() {
  const active = document.activeElement;
  const row = active?.closest("li, tr")?.querySelector("button");
  return [active instanceof HTMLElement ? keyOf(active) : undefined, keyOf(row)];
}

/**
 * The button itself, else its row.
 * @param {(string | undefined)[]} keys
 * @param {ParentNode} where
 */
export function focusOn(keys, where = document) {
  const buttons = [...where.querySelectorAll("button")];
  const found = keys.map((key) => key !== undefined && buttons.find((one) => keyOf(one) === key)).find(Boolean);
  if (found) found.focus();
}

/**
 * Keeps the focus on the button that had it, or on its row; waits for the next time where one is just being pressed.
 * @param {HTMLElement} list
 * @param {Node[]} content
 */
export function replace(list, content) {
  if (list.querySelector(":active")) return;
  const focused = list.contains(document.activeElement) ? focusedKeys() : [];
  list.replaceChildren(...content);
  focusOn(focused, list);
}

/**
 * Changed only where it differs: what does not change is not read out again.
 * @param {HTMLElement} shown
 * @param {string} words
 */
export function say(shown, words) {
  if (shown.textContent !== words) shown.textContent = words;
}
