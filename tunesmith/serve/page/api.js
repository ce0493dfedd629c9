/*
 * The server: requests with errors that people understand, and the events of one conversation.
 */

export class ServerError extends Error {
  /** status: 0 if the server did not answer. */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const PATIENCE = 20000; // ms
const LONG_PATIENCE = 900000; // ms; for what loads a model, or reads or writes many conversations
const UNREACHABLE = "The server does not answer.";

/** Ask the server; returns the JSON of its answer, or its text. patience: in ms. Throws ServerError. */
export async function ask(method, path, body = undefined, patience = PATIENCE) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(patience),
    });
  } catch {
    throw new ServerError(UNREACHABLE, 0);
  }
  let text;
  try {
    text = await answer.text();
  } catch {
    throw new ServerError(UNREACHABLE, 0);
  }
  const isJson = (answer.headers.get("content-type") ?? "").startsWith("application/json");
  let content = text;
  try {
    if (isJson) content = JSON.parse(text);
  } catch {
    throw new ServerError(UNREACHABLE, 0);
  }
  if (!answer.ok)
    throw new ServerError(content?.error?.message ?? `The server answers with status ${answer.status}.`, answer.status);
  return content;
}

const message = (id, what) => `/api/messages/${encodeURIComponent(id)}/${what}`;
const home = (id, what = "") => `/api/conversations/${encodeURIComponent(id)}${what}`;

export const server = {
  state: () => ask("GET", "/api/state"),
  list: (query) => ask("GET", `/api/conversations?query=${encodeURIComponent(query)}`),
  conversation: (id) => ask("GET", home(id)),
  create: (id, system) => ask("POST", "/api/conversations", { id, system }),
  change: (id, changes) => ask("PATCH", home(id), changes),
  remove: (id) => ask("DELETE", home(id)),
  send: (id, body) => ask("POST", home(id, "/send"), body),
  retry: (id, answers) => ask("POST", message(id, "retry"), { answers }),
  continue: (id, sampling) => ask("POST", message(id, "continue"), { sampling }),
  stop: (id) => ask("POST", message(id, "stop"), {}),
  edit: (id, made, text) => ask("POST", message(id, "edit"), { id: made, text }),
  show: (id) => ask("POST", message(id, "show"), {}),
  choose: (id) => ask("POST", message(id, "choose"), {}),
  vote: (id, vote) => ask("POST", message(id, "vote"), { vote }),
  comment: (id, text) => ask("POST", message(id, "comment"), { text }),
  removeMessage: (id) => ask("DELETE", `/api/messages/${encodeURIComponent(id)}`),
  prompt: (id) => ask("GET", message(id, "prompt"), undefined, LONG_PATIENCE),
  export: (format, id) => {
    const only = id ? `&conversation=${encodeURIComponent(id)}` : "";
    return ask("GET", `/api/export?format=${format}${only}`, undefined, LONG_PATIENCE);
  },
  import: (name, text) => ask("POST", "/api/import", { name, text }, LONG_PATIENCE),
};

const FIRST_PAUSE = 500; // ms
const LONGEST_PAUSE = 8000;
const SILENCE = 40000; // ms without an event, of which the server sends one every 15 s
const LONGEST_ID = 1500;

/** The events of one conversation; a lost connection is opened again, and continued where it was, until `close`. */
export class Watch {
  /** listeners: conversation, message, text, gone; connected without data; lost(how often in a row). */
  constructor(id, listeners) {
    this.id = id;
    this.listeners = listeners;
    this.pause = FIRST_PAUSE;
    this.losses = 0;
    this.last = ""; // the id of the last event
    this.closed = false;
    this.open();
  }

  open() {
    const after = this.last && this.last.length <= LONGEST_ID ? `?after=${encodeURIComponent(this.last)}` : "";
    const source = new EventSource(home(this.id, `/events${after}`));
    this.source = source;
    this.expect(source);
    const listen = (name) =>
      source.addEventListener(name, (event) => {
        if (this.source !== source || this.closed) return;
        this.expect(source);
        this.last = event.lastEventId || this.last;
        this.listeners[name]?.(JSON.parse(event.data));
      });
    ["conversation", "message", "text", "here"].forEach(listen);
    source.addEventListener("open", () => {
      this.pause = FIRST_PAUSE;
      this.losses = 0;
      this.listeners.connected();
    });
    source.addEventListener("gone", () => {
      this.close();
      this.listeners.gone();
    });
    source.addEventListener("error", () => this.again(source));
    source.addEventListener("bye", () => this.again(source));
  }

  /** Take a connection for lost if nothing arrives for long. */
  expect(source) {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.again(source), SILENCE);
  }

  again(source) {
    source.close();
    if (this.closed || this.source !== source) return;
    clearTimeout(this.silence);
    this.losses += 1;
    this.listeners.lost(this.losses);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), this.pause);
    this.pause = Math.min(LONGEST_PAUSE, 2 * this.pause);
  }

  /** Try now to open a lost connection. */
  retry() {
    if (this.closed || this.source.readyState !== EventSource.CLOSED) return;
    clearTimeout(this.timer);
    this.pause = FIRST_PAUSE;
    this.open();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    clearTimeout(this.silence);
    this.source.close();
  }
}
