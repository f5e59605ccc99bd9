/** Which collection is shown: the address says it, and every link within this app carries it on. */

import { limits } from "./server.js";

// Parameters of an address whose values are of one collection: in another they mean nothing.
const OF_ONE = ["more", "less", "image", "stack", "group", "all"];
const NAME = new RegExp(`^(?:${limits.collection_name.pattern})$`);

/** Whether a collection may have this name. */
export const isCollectionName = (name) => NAME.test(name);

/** The collection that parameters of an address name, by default those of the present one. */
export function collectionOf(params = new URLSearchParams(location.search)) {
  return params.get("collection") || limits.default_collection;
}

/** A path of this server, of a view or of the API, with the collection as parameter; the default one is left out. */
export function withCollection(path, name = collectionOf()) {
  const url = new URL(path, location.origin);
  if (name === limits.default_collection) url.searchParams.delete("collection");
  else url.searchParams.set("collection", name);
  return url.pathname + url.search + url.hash;
}

/** The present address in another collection; a job is of one, so its page gives way to the list. */
export function collectionAddress(name) {
  const url = new URL(location.href);
  if (url.pathname.startsWith("/jobs/")) [url.pathname, url.search] = ["/jobs", ""];
  for (const parameter of OF_ONE) url.searchParams.delete(parameter);
  const { job, ...filters } = parsed(url.searchParams.get("f"));
  if (job !== undefined) url.searchParams.set("f", JSON.stringify(filters));
  return withCollection(url.pathname + url.search, name);
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {}; // said where it is shown
  }
}
