// How the service stands, as far as the page knows: from its summaries and from how long ago it was heard. Nothing here
// touches the document. The rule: nothing is well that was not updated for 3 s, and what is not judged comes first.

import { SETTLED_MS, WINDOW_MS } from "./lately.js";
import { clock, count, duration, number } from "./words.js";

/** @typedef {import("./lately.js").Lately} Lately */
/** @typedef {import("./types.d.ts").Summary} Summary */
/** @typedef {import("./types.d.ts").Standing} Standing */
/** @typedef {import("./types.d.ts").State} State */
/** @typedef {import("./types.d.ts").Note} Note */
/** @typedef {import("./types.d.ts").GraveNote} GraveNote */
/** @typedef {import("./types.d.ts").Elapsed} Elapsed */
/** @typedef {import("./types.d.ts").Stream} Stream */

export const FRESH_MS = 3000;
const SHARE_REFUSED = 0.01; // of all records, as in the alert TelltaleRejects
const SHARE_DROPPED = 0.05; // of all readings, as in the alert TelltaleLateReadings
const SHARE_LEARNING = 0.1; // of all streams
const LITTLE_LAG = 1000; // records
const MUCH_LAG = 100_000; // records, where the pace is not known
const BEHIND_S = 5;
const AHEAD_MS = 60_000;
const QUIET_MS = 60_000;
const OLD_MS = 600_000; // as in the alert TelltaleNoReadings
const SILENT_INTERVALS = 20;

/**
 * What the page knows. heard: since the last summary came. opened: since the page was. lost: the connection has ended.
 * refused: why the service does not answer. asking: for a token. silent: streams that have been silent longest.
 * @typedef {{
 *   lately: Lately,
 *   heard: Elapsed | null,
 *   opened: Elapsed,
 *   lost: boolean,
 *   refused: string | null,
 *   asking: boolean,
 *   silent: Stream[],
 * }} Known
 */

/**
 * The time by the service's clock, in milliseconds.
 * @type {(summary: Summary, heard: Elapsed) => number} heard: since the summary came
 */
export const serviceTime = (summary, heard) => summary.published_ms + 1000 * summary.beat_age_s + heard.ms;

/**
 * How the service stands: text: one line that changes only when something does. short: two words for the window's title,
 * null: none are needed. items: what is not judged, and what to know before trusting the rest. well: that nothing is
 * wrong; null: it cannot be said. fresh: whether figures are of now.
 * @param {Known} known
 * @returns {Standing}
 */
export function standing({ lately, heard, opened, lost, refused, asking, silent }) {
  if (asking) return unknown("waiting", "a token is needed", "token needed", []);
  const summary = lately.now;
  if (refused) return unknown("gone", `the service refuses to answer: ${refused}`, "refused", []);
  if (!summary || heard === null) return unheard(opened, lost);
  const now = serviceTime(summary, heard);
  const beatMs = summary.state === "running" ? 1000 * summary.beat_age_s : 0; // before that it need not come round
  if (lost || (beatMs + heard.ms >= FRESH_MS && heard.ms >= beatMs)) return goneAt(heard, lost);
  if (beatMs + heard.ms >= FRESH_MS) return stuckAt(summary, beatMs + heard.ms);
  const items = unjudged(lately, now, silent);
  const first = items.find(isGrave);
  const known = { items, well: well(summary, items), fresh: true };
  if (first) return { ...known, state: "busy", text: first.line, short: first.short };
  if (!summary.ready) return { ...known, state: "busy", text: summary.reason, short: "not ready" };
  if (!summary.partitions)
    return { ...known, state: "waiting", text: "this worker has no partition", short: "no partition" };
  return { ...known, state: "ready", text: "ready", short: null };
}

/** @type {(state: State, text: string, short: string | null, items: Note[]) => Standing} */
const unknown = (state, text, short, items) => ({ state, text, short, items, fresh: false, well: null });

/**
 * @param {Elapsed} opened
 * @param {boolean} lost
 */
function unheard(opened, lost) {
  if (lost) return unknown("gone", "the service does not answer", "no answer", []);
  if (opened.ms < FRESH_MS) return unknown("waiting", "connecting", null, []);
  return unknown(
    "gone",
    `the service has not been heard since this page was opened at ${clock(opened.wall)}`,
    "not heard",
    [],
  );
}

/**
 * @param {Elapsed} heard
 * @param {boolean} lost
 */
function goneAt(heard, lost) {
  const at = clock(heard.wall);
  const text = lost ? `the service does not answer; last heard at ${at}` : `the service has not been heard since ${at}`;
  const item = {
    text: `Nothing is known of the last ${duration(heard.ms / 1000)}. What is shown below is as it was at ${at}.`,
    grave: true,
  };
  return unknown("gone", text, lost ? "no answer" : "not heard", [item]);
}

