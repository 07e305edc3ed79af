// How the page asks the service: JSON, and events as long as it looks. The token travels as a header, which EventSource
// cannot send: so events are read from a fetch. It is kept for this tab alone.

import { element } from "./elements.js";

const TOKEN = "telltale-token";
const WAIT_MS = [500, 1000, 2000, 5000];
const ANSWER_WITHIN_MS = 10_000;
const SILENT_MS = 10_000; // events come every second: a connection that is silent for so long is taken for broken

export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} reason
   */
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/** @typedef {Record<string, string | number>} Parameters */
/** @typedef {{ method?: string, body?: string, headers?: Record<string, string>, signal?: () => AbortSignal }} Options */

/** @type {Promise<void> | null} */
let asking = null;

/**
 * @param {string} path
 * @param {Parameters} parameters
 * @returns {Promise<any>}
 */
export async function ask(path, parameters = {}) {
  const answer = await request(path, parameters);
  return answer.json();
}

/**
 * Changes something. Sent once: an answer that did not come is not asked for again.
 * @param {"POST" | "DELETE"} method
 * @param {string} path
 * @param {object} [content]
 * @returns {Promise<any>}
 */
export async function send(method, path, content) {
  const body = content && { body: JSON.stringify(content), headers: { "Content-Type": "application/json" } };
  const answer = await request(path, {}, { method, ...body });
  return answer.json();
}

/**
 * @param {string} path
 * @param {Parameters} parameters
 * @param {Options} options signal gives what ends a try: there are several where the token has to be asked for
 */
async function request(path, parameters, options = {}) {
  const query = new URLSearchParams(Object.entries(parameters).map(([name, value]) => [name, String(value)]));
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    const signal = options.signal?.() ?? AbortSignal.timeout(ANSWER_WITHIN_MS);
    const { method, body } = options;
    const answer = await fetch(`/api/v1/${path}?${query}`, { method, body, headers, signal });
    if (answer.status === 401) {
      await askForToken(token);
    } else if (answer.ok) {
      return answer;
    } else {
      const said = await answer.json().catch(() => ({}));
      throw new Refused(answer.status, said.reason ?? `${answer.status} ${answer.statusText}`);
    }
  }
}

/** @param {string | null} refused */
function askForToken(refused) {
  if (sessionStorage.getItem(TOKEN) !== refused) return Promise.resolve(); // another request has asked meanwhile
  asking ??= /** @type {Promise<void>} */ (
    new Promise((resolve) => {
      const dialog = element("ask", HTMLDialogElement);
      const input = element("token", HTMLInputElement);
      if (refused !== null) element("ask-note").textContent = "That was not this service's token.";
      dialog.addEventListener("cancel", (event) => event.preventDefault());
      dialog.addEventListener(
        "close",
        () => {
          sessionStorage.setItem(TOKEN, input.value.trim());
          input.value = "";
          asking = null;
          resolve(undefined);
        },
        { once: true },
      );
      dialog.showModal();
    })
  );
  return asking;
}

/**
 * The events of an answer, until it ends.
 * @param {Response} answer
 * @param {() => void} heard called whenever something comes
 * @returns {AsyncGenerator<{ event: string, id?: string, data: any }>}
 */
async function* eventsOf(answer, heard = () => {}) {
  const reader = /** @type {ReadableStream} */ (answer.body).pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const blocks = (text + value).split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      yield { event: fields.event, id: fields.id, data: JSON.parse(fields.data) };
    }
  }
}

/**
 * The events of an answer that comes to an end, unless the signal ends it before.
 * @param {string} path
 * @param {Parameters} parameters
 * @param {AbortSignal} signal
 */
export async function* listenTo(path, parameters, signal) {
  yield* eventsOf(await request(path, parameters, { signal: () => signal }));
}

/**
 * Follows what is new; after a break, from behind the last anomaly it knows.
 * @param {string | null} stream whose readings are wanted too
 * @param {(name: string, data: any) => void} receive called with every event
 * @param {(connected: boolean, error?: unknown) => void} connected called as the connection comes and goes
 * @returns {() => void} how to end it
 */
export function follow(stream, receive, connected) {
  const end = new AbortController();
  /** @type {string | null} */
  let lastId = null;
  let failures = 0;

  /** @param {Silence} silence */
  async function listen(silence) {
    const headers = { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) };
    const signal = () => AbortSignal.any([end.signal, silence.begin()]);
    const answer = await request("events", stream === null ? {} : { stream }, { headers, signal });
    connected(true);
    failures = 0;
    for await (const { event, id, data } of eventsOf(answer, () => silence.begin())) {
      lastId = id ?? lastId;
      receive(event, data);
    }
  }

  (async () => {
    while (!end.signal.aborted) {
      const silence = new Silence(SILENT_MS);
      const error = await listen(silence).catch((error) => error);
      silence.end();
      if (end.signal.aborted) return;
      connected(false, error);
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS[Math.min(failures++, WAIT_MS.length - 1)]));
    }
  })();
  return () => end.abort();
}

// Ends a try when nothing has come for so long.
class Silence {
  /** @param {number} ms */
  constructor(ms) {
    this.ms = ms;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.controller = new AbortController();
  }

  begin() {
    clearTimeout(this.timer);
    if (this.controller.signal.aborted) this.controller = new AbortController(); // while the token was asked for
    this.timer = setTimeout(() => this.controller.abort(), this.ms);
    return this.controller.signal;
  }

  end() {
    clearTimeout(this.timer);
  }
}
