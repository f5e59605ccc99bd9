/** What a query finds, page by page; the last few are remembered, so that "back" shows them at once. */

import { api } from "../lib/http.js";
import { body, dataPath, format, hasTerms } from "./query.js";

const FIRST_PAGE = 80;
const PAGE = 200;
const MOST_OFFSET = 10_000; // the server's
const REMEMBERED = 12;

const remembered = new Map();

/**
 * The results of a state: `{items, done, tookMs, warnings, more(signal)}`. `more` appends the next page.
 * `again`: whether what was found when it was last asked for will do.
 */
export function resultsOf(state, { again }) {
  const key = format({ ...state, image: null });
  const known = again ? remembered.get(key) : undefined;
  remembered.delete(key);
  const results = known ?? { items: [], offset: 0, done: false, tookMs: null, warnings: [], cutOff: false };
  remembered.set(key, results);
  if (remembered.size > REMEMBERED) remembered.delete(remembered.keys().next().value);
  results.more = (signal) => (hasTerms(state) ? searchOn : listOn)(state, results, signal);
  return results;
}

/** Forgets everything, as after a picture was deleted or added. */
export function forgetResults() {
  remembered.clear();
}

async function searchOn(state, results, signal) {
  const { offset } = results;
  const limit = offset ? PAGE : FIRST_PAGE;
  const page = { offset, limit, include: ["tags"] };
  const answer = await api("/v1/search", { method: "POST", body: body(state, page), signal });
  append(results, answer.results);
  results.offset += answer.results.length;
  results.tookMs ??= answer.took_ms.total;
  results.warnings = answer.warnings ?? [];
  results.cutOff = answer.results.length === limit && results.offset > MOST_OFFSET;
  results.done = answer.results.length < limit || results.cutOff;
}

async function listOn(state, results, signal) {
  const params = { limit: results.items.length ? PAGE : FIRST_PAGE };
  if (results.cursor) params.cursor = results.cursor;
  if (Object.keys(state.filters).length) params.filters = JSON.stringify(state.filters);
  const answer = await api(dataPath("/v1/images", state, params), { signal });
  append(results, answer.images);
  results.cursor = answer.next_cursor;
  results.done = answer.next_cursor === null;
}

function append(results, items) {
  const known = new Set(results.items.map((item) => item.id)); // the collection may have changed meanwhile
  results.items.push(...items.filter((item) => !known.has(item.id)));
}

/** How often each tag occurs among what a query finds, and how many pictures that is. */
export async function countTags(state, signal) {
  const page = { limit: 1, include: [], facets: ["tags"] };
  const answer = await api("/v1/search", { method: "POST", body: body(state, page), signal });
  return { tags: answer.facets.tags, scope: answer.facet_scope };
}
