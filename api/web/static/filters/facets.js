/** What there is to filter by, and how many pictures of a query have it; loaded once the filters are open. */

import { api } from "../lib/requests.js";
import { withCondition } from "./conditions.js";
import { hasTerms } from "../search/query.js";
import { countValues } from "../search/results.js";

const BUILT_IN = ["tags", "colors"];
const MAX_CHOICES = 4;
const MAX_VALUES = 12;

/**
 * The collection's `metadata` as the server lists them, null where they cannot be had; `values` of fields, each with
 * its `count` where they `areCounted`, which `areLeast` where more pictures fit than are counted; the `choices` among
 * the names, which have few values; and how many are `fitting`, null where that is not known.
 */
export async function loadFacets(state, signal) {
  const metadata = await metadataOf(state.collection, signal);
  const known = Object.fromEntries([...(metadata?.fields ?? []), ...(metadata?.names ?? [])].map((one) => [one.name, one.values]));
  const choices = (metadata?.names ?? []).filter(isChoice).slice(0, MAX_CHOICES).map(({ name }) => name);
  const fields = [...BUILT_IN, ...choices];
  if (!hasTerms(state)) {
    const areCounted = Boolean(metadata?.complete) && !Object.keys(state.filters).length;
    const values = fields.map((field) => [field, (known[field] ?? []).map(({ value, count }) => ({ value, count: areCounted ? count : undefined }))]);
    return { metadata, choices, values: Object.fromEntries(values), areCounted, areLeast: false, fitting: null };
  }
  const { counts, scope } = await countEach(state, fields, signal);
  // In the order of the whole collection, so that none moves away under a finger.
  for (const field of choices) counts[field] = inOrder(known[field], counts[field]);
  return { metadata, choices, values: counts, areCounted: true, areLeast: !scope.complete, fitting: scope.complete ? scope.pictures : null };
}

async function metadataOf(collection, signal) {
  try {
    const path = `/v1/collections/${encodeURIComponent(collection)}/metadata`;
    return await api(path, { signal, isOptional: true, needs: ["names", "fields", "pictures"] });
  } catch (error) {
    if (signal.aborted) throw error;
    return null; // names can be typed without
  }
}

/** Whether a name has so few values, which come again and again, that one chooses among them. */
function isChoice({ pictures, types, values, more_values: hasMore }) {
  return !types.number && !hasMore && values.length <= MAX_VALUES && pictures > values.length;
}

/** How often values occur, those of a field with a condition without that: another one pressed adds to what it finds. */
async function countEach(state, fields, signal) {
  const conditioned = fields.filter((field) => field in state.filters);
  const [all, ...alone] = await Promise.all([
    countValues(state, fields, signal),
    ...conditioned.map((field) => countValues({ ...state, filters: withCondition(state.filters, field, undefined) }, [field], signal)),
  ]);
  return { counts: Object.assign({}, all.facets, ...alone.map(({ facets }) => facets)), scope: all.facet_scope };
}

function inOrder(known, counted) {
  const counts = new Map(counted.map(({ value, count }) => [value, count]));
  const values = new Set([...known.map(({ value }) => value), ...counts.keys()]);
  return [...values].map((value) => ({ value, count: counts.get(value) ?? 0 }));
}
