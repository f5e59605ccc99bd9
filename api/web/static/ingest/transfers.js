/** Uploads on their way. They go on while another view is shown. */

import { readAnswer, unreachable } from "../lib/answers.js";
import { authorization, readKey } from "../lib/api_key.js";
import { limits } from "../lib/server.js";
import { hasOtherKey } from "../lib/sign_in.js";
import { pause } from "../lib/timing.js";
import { JOB } from "../jobs/follow.js";
import { partsOf, randomName } from "./parts.js";

const WAITS_SECONDS = [1, 2, 4, 8, 15];

/** Every transfer since the page was opened that was not dismissed, oldest first. */
export const transfers = [];

/** Starts sending a selection with `options` (`collection`, `metadata`, `skipNear`); `title` names it here, `formState` is what the form needs to be filled again. */
export function start(title, selection, options, formState) {
  const parts = [...partsOf(selection, options)];
  const group = parts.length > 1 ? randomName() : null;
  parts.forEach((part, at) => {
    const label = { origin: "page", ...selection.label, ...(group && { group: `${group}-${Math.floor(at / limits.group_jobs)}` }) };
    part.path = `/v1/jobs?${new URLSearchParams(label)}`;
  });
  const transfer = new Transfer(title, parts, formState);
  transfers.push(transfer);
  transfer.run();
  return transfer;
}

/**
 * `state` is `sending`, `waiting` (for another try), `stopped` (by `error`), `cancelled`, `sent`, or `lost` where
 * nothing could be read of what was to be sent; `jobs` are those made so far. Fires `change` whenever something of this does.
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

  /** The paths of what could not be read any more when it was to be sent. */
  get lost() {
    return this.#parts.flatMap(({ lost }) => lost);
  }

  /** What of the selection was not taken. */
  get left() {
    return this.#parts.slice(this.#at).flatMap(({ files }) => files);
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
        const part = this.#parts[this.#at];
        const job = await this.#post(part);
        part.release();
        if (job) this.jobs.push(job);
      }
      this.#become(this.jobs.length ? "sent" : "lost");
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

  /** The job of a part; null if nothing is left of it. */
  async #post(part) {
    const { signal } = this.#abort;
    for (let tries = 0; ; ) {
      const [apiKey, startedAt, body] = [readKey(), performance.now(), await part.form()];
      signal.throwIfAborted();
      if (!body) return null;
      try {
        return await post(part, body, signal, (sent) => {
          this.#sentOfPart = sent;
          this.dispatchEvent(new Event("change"));
        });
      } catch (error) {
        if (signal.aborted) throw error;
        if (error.status === 0 && (await part.hasLost())) continue;
        if (await hasOtherKey(error, apiKey, startedAt)) continue;
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
function post({ path, key }, body, signal, onProgress) {
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
    request.send(body);
  });
}

addEventListener("beforeunload", (event) => {
  if (transfers.some((transfer) => transfer.isOpen)) event.preventDefault();
});
