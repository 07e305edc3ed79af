// How the page asks the service: JSON, and events as long as it looks. The token travels as a header, which EventSource
// cannot send: so events are read from a fetch. It is kept for this tab alone.

const TOKEN = "telltale-token";
const WAIT_MS = [500, 1000, 2000, 5000];
const ANSWER_WITHIN_MS = 10_000;
const SILENT_MS = 10_000; // events come every second: a connection that is silent for so long is taken for broken

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

let asking = null;

export async function ask(path, parameters = {}) {
  const answer = await request(path, parameters);
  return answer.json();
}

// options: headers, and signal, which gives what ends a try: there are several where the token has to be asked for.
async function request(path, parameters, options = {}) {
  const query = new URLSearchParams(parameters);
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    const signal = options.signal?.() ?? AbortSignal.timeout(ANSWER_WITHIN_MS);
    const answer = await fetch(`/api/v1/${path}?${query}`, { headers, signal });
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

function askForToken(refused) {
  if (sessionStorage.getItem(TOKEN) !== refused) return Promise.resolve(); // another request has asked meanwhile
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("ask");
    const input = document.getElementById("token");
    if (refused !== null) document.getElementById("ask-note").textContent = "That was not this service's token.";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener(
      "close",
      () => {
        sessionStorage.setItem(TOKEN, input.value.trim());
        input.value = "";
        asking = null;
        resolve();
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}

// The events of an answer, {event, id, data}, until it ends. heard: called whenever something comes.
async function* eventsOf(answer, heard = () => {}) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      yield { ...fields, data: JSON.parse(fields.data) };
    }
  }
}

// The events of an answer that comes to an end, unless the signal ends it before.
export async function* listenTo(path, parameters, signal) {
  yield* eventsOf(await request(path, parameters, { signal: () => signal }));
}

// Calls receive(name, data) with every event, and connected(whether, error) as the connection comes and goes. After a break
// it goes on behind the last anomaly it knows. Returns how to end it.
export function follow(stream, receive, connected) {
  const end = new AbortController();
  let lastId = null;
  let failures = 0;

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
  constructor(ms) {
    this.ms = ms;
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
