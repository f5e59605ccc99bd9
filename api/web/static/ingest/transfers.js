/** Uploads on their way. They go on while another view is shown. */

import { readAnswer, unreachable } from "../lib/answers.js";
import { authorization, readKey } from "../lib/api_key.js";
import { limits } from "../lib/server.js";
import { hasOtherKey } from "../lib/sign_in.js";
import { pause } from "../lib/timing.js";
import { JOB } from "../jobs/follow.js";

const BATCH_FILES = 200;
// Half of what the server takes: a form holds more than its files.
const BATCH_BYTES = Math.min(64 * 2 ** 20, limits.upload_bytes / 2);
const WAITS_SECONDS = [1, 2, 4, 8, 15];

/** Every transfer since the page was opened that was not dismissed, oldest first. */
export const transfers = [];

/** Starts sending a selection with `options` (`collection`, `metadata`, `skipNear`); `title` names it here, `formState` is what the form needs to be filled again. */
export function start(title, selection, options, formState) {
  const made = [...parts(selection, options)];
  const group = made.length > 1 ? randomName() : null;
  made.forEach((one, at) => {
    const part = { origin: "page", ...selection.label, ...(group && { group: `${group}-${Math.floor(at / limits.group_jobs)}` }) };
    one.path += `${one.path.includes("?") ? "&" : "?"}${new URLSearchParams(part)}`;
  });
  const transfer = new Transfer(title, made, formState);
  transfers.push(transfer);
  transfer.run();
  return transfer;
}

function* parts(selection, options) {
  for (const files of batches(selection.images)) yield filesPart(files, options);
  for (const archive of selection.archives) yield filesPart([archive], options);
  const { urls } = selection;
  if (urls.length) yield itemsPart(urls, options);
}

function* batches(files) {
  let batch = [];
  let bytes = 0;
  for (const one of files) {
    if (batch.length && (batch.length === BATCH_FILES || bytes + one.file.size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(one);
    bytes += one.file.size;
  }
  if (batch.length) yield batch;
}

function filesPart(files, options) {
  const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
  return part("/v1/jobs", () => form(files, options), bytes);
}

function form(files, { collection, metadata, skipNear }) {
  const body = new FormData();
  body.append("collection", collection);
  body.append("metadata", JSON.stringify(metadata));
  if (skipNear) body.append("on_near_duplicate", "skip");
  for (const { file, path } of files) body.append("files", file, path);
  return body;
}

function itemsPart(items, { collection, metadata, skipNear }) {
  const lines = items.map((item) => JSON.stringify({ ...item, metadata: { ...metadata, ...item.metadata } }));
  const body = new Blob([lines.join("\n")], { type: "application/x-ndjson" });
  const query = new URLSearchParams({ collection, ...(skipNear && { on_near_duplicate: "skip" }) });
  return part(`/v1/jobs?${query}`, () => body, body.size);
}

// One idempotency key for all tries: a part that arrived although its answer did not makes no second job.
function part(path, body, bytes) {
  return { path, body, bytes, key: randomName() };
}

function randomName() {
  const random = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is for https only
  return [...random].map((one) => one.toString(16).padStart(2, "0")).join("");
}

/**
 * `state` is `sending`, `waiting` (for another try), `stopped` (by `error`), `cancelled` or `sent`; `jobs` are
 * those made so far. Fires `change` whenever something of this does.
 */
export class Transfer extends EventTarget {
  #parts;
  #at = 0;
  #sentOfPart = 0;
  #abort;

  constructor(label, parts, formState) {
    super();
    Object.assign(this, { label, formState, jobs: [], state: "sending", error: null, startedAt: Date.now() });
    this.#parts = parts;
  }

  get bytes() {
    return this.#parts.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get sent() {
    const done = this.#parts.slice(0, this.#at).reduce((sum, { bytes }) => sum + bytes, 0);
    return done + Math.min(this.#sentOfPart, this.#parts[this.#at]?.bytes ?? 0);
  }

  get parts() {
    return this.#parts.length;
  }

  get partsLeft() {
    return this.#parts.length - this.#at;
  }

  get isOpen() {
    return this.state === "sending" || this.state === "waiting";
  }

  /** Sends what is left; also after `stopped`, which sends the part again that was not taken. */
  async run() {
    this.#abort = new AbortController();
    try {
      for (; this.partsLeft; this.#at++, this.#sentOfPart = 0) {
        this.#become("sending");
        this.jobs.push(await this.#post(this.#parts[this.#at]));
      }
      this.#become("sent");
    } catch (error) {
      this.#become(this.#abort.signal.aborted ? "cancelled" : "stopped", error);
    }
  }

  /** Leaves out the part that was not taken. */
  skip() {
    this.#at++;
    return this.run();
  }

  cancel() {
    this.#abort.abort();
  }

  dismiss() {
    transfers.splice(transfers.indexOf(this), 1);
    this.dispatchEvent(new Event("change"));
  }

  #become(state, error = null) {
    Object.assign(this, { state, error });
    this.dispatchEvent(new Event("change"));
  }

  async #post(one) {
    const { signal } = this.#abort;
    for (let tries = 0; ; ) {
      const [key, startedAt] = [readKey(), performance.now()];
      try {
        return await post(one, signal, (sent) => {
          this.#sentOfPart = sent;
          this.dispatchEvent(new Event("change"));
        });
      } catch (error) {
        if (signal.aborted) throw error;
        if (await hasOtherKey(error, key, startedAt)) continue;
        if (!error.isPassing || tries === WAITS_SECONDS.length) throw error;
        this.#sentOfPart = 0;
        this.#become("waiting", error);
        await pause(Math.max(WAITS_SECONDS[tries++], error.retryAfterS) * 1000, signal);
        this.#become("sending");
      }
    }
  }
}

// Not fetch, which does not say how far an upload is.
function post({ path, body, key }, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.setRequestHeader("Idempotency-Key", key);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      try {
        resolve(readAnswer(request.status, (name) => request.getResponseHeader(name), request.responseText, JOB));
      } catch (error) {
        reject(error);
      }
    };
    request.onerror = () => reject(unreachable());
    signal.addEventListener("abort", () => {
      request.abort();
      reject(signal.reason);
    });
    request.send(body());
  });
}

addEventListener("beforeunload", (event) => {
  if (transfers.some((transfer) => transfer.isOpen)) event.preventDefault();
});
