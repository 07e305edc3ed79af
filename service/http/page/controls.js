// Acknowledge, mute, label: the buttons, the dialog that asks who says it, and what is in force.

import * as words from "./control_words.js";
import { choice, element, field, focusedKeys, focusOn, item, replace, text } from "./elements.js";
import { ask, send } from "./service.js";
import { page, serviceNow } from "./state.js";
import { count, number, ZONES } from "./words.js";

/** @typedef {import("./types.d.ts").Target} Target */
/** @typedef {import("./types.d.ts").Saying} Saying */
/** @typedef {import("./types.d.ts").ControlSeen} ControlSeen */
/** @typedef {import("./types.d.ts").MembersFound} MembersFound */
/** @typedef {import("./types.d.ts").Example} Example */
/** @typedef {import("./types.d.ts").NewControl} NewControl */

const NAME_KEPT = "telltale-name";
const LISTED = 200;

const SHOWN_MS = 8000;

/** @type {Record<Saying, string>} */
const TITLES = { acknowledge: "Acknowledge", mute: "Mute", label: "Label", depend: "Quiet others with" };
/** @type {Record<Saying, string>} */
const BUTTONS = { acknowledge: "acknowledge", mute: "mute", label: "label", depend: "quiet others" };
/** @type {Record<Saying, string>} */
const DONE = { acknowledge: "Acknowledged", mute: "Muted", label: "Labelled", depend: "Others are quiet with" };

/** Called when something was said or taken back. */
let changed = () => {};

export async function askControls() {
  page.controls = await ask("controls", { limit: LISTED });
  showStandingControls();
}

/** All that stands, so that also what is about no listed incident can be taken back. */
function showStandingControls() {
  const { controls, found } = page.controls;
  element("in-force").hidden = controls.length === 0;
  element("in-force-count").textContent = number(found);
  replace(
    element("in-force-list"),
    controls.map((one) => item(said(one, ofOthers(one)))),
  );
}

/** What it is about, where that is not what is shown. @param {ControlSeen} one */
const ofOthers = ({ given }) => `${words.aboutWords(given)}: `;

// --- what is said of one thing

/** @type {Record<Saying, ControlSeen["given"]["type"]>} */
const TYPES = { acknowledge: "acknowledgement", mute: "quiet", label: "label", depend: "dependency" };

/**
 * What is in force of it, and the buttons to say more.
 * @param {{ target: Target, kinds: Saying[] }[]} parts kinds of what is shown, and can be said, of each
 * @param {HTMLElement[]} more buttons beside them
 */
export function sayings(parts, more = []) {
  const box = text("div", "", "sayings");
  const actions = text("div", "", "actions");
  for (const { target, kinds } of parts) {
    const types = kinds.map((kind) => TYPES[kind]);
    const standing = words
      .about(page.controls.controls, target, serviceNow())
      .filter(({ given }) => types.includes(given.type));
    box.append(...standing.map((one) => said(one, one.given.type === "dependency" ? ofOthers(one) : "")));
    const possible = page.controls.may_write ? kinds.filter((kind) => canSay(kind, target, standing)) : [];
    actions.append(...possible.map((kind) => actionButton(kind, target)));
  }
  actions.append(...more);
  if (actions.children.length) box.append(actions);
  return box;
}

/**
 * @param {Saying} kind
 * @param {Target} target
 * @param {ControlSeen[]} standing
 */
function canSay(kind, { incident, anomaly }, standing) {
  if (kind === "mute" || kind === "depend") return true;
  if (kind === "label") return incident !== null || anomaly !== null;
  const acknowledged = incident?.acknowledged_by || standing.some(({ given }) => given.type === "acknowledgement");
  return incident?.status === "open" && !acknowledged;
}

/**
 * @param {Saying} kind
 * @param {Target} target
 */
function actionButton(kind, target) {
  const made = text("button", BUTTONS[kind], "quiet");
  made.type = "button";
  made.dataset.action = kind;
  made.dataset.key = `${kind} ${target.incident?.incident ?? target.stream}`;
  made.setAttribute("aria-label", `${TITLES[kind]} ${nameOf(target)}`);
  made.addEventListener("click", () => begin(kind, target));
  return made;
}

/**
 * @param {ControlSeen} one
 * @param {string} before
 */
