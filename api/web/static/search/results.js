/** What a query finds, page by page; the last few are remembered, so that "back" shows them at once. */

import { api } from "../lib/requests.js";
import { limits } from "../lib/server.js";
import { addressOf, collectionPath, hasTerms, orderOf, unlisted } from "./query.js";
import { forgetLinked, search } from "./request.js";

const FIRST_PAGE = 80;
const PAGE = 200;
const MAX_REMEMBERED = 12;

const remembered = new Map();

/**
 * The results of a state: `{items, done, tookMs, warnings, scope, more(signal, onModel)}`. `more` appends the next
 * page; `onModel` is as for `api`; `scope` is what the server says an ordered or grouped list was made over, else null.
 * `mayRepeat`: whether what was found when it was last asked for will do.
 */
export function resultsOf(state, { mayRepeat }) {
  const key = addressOf({ ...state, image: null });
  const known = mayRepeat ? remembered.get(key) : undefined;
  remembered.delete(key);
  const results = known ?? { items: [], offset: 0, done: false, tookMs: null, warnings: [], scope: null, cutOff: false };
  remembered.set(key, results);
  if (remembered.size > MAX_REMEMBERED) remembered.delete(remembered.keys().next().value);
  results.more = (signal, onModel) => (hasTerms(state) ? searchMore : listMore)(state, results, { signal, onModel });
  return results;
}

/** The ids of a stack that is opened from results that are remembered; null where not all of them are known. */
export function membersOf(state) {
  const grouped = state.stack && remembered.get(addressOf({ ...state, stack: null, image: null }));
  const { group } = (grouped || { items: [] }).items.find(({ id }) => id === state.stack) ?? {};
  return group && group.ids.length === group.size ? group.ids : null;
}

/** Forgets everything, as after an image was deleted or added. */
export function forgetResults() {
  remembered.clear();
}

async function searchMore(state, results, waiting) {
  const { offset } = results;
  const limit = offset ? PAGE : FIRST_PAGE;
  const page = { offset, limit, include: ["tags", "confidence"] };
  if (!offset) forgetLinked(state);
  const { answer } = await search(state, page, { ...waiting, needs: ["results", "took_ms"] });
  append(results, answer.results);
  if (!offset) results.warnings = answer.warnings ?? [];
  results.scope = answer.list_scope ?? null;
  results.offset += answer.results.length;
  results.tookMs ??= answer.took_ms.total;
  results.cutOff = answer.results.length === limit && results.offset > limits.search_offset;
  results.done = answer.results.length < limit || results.cutOff;
}

async function listMore(state, results, waiting) {
  const params = { limit: results.items.length ? PAGE : FIRST_PAGE, order_by: orderOf(state) };
  if (results.cursor) params.cursor = results.cursor;
  if (Object.keys(state.filters).length) params.filters = JSON.stringify(state.filters);
  const answer = await api(collectionPath("/v1/images", state, params), { ...waiting, needs: ["images", "next_cursor"] });
  append(results, answer.images);
  results.warnings.push(...(answer.warnings ?? [])); // only the first page has any
  results.cursor = answer.next_cursor;
  results.done = answer.next_cursor === null;
}

function append(results, items) {
  const known = new Set(results.items.map((item) => item.id)); // the collection may have changed meanwhile
  results.items.push(...items.filter((item) => !known.has(item.id)));
}

/** How often the values of fields occur among what a query finds, and of how many pictures: `{facets, facet_scope}`. */
export async function countValues(state, fields, signal) {
  const page = { limit: 1, include: [], facets: fields };
  return (await search(unlisted(state), page, { signal, needs: ["facets", "facet_scope"] })).answer;
}
