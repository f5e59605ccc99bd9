/** Requests to this server, with the visitor's API key where keys are on. */

import { ApiError, checkSender, readAnswer, unreachable } from "./answers.js";
import { authorization, readKey } from "./api_key.js";
import { hasOtherKey, signedIn } from "./sign_in.js";
import { pause } from "./timing.js";

export const UNAUTHORIZED = "This needs an API key: sign in.";
const LONGEST_WAIT_SECONDS = 60;
const MAX_TRIES = 4;

/**
 * The answer's JSON; null when it has none. A plain object as `body` is sent as JSON; FormData, a Blob or a
 * string as it is. `needs`: the members without which the answer is not this server's. `isOptional`: a key without
 * the scope for it is no reason to ask for another. `onModel`: where it is given, a model that the server has yet to
 * load or download is waited for, and this is called with the refusal each time. Throws ApiError, and what `signal` was
 * aborted with.
 */
export async function api(path, { needs, ...options } = {}) {
  const answer = await request(path, options);
  return readAnswer(answer.status, headerOf(answer), await bodyOf(answer), needs);
}

/** The answer's bytes; otherwise as `api`. */
export async function blob(path, options) {
  return (await request(path, options)).blob();
}

/** The raw answer, once it is a success; asks for a key where one is needed and waits where a GET is asked to. */
export async function request(path, { method = "GET", body, headers = {}, signal, isOptional = false, onModel = null } = {}) {
  const isPlain = body !== null && typeof body === "object" && Object.getPrototypeOf(body) === Object.prototype;
  const startedAt = performance.now();
  for (let tries = 1; ; tries++) {
    if (!(await signedIn())) throw new ApiError(401, { code: "unauthorized", detail: UNAUTHORIZED });
    const key = readKey();
    try {
      return await tryOnce(path, {
        method,
        signal,
        body: isPlain ? JSON.stringify(body) : body,
        headers: { ...(isPlain && { "Content-Type": "application/json" }), ...headers, ...authorization() },
      });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const mayAsk = !isOptional || error.status !== 403;
      if (mayAsk && (await hasOtherKey(error, key, startedAt))) continue;
      const { status, retryAfterS } = error;
      const isPassing = [429, 503].includes(status) && retryAfterS > 0 && retryAfterS <= LONGEST_WAIT_SECONDS;
      const isOfModel = isPassing && error.code === "model_not_ready" && onModel; // nothing was done yet
      if (!isOfModel && (!isPassing || method !== "GET" || tries >= MAX_TRIES)) throw error;
      if (isOfModel) onModel(error);
      await pause(retryAfterS * 1000, signal);
    }
  }
}

async function tryOnce(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  checkSender(answer.status, headerOf(answer));
  if (!answer.ok) readAnswer(answer.status, headerOf(answer), await bodyOf(answer));
  return answer;
}

const headerOf = (answer) => (name) => answer.headers.get(name);

async function bodyOf(answer) {
  try {
    return await answer.text();
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable(); // it broke off
  }
}