function said({ control, given }, before = "") {
  const line = text("p", "", "said");
  line.dataset.control = control;
  const words_ = `${before}${words.controlWords(given)}`;
  line.append(text("span", words_));
  if (page.controls.may_write && given.type !== "holds") {
    const back = text("button", "take back", "quiet");
    back.type = "button";
    back.dataset.key = `back ${control}`;
    back.setAttribute("aria-label", `Take back: ${words_}`);
    back.addEventListener("click", async () => {
      back.disabled = true;
      try {
        await send("DELETE", `controls/${encodeURIComponent(control)}`);
        await done(`Taken back: ${words_}.`);
      } catch (error) {
        back.disabled = false;
        announce(`It could not be taken back: ${/** @type {Error} */ (error).message}`);
      }
    });
    line.append(" ", back);
  }
  return line;
}

/** @param {Target} target */
const nameOf = ({ incident, stream }) => (incident ? `incident ${incident.group}` : stream);

// --- saying it

/** @type {{ kind: Saying, target: Target, members: MembersFound | null, examples: Example[] | null } | null} */
let asked = null;
/** What had the focus before it was asked. @type {(string | undefined)[]} */
let focused = [];

/**
 * Acknowledging takes one press where it is known who presses; the others ask what is meant.
 * @param {Saying} kind
 * @param {Target} target
 */
async function begin(kind, target) {
  focused = focusedKeys();
  const by = localStorage.getItem(NAME_KEPT) ?? "";
  const incident = target.incident ?? (kind === "label" ? page.incident : null);
  const found = kind === "acknowledge" || !incident ? null : ask(`incidents/${encodeURIComponent(incident.incident)}`);
  /** @type {MembersFound | null} */
  const members = await (found ?? Promise.resolve(null)).catch(() => null);
  const examples =
    kind === "label" && members ? words.examples(members, target.incident ? null : target.anomaly) : null;
  asked = { kind, target, members: target.incident && members, examples };
  if (kind === "acknowledge" && by) await tell("", by, "");
  else show("");
}

/** @param {string} error why it has not been taken */
function show(error) {
  if (asked === null) return;
  const { kind, target, examples } = asked;
  element("say-title").textContent = `${TITLES[kind]} ${nameOf(target)}`;
  element("say-error").textContent = error;
  field("say-by").value = localStorage.getItem(NAME_KEPT) ?? "";
  field("say-note").value = "";
  const scope = choice("say-scope");
  element("say-scope-line").hidden = kind !== "mute";
  replace(scope, kind === "mute" ? scopes(target, asked.members).map(({ words }) => new Option(words)) : []);
  showDependency(kind === "depend" ? target.stream : null);
  element("say-learn-line").hidden = kind !== "mute" && kind !== "depend";
  field("say-learn").checked = false;
  element("say-rule-line").hidden = examples === null;
  replace(choice("say-rule"), examples ? rules(target) : []);
  const all = choices(kind);
  const type = all.length === 1 ? "submit" : "button"; // that Enter in a field presses
  element("say-choices").replaceChildren(...all.map(([value, label]) => choiceButton(value, label, type)));
  const dialog = element("say", HTMLDialogElement);
  if (!dialog.open) dialog.showModal();
  if (field("say-by").value) element("say-choices").querySelector("button")?.focus();
}

/**
 * What is quiet because of what, as a first guess: all beside the stream, because of it.
 * @param {string | null} stream null: that is not asked
 */
function showDependency(stream) {
  const others = stream && ((page.incident && words.groupPattern(page.incident)) ?? words.besidePattern(stream));
  const written = { "say-on": stream && words.patternOf(stream), "say-streams": others };
  for (const [name, pattern] of Object.entries(written)) {
    const input = field(name);
    element(`${name}-line`).hidden = stream === null;
    input.required = stream !== null;
    input.value = pattern ?? "";
  }
}

/**
 * Of one anomaly a rule is the first choice, of all that an incident has none.
 * @param {Target} target
 */
function rules({ incident }) {
  const made = Object.entries(words.RULES).map(([rule, means]) => new Option(means, rule));
  const none = new Option("it says nothing of later ones", "");
  return incident ? [none, ...made] : [...made, none];
}

/**
 * @param {Saying} kind
 * @returns {[string, string][]} what is chosen, and its words
 */
function choices(kind) {
  if (kind === "mute") return words.MUTES.map(({ words, ms }) => [String(ms), `for ${words}`]);
  return kind === "label" ? Object.entries(words.LABELS) : [["", kind === "depend" ? "set" : "acknowledge"]];
}

/**
 * @param {string} value
 * @param {string} label
 * @param {"button" | "submit"} type
 */
function choiceButton(value, label, type) {
  const made = text("button", label);
  made.type = type;
  made.dataset.value = value;
  made.addEventListener("click", () => {
    const by = field("say-by");
    if (!by.form?.reportValidity()) return;
    localStorage.setItem(NAME_KEPT, by.value.trim());
    tell(value, by.value.trim(), field("say-note").value.trim());
  });
  return made;
}

