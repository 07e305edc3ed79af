// How the page asks the service: JSON, and events as long as it looks. The token travels as a header, which EventSource
// cannot send: so events are read from a fetch. It is kept for this tab alone.

const TOKEN = "telltale-token";
const WAIT_MS = [500, 1000, 2000, 5000];

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

async function request(path, parameters, options = {}) {
  const query = new URLSearchParams(parameters);
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    const answer = await fetch(`/api/v1/${path}?${query}`, { ...options, headers });
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

// Calls tell(name, data) with every event, and connected(whether) as the connection comes and goes. After a break it
// goes on behind the last anomaly it knows. Returns how to end it.
export function follow(stream, tell, connected) {
  const end = new AbortController();
  let lastId = null;
  let failures = 0;

  async function listen() {
    const headers = { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) };
    const answer = await request("events", stream === null ? {} : { stream }, { headers, signal: end.signal });
    connected(true);
    failures = 0;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
        lastId = fields.id ?? lastId;
        tell(fields.event, JSON.parse(fields.data));
      }
    }
  }

  (async () => {
    while (!end.signal.aborted) {
      await listen().catch(() => {});
      if (end.signal.aborted) return;
      connected(false);
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS[Math.min(failures++, WAIT_MS.length - 1)]));
    }
  })();
  return () => end.abort();
}
