// What a stream's readings were before someone looked, judged again from the topic, and how far that has come.

import { Refused, listenTo } from "./service.js";
import { number } from "./words.js";

/** @typedef {import("./types.d.ts").Place} Place */
/** @typedef {import("./types.d.ts").Looked} Looked */
/** @typedef {import("./types.d.ts").Progress} Progress */
/** @typedef {(words: string, share: number | null | undefined) => void} Say share: null: not known, undefined: nothing is under way */

export const READINGS = 600;

export class Past {
  constructor() {
    this.controller = new AbortController();
  }

  // Ends what is under way: the service stops with it.
  end() {
    this.controller.abort();
    this.controller = new AbortController();
  }

  /**
   * @param {Pick<Place, "at" | "readings"> & { stream: string }} place at: null: the latest
   * @param {Say} said called as it goes on
   * @returns {Promise<Looked | null>} null: it was ended, or there is nothing, which has been said
   */
  async ask({ stream, at, readings }, said) {
    this.end();
    const { signal } = this.controller;
    const parameters = { stream, readings: readings ?? READINGS, ...(at !== null && { around_ms: at }) };
    said("Looking for what was before", null);
    try {
      for await (const { event, data } of listenTo("past", parameters, signal)) {
        if (event === "past") return data;
        if (event === "refused") said(`What was before cannot be shown: ${data.reason}.`, undefined);
        else said(...progress(data));
      }
    } catch (error) {
      if (!signal.aborted) said(excuse(/** @type {Error} */ (error)), undefined);
    }
    return null;
  }
}

/**
 * @param {Progress} progress
 * @returns {[string, number | null]}
 */
function progress({ what, read, of }) {
  if (what === "turn") return ["Someone else looks back now: waiting for a turn", null];
  const share = of ? read / of : null;
  return what === "state"
    ? ["Looking for a state to begin from", share]
    : [`Judging again from the topic: record ${number(read)} of at most ${number(of)}`, share];
}

/** @param {Error} error */
function excuse(error) {
  if (error instanceof Refused && error.status === 404) return "There is no topic here to look back into.";
  return `What was before cannot be shown: ${error.message}`;
}