/**
 * The streams that can be muted, the first choice first.
 * @param {Target} target
 * @param {MembersFound | null} found
 */
function scopes({ incident, stream }, found) {
  if (!incident) return [{ words: stream, patterns: [words.patternOf(stream)] }];
  const all = words.groupPattern(incident);
  const some = found && words.memberPatterns(found);
  /** @type {{ words: string, patterns: string[] }[]} */
  const choices = [];
  if (all) choices.push({ words: all.endsWith("*") ? `all of ${all}` : all, patterns: [all] });
  if (some) choices.push({ words: `only the ${count(some.length, "stream")} in it now`, patterns: some });
  return choices.length ? choices : [{ words: `only ${stream}, which was first`, patterns: [words.patternOf(stream)] }];
}

/**
 * @param {string} value
 * @param {string} by
 * @param {string} note
 * @returns {NewControl | null}
 */
function controlOf(value, by, note) {
  if (asked === null) return null;
  const { kind, target, members, examples } = asked;
  const { incident, anomaly, stream } = target;
  const learn = field("say-learn").checked;
  if (kind === "mute") {
    const { patterns } = scopes(target, members)[Math.max(0, choice("say-scope").selectedIndex)];
    return words.mute(patterns, serviceNow() + Number(value), learn, by, note);
  }
  if (kind === "depend") {
    const [streams, on] = ["say-streams", "say-on"].map((name) => words.patterns(field(name).value));
    return words.depend(streams, on, learn, by, note);
  }
  if (kind === "acknowledge") return incident && words.acknowledge(incident.incident, by, note);
  const period = choice("say-rule").value;
  const rule = examples && period ? { rule: period, examples, time_zone: ZONES[0] ?? "UTC" } : null;
  if (!incident) return anomaly === null ? null : words.labelAnomaly(value, anomaly, by, note, rule);
  const found = members ?? { incident, members: [], members_left_out: 1 };
  const patterns = words.memberPatterns(found) ?? [words.groupPattern(incident) ?? words.patternOf(stream)];
  return words.labelMembers(value, found, patterns, by, note, rule);
}

/**
 * @param {string} value
 * @param {string} by
 * @param {string} note
 */
async function tell(value, by, note) {
  const control = controlOf(value, by, note);
  if (control === null || asked === null) return;
  const { kind, target } = asked;
  try {
    await send("POST", "controls", control);
    element("say", HTMLDialogElement).close();
    await done(`${DONE[kind]}: ${nameOf(target)}.`);
  } catch (error) {
    show(`It was not taken: ${/** @type {Error} */ (error).message}`);
  }
}

/** @param {string} outcome */
async function done(outcome) {
  announce(outcome);
  await askControls().catch(() => {});
  changed();
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let shown;

/**
 * What came of it is read out, and seen for some seconds.
 * @param {string} outcome
 */
function announce(outcome) {
  element("outcome").textContent = outcome;
  clearTimeout(shown);
  shown = setTimeout(() => element("outcome").replaceChildren(), SHOWN_MS);
}

/**
 * By its key: of the row that has the focus; of what is chosen where no row has it, or the chosen stream's. What is meant
 * for the row of another stream is not said of the chosen one.
 * @param {Saying} kind
 */
export function press(kind) {
  const active = document.activeElement;
  const row = active?.closest("li:has([data-action])") ?? active?.closest("li, tr");
  const stream = row?.querySelector("[data-stream]")?.getAttribute("data-stream");
  const place = row && stream !== page.place.stream ? row : element("chosen");
  const found = place.querySelector(`[data-action=${kind}]`);
  if (found instanceof HTMLButtonElement) found.click();
  else announce(`${TITLES[kind]}: ${cannotBeSaid(place === row && Boolean(stream))}.`);
}

/** @param {boolean} notChosen the row that has the focus is a stream's that is not chosen */
function cannotBeSaid(notChosen) {
  if (!page.controls.may_write) return "the service takes nothing from here";
  return notChosen ? "choose the stream first, with Enter" : "there is nothing here to say it of";
}

/** @param {() => void} whenChanged called when something was said or taken back */
export function listenToControls(whenChanged) {
  changed = whenChanged;
  element("say-cancel").addEventListener("click", () => element("say", HTMLDialogElement).close());
  element("say").addEventListener("close", () => focusOn(focused)); // the list may be another by now
  element("say-form").addEventListener("submit", (event) => event.preventDefault()); // it is closed once it was taken
}
