/** Which collection is shown: the address says it, and every link within this app carries it on. */

import { limits } from "./server.js";

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
