/** What an answer says: the server's data or its error, or that something else answered in its place. */

import { quoted } from "./format.js";
import { version } from "./server.js";

const WITHOUT_ID = "under this X-Request-ID";

/** A request that did not succeed; `message` is for people, `code`, `errors` and `columns` are those of the problem. */
export class ApiError extends Error {
  constructor(status, { code, detail, errors = [], columns = null, requestId = null, retryAfterS = 0 }) {
    const text = quoted(detail);
    super(status >= 500 && requestId ? withRequestId(text, requestId) : text);
    Object.assign(this, { name: "ApiError", status, code, errors, columns, retryAfterS });
  }

  /** Whether the same request may succeed a little later. */
  get isPassing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Whether an error is for the visitor's API key, so that asking again without another one is in vain. */
export const isRefusal = ({ status }) => status === 401 || status === 403;

function withRequestId(detail, id) {
  const named = detail.replace(WITHOUT_ID, `under the request id ${id}`);
  return named === detail ? `${detail} (Request id: ${id})` : named;
}

export function unreachable() {
  const detail =
    "The server cannot be reached. Look whether it runs and this device is online; where a proxy asks for a sign-in, reload the page.";
  return new ApiError(0, { code: "unreachable", detail });
}

/**
 * The JSON of an answer, null when it has none. Throws ApiError for an error, and for what is not this server's: a
 * success has the members that `needs` names.
 */
export function readAnswer(status, header, text, needs = []) {
  checkSender(status, header);
  const document = status === 204 ? null : parsed(text);
  const isOk = status >= 200 && status < 300;
  const isWhole = isOk ? needs.every((name) => Object.hasOwn(Object(document), name)) : typeof document?.detail === "string";
  if (document === undefined || !isWhole) throw foreign(status);
  if (isOk) return document;
  throw new ApiError(status, {
    ...document,
    requestId: header("X-Request-ID"),
    retryAfterS: Number(header("Retry-After")) || 0,
  });
}

/** Throws ApiError where a proxy answered, or a server whose version this page does not understand. */
export function checkSender(status, header) {
  const serverVersion = header("X-Image-Search-Version");
  if (serverVersion && major(serverVersion) !== major(version)) {
    const detail = `The server is of version ${serverVersion} now and this page of version ${version}: reload the page.`;
    throw new ApiError(status, { code: "other_version", detail });
  }
  const isPage = status !== 204 && /^text\/html\b/i.test(header("Content-Type") ?? "");
  if (isPage) throw foreign(status);
}

const major = (text) => text.split(".")[0];

function foreign(status) {
  const detail = `Something in between, such as a proxy, answered ${status} in the server's place. ${remedy(status)}`;
  return new ApiError(status, { code: "not_the_server", detail });
}

function remedy(status) {
  if (status === 413) return "It lets nothing of that size through: send less at once, or have its limit raised.";
  if (status >= 500 || status === 429) return "The server may be down or just starting: try again in a moment.";
  return "Reload the page, in case it asks for a sign-in; else tell whoever runs the server.";
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
