/** Requests to this server, with the visitor's API key where keys are on. */

import { h } from "./dom.js";

const KEY = "image-search-key";
const UNAUTHORIZED = "This needs an API key: sign in.";
const MOST_WAIT_S = 60;
const MOST_TRIES = 4;
const MOST_PICTURES = 600;

/** An answer that is an error: the fields of its problem document (RFC 9457). */
export class ApiError extends Error {
  constructor(status, { code = "unreachable", detail, errors = [] } = {}) {
    super(detail ?? `The server answered ${status}.`);
    Object.assign(this, { name: "ApiError", status, code, detail: this.message, errors });
  }
}

// --- the key

const keyListeners = new Set();
let asking = null;

let refused = false;
let declinedAt = -1;

const readKey = () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);

export const hasKey = () => readKey() !== null;

/** The headers that a request needs which is not made by `api`. */
export const authorization = () => (hasKey() ? { Authorization: `Bearer ${readKey()}` } : {});

/** Whether this server has asked for a key. */
export const needsKey = () => refused;

/** Calls `listener` whenever what `hasKey` or `needsKey` say changes. */
export function onKeyChange(listener) {
  keyListeners.add(listener);
}

function storeKey(key, remember) {
  for (const storage of [sessionStorage, localStorage]) storage.removeItem(KEY);
  if (key) (remember ? localStorage : sessionStorage).setItem(KEY, key);
  for (const picture of pictures.values()) picture.then(URL.revokeObjectURL, () => {});
  pictures.clear();
  tellListeners();
}

function tellListeners() {
  for (const listener of keyListeners) listener();
}

export function signOut() {
  storeKey(null);
  for (const url of pictures.values()) url.then(URL.revokeObjectURL, () => {});
  pictures.clear();
}

/** Asks for an API key; false when the visitor does not give one. `why` is shown above the field. */
export function signIn(why = "An API key opens this server.") {
  asking ??= new Promise((resolve) => {
    const dialog = signInDialog(why, () => {
      asking = null;
      if (dialog.returnValue !== "given") declinedAt = performance.now();
      resolve(dialog.returnValue === "given");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

function signInDialog(why, closed) {
  const key = h("input", {
    class: "field",
    id: "key",
    type: "password",
    autocomplete: "current-password",
    spellcheck: "false",
    required: true,
    placeholder: "isk_…",
  });
  const remember = h("input", { type: "checkbox", id: "remember" });
  const dialog = h(
    "dialog",
    {
      class: "dialog",
      "aria-labelledby": "sign-in-title",
      onclose: () => {
        dialog.remove();
        closed();
      },
    },
    h("h2", { id: "sign-in-title" }, "Sign in"),
    h("p", { class: "muted" }, why),
    h(
      "form",
      {
        method: "dialog",
        class: "stack",
        onsubmit: () => storeKey(key.value.trim(), remember.checked),
      },
      h("label", { for: "key" }, "API key"),
      key,
      h("label", { class: "check" }, remember, "Remember it on this device"),
      h(
        "div",
        { class: "row end" },
        h("button", { class: "button", type: "button", onclick: () => dialog.close("") }, "Cancel"),
        h("button", { class: "button primary", value: "given" }, "Sign in"),
      ),
    ),
    h(
      "p",
      { class: "muted small" },
      "Whoever runs the server makes one with ",
      h("code", {}, "image-search keys create --scope search,ingest"),
      ".",
    ),
  );
  return dialog;
}

// --- requests

/** The raw answer, once it is a success; asks for a key on 401 and waits where a GET is asked to. */
async function request(path, { method = "GET", body, headers = {}, signal } = {}) {
  const plain = body !== null && typeof body === "object" && Object.getPrototypeOf(body) === Object.prototype;
  const startedAt = performance.now();
  for (let tries = 1; ; tries++) {
    if (asking && !(await asking)) throw new ApiError(401, { code: "unauthorized", detail: UNAUTHORIZED });
    const key = readKey();
    const answer = await fetchOnce(path, {
      method,
      signal,
      body: plain ? JSON.stringify(body) : body,
      headers: {
        ...(plain && { "Content-Type": "application/json" }),
        ...headers,
        ...authorization(),
      },
    });
    if (answer.ok || answer.status === 304) return answer;
    const error = new ApiError(answer.status, await problemOf(answer));
    if (answer.status === 401) {
      refused = true;
      tellListeners();
      const isNew = readKey() !== key; // given meanwhile, by another request's dialog
      if (isNew || (startedAt > declinedAt && (await signIn(key ? error.detail : undefined)))) continue;
    }
    const wait = Number(answer.headers.get("Retry-After"));
    const patient = method === "GET" && [429, 503].includes(answer.status) && wait > 0 && wait <= MOST_WAIT_S;
    if (!patient || tries === MOST_TRIES) throw error;
    await pause(wait * 1000, signal);
  }
}

async function fetchOnce(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { detail: "The server cannot be reached." });
  }
}

async function problemOf(answer) {
  try {
    return await answer.json();
  } catch {
    return {};
  }
}

/**
 * The answer's JSON; null when it has none. A plain object as `body` is sent as JSON; FormData, a Blob or a
 * string as it is. Throws ApiError, and what `signal` was aborted with.
 */
export async function api(path, options) {
  const answer = await request(path, options);
  return answer.status === 204 ? null : answer.json();
}

/** The answer's bytes; otherwise as `api`. */
export async function blob(path, options) {
  return (await request(path, options)).blob();
}

const pictures = new Map();

/** What an `<img>` can show of a path of this server: an image element cannot send a key itself. */
export function pictureURL(path) {
  if (!hasKey()) return Promise.resolve(path);
  const known = pictures.get(path);
  pictures.delete(path); // to the end: the least recently used goes first
  const picture = known ?? blob(path).then(URL.createObjectURL);
  pictures.set(path, picture);
  picture.catch(() => pictures.delete(path));
  if (pictures.size > MOST_PICTURES) {
    const [oldest, url] = pictures.entries().next().value;
    pictures.delete(oldest);
    url.then(URL.revokeObjectURL, () => {});
  }
  return picture;
}

// --- event streams

/**
 * The events of a stream (Server-Sent Events), `{event, data}` with the data as text. Connects again as the
 * specification says until an event `end`, which is the last, or the signal. Throws ApiError when refused.
 */
export async function* events(path, { signal } = {}) {
  const stream = { retryMs: 2000, lastId: "" };
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream", ...(stream.lastId && { "Last-Event-ID": stream.lastId }) };
      const answer = await request(path, { headers, signal });
      if (answer.status === 204) return;
      for await (const event of parseEvents(answer.body, stream)) {
        yield event;
        if (event.event === "end") return;
      }
    } catch (error) {
      const broken = error instanceof TypeError || error.status === 0 || error.status >= 500;
      if (!broken && error.status !== 429) throw error;
    }
    await pause(stream.retryMs, signal);
  }
}

async function* parseEvents(body, stream) {
  let event = "message";
  let data = [];
  for await (const line of lines(body)) {
    const [, field, value] = /^([^:]*)(?:: ?)?(.*)$/.exec(line);
    if (line === "") {
      if (data.length) yield { event, data: data.join("\n") };
      event = "message";
      data = [];
    } else if (field === "event") event = value;
    else if (field === "data") data.push(value);
    else if (field === "id") stream.lastId = value;
    else if (field === "retry" && /^\d+$/.test(value)) stream.retryMs = Number(value);
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = parts.pop();
      yield* parts;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Throws what `signal` was aborted with, as soon as it is. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
