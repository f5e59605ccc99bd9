/** Addresses of images for `<img>`, which cannot send the visitor's API key itself. */

import { hasKey, onKeyChange } from "./api_key.js";
import { blob } from "./requests.js";

const MAX_KEPT = 600;
const kept = new Map(); // path → promise of an object URL

/** What an `<img>` can show of a path of this server. */
export function imageURL(path) {
  if (!hasKey()) return Promise.resolve(path);
  const url = kept.get(path) ?? blob(path).then(URL.createObjectURL);
  kept.delete(path); // to the end: the least recently used goes first
  kept.set(path, url);
  url.catch(() => kept.delete(path));
  if (kept.size > MAX_KEPT) forget(kept.keys().next().value);
  return url;
}

function forget(path) {
  kept.get(path).then(URL.revokeObjectURL, () => {});
  kept.delete(path);
}

onKeyChange(() => [...kept.keys()].forEach(forget));