/**
 * @param {Summary} summary
 * @param {number} ms
 */
function stuckAt(summary, ms) {
  const at = clock(summary.published_ms);
  const item = {
    text: `The worker's loop has not come round for ${duration(ms / 1000)}: nothing is judged meanwhile, readings wait in Kafka. What is shown below is as it was at ${at}.`,
    grave: true,
  };
  return unknown("gone", `the worker's loop has not come round since ${at}`, "not judging", [item]);
}

/**
 * @param {Summary} summary
 * @param {Note[]} items
 */
function well({ state, streams, judged, anomalies_open, partitions, partitions_ready }, items) {
  if (state !== "running" || !judged || anomalies_open) return null;
  if (partitions_ready < partitions) {
    const text = `${count(judged, "stream")} of ${number(partitions_ready)} of ${number(partitions)} partitions are judged, and each is as it is expected to be.`;
    return { text, whole: false };
  }
  if (judged < streams) {
    const text = `${number(judged)} of ${count(streams, "stream")} are judged, and each of these is as it is expected to be.`;
    return { text, whole: false };
  }
  const all =
    streams === 1 ? "The only stream is judged, and it is" : `All ${number(streams)} streams are judged, and each is`;
  return { text: `Nothing. ${all} as it is expected to be.`, whole: items.length === 0 };
}

/**
 * @param {Lately} lately
 * @param {number} now
 * @param {Stream[]} silent
 */
function unjudged(lately, now, silent) {
  const summary = lately.now;
  const found = [
    notRunning(summary),
    notServed(summary),
    noPartition(summary),
    noStream(summary),
    learning(summary),
    refusedRecords(lately),
    waiting(lately),
    aheadOfTime(summary, now),
    quiet(lately, now),
    dropped(lately),
    silentStreams(lately, silent, now),
  ];
  return found.filter((one) => one !== null);
}

/**
 * line: in a few words, for the state; short: in two, for the title.
 * @type {(line: string, short: string, text: string) => GraveNote}
 */
const grave = (line, short, text) => ({ line, short, text, grave: true });
/**
 * @param {Note} item
 * @returns {item is GraveNote}
 */
const isGrave = (item) => item.grave;

/** @type {(text: string) => Note} */
const note = (text) => ({ text, grave: false });

/** @param {Summary} summary */
function notRunning({ state, started_ms }) {
  if (state === "running") return null;
  const since = state === "starting" ? ` since ${clock(started_ms)}` : "";
  return grave(
    `the service is ${state}${since}`,
    state,
    `Nothing is judged ${state === "starting" ? "yet" : "any more"} by this worker.`,
  );
}

/** @param {Summary} summary */
function notServed({ state, partitions, partitions_ready, reason }) {
  const busy = partitions - partitions_ready;
  if (state !== "running" || !busy) return null;
  const line = `${number(busy)} of ${count(partitions, "partition")} ${busy === 1 ? "is" : "are"} not judged yet`;
  return grave(line, "not ready", `Not judged yet, and their readings wait: ${reason}.`);
}

/** @param {Summary} summary */
function noPartition({ state, partitions, reason }) {
  return state === "running" && !partitions ? note(`Nothing is judged by this worker: ${reason}.`) : null;
}

/** @param {Summary} summary */
function noStream({ state, partitions, partitions_ready, streams, readings, rejected, topics }) {
  if (state !== "running" || streams || !partitions || partitions_ready < partitions) return null;
  const from = topics.join(", ");
  if (readings)
    return grave(
      "no stream is known",
      "no stream",
      "No stream is known any more: all have been idle for so long that they were forgotten.",
    );
  return rejected
    ? grave(
        "no stream yet",
        "no stream",
        `No stream yet: none of the ${count(rejected, "record")} read from ${from} could be judged.`,
      )
    : grave("no stream yet", "no stream", `No stream yet: nothing has been read from ${from}.`);
}

/** @param {Summary} summary */
function learning({ streams, judged, warming }) {
  if (!warming) return null;
  if (!judged) {
    const all =
      warming === streams
        ? `All ${count(warming, "stream")} are`
        : `${number(warming)} of ${count(streams, "stream")} are`;
    return grave(
      "no stream is judged yet",
      "learning",
      `No stream is judged yet. ${streams === 1 ? "The only one is" : all} still learning what is normal.`,
    );
  }
  const text = `${number(warming)} of ${count(streams, "stream")} ${warming === 1 ? "is" : "are"} not judged yet: still learning what is normal.`;
  return warming >= SHARE_LEARNING * streams
    ? grave(`${number(judged)} of ${count(streams, "stream")} are judged`, "learning", text)
    : note(text);
}

