/** What a job says while some of it waits to be tried again. */

import { duration, number } from "../lib/format.js";

const heardAt = new WeakMap();

/** "waiting to retry 1, attempt 2 of 4, in 12 s", counted down from when it was first said; then "retrying 1, …". */
export function waitOf(retrying) {
  const left = retrying.in_s - (performance.now() - heard(retrying)) / 1000;
  const what = `${number(retrying.items)}, attempt ${retrying.attempt} of ${retrying.attempts}`;
  return left >= 0.5 ? `waiting to retry ${what}, in ${duration(left)}` : `retrying ${what}`;
}

/** All that waits in several jobs, as what of it comes first; null where nothing does. */
export function combinedWait(parts) {
  if (!parts.length) return null;
  const first = parts.reduce((one, other) => (other.in_s < one.in_s ? other : one));
  const all = { ...first, items: parts.reduce((sum, { items }) => sum + items, 0) };
  heardAt.set(all, heard(first));
  return all;
}

function heard(retrying) {
  if (!heardAt.has(retrying)) heardAt.set(retrying, performance.now());
  return heardAt.get(retrying);
}