/** @param {Lately} lately */
function refusedRecords(lately) {
  const { rejected, readings, started_ms, rejected_by_reason, many_rejected } = lately.now;
  if (!rejected) return null;
  const first = lately.seen[0];
  const recent = rejected - first.rejected;
  const settled = lately.ms >= SETTLED_MS;
  const reasons = Object.entries(rejected_by_reason).sort((one, other) => other[1] - one[1]);
  const words = reasons.map(([reason, times]) => `${number(times)} ${reason.replaceAll("_", " ")}`).join(", ");
  const text = `${count(rejected, "record")} ${rejected === 1 ? "was" : "were"} refused and not judged since ${clock(started_ms)}, ${number(recent)} of them ${lately.words}: ${words}. They are in the dead letters.`;
  const share = settled
    ? recent > SHARE_REFUSED * (readings - first.readings + recent)
    : rejected > SHARE_REFUSED * (readings + rejected);
  const many = share || (recent > 0 && many_rejected); // the worker's warning, as long as refusals go on
  return many ? grave("records are refused", "refusing", text) : note(text);
}

/** @param {Lately} lately */
function waiting(lately) {
  const { lag, streams } = lately.now;
  if (lag === null) return streams ? note("How many records wait to be judged is not known yet.") : null;
  if (lag <= LITTLE_LAG) return null;
  const { rate } = lately;
  if (rate === null)
    return lag > MUCH_LAG
      ? grave("readings wait to be judged", "behind", `${number(lag)} records wait to be judged.`)
      : null;
  if (lag <= BEHIND_S * rate) return null;
  const before = lately.before(SETTLED_MS);
  const grows = before.lag !== null && lag > before.lag;
  const pace = rate ? `, about ${duration(lag / rate)} at this pace` : ", and none is being judged";
  return grave(
    "readings wait to be judged",
    "behind",
    `${number(lag)} records wait to be judged${pace}${grows ? "; their number grows" : ""}.`,
  );
}

/**
 * @param {Summary} summary
 * @param {number} now
 */
function aheadOfTime({ event_time_ms }, now) {
  if (event_time_ms === null || event_time_ms - now <= AHEAD_MS) return null;
  const far = duration((event_time_ms - now) / 1000);
  return grave(
    "the newest reading is ahead of time",
    "wrong time",
    `The newest reading is ${far} ahead of the service's clock. A stream whose time is ahead has its next readings dropped as late.`,
  );
}

/**
 * @param {Lately} lately
 * @param {number} now
 */
function quiet(lately, now) {
  const { streams, event_time_ms } = lately.now;
  if (!streams || lately.quiet < SETTLED_MS) return null;
  const long = lately.quiet >= WINDOW_MS - SETTLED_MS;
  const since = long ? "5 min or longer" : duration(lately.quiet / 1000);
  const old = now - (event_time_ms ?? now);
  if (old > OLD_MS) {
    return grave(
      "no readings come",
      "no readings",
      `No reading has come for ${since}; the newest is ${duration(old / 1000)} old.`,
    );
  }
  if (long) return grave("no readings come", "no readings", `No reading has come for ${since}.`);
  return lately.quiet >= QUIET_MS ? note(`No reading has come for ${since}.`) : null;
}

/** @param {Lately} lately */
function dropped(lately) {
  const [first, last] = [lately.seen[0], lately.now];
  const [late, twice] = [last.late - first.late, last.duplicate - first.duplicate];
  if (!late && !twice) return null;
  const text = `${count(late, "reading")} came late and ${number(twice)} twice ${lately.words}: they were dropped and not judged.`;
  return late > SHARE_DROPPED * (last.readings - first.readings)
    ? grave("late readings are dropped", "late", text)
    : note(text);
}

/**
 * @param {Lately} lately
 * @param {Stream[]} silent the streams whose last reading is longest ago, as listed
 * @param {number} now
 */
function silentStreams(lately, silent, now) {
  const { interval } = lately;
  if (interval === null || !silent.length) return null;
  const latest = Math.min(lately.now.event_time_ms ?? now, now);
  const least = Math.max(QUIET_MS, SILENT_INTERVALS * interval);
  const long = silent.filter((one) => one.time !== null && latest - Date.parse(one.time) > least);
  if (!long.length) return null;
  const more =
    long.length === 1
      ? ""
      : `, and ${long.length === silent.length ? "at least " : ""}${number(long.length - 1)} more are silent`;
  const each = duration(Math.max(1, interval / 1000));
  return note(
    `${long[0].stream} has had no reading for ${duration((latest - Date.parse(long[0].time ?? "")) / 1000)}${more}: streams have one every ${each} on average.`,
  );
}
