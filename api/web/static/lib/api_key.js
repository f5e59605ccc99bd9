/** The visitor's API key: kept for this window, or on this device where he wants that. */

const NAME = "image-search-key";
const listeners = new Set();
let isAskedFor = false;

export const readKey = () => sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME);

export const hasKey = () => readKey() !== null;

/** The headers of a request that carry the key. */
export const authorization = () => (hasKey() ? { Authorization: `Bearer ${readKey()}` } : {});

/** Whether this server has asked for a key. */
export const needsKey = () => isAskedFor;

/** Notes that this server has asked for a key. */
export function noteNeedsKey() {
  if (isAskedFor) return;
  isAskedFor = true;
  tellListeners();
}

/** Keeps a key in place of the last one; null forgets it. */
export function storeKey(key, { remember = false } = {}) {
  for (const storage of [sessionStorage, localStorage]) storage.removeItem(NAME);
  if (key) (remember ? localStorage : sessionStorage).setItem(NAME, key);
  tellListeners();
}

/** Calls `listener` whenever what `hasKey` or `needsKey` say changes. */
export function onKeyChange(listener) {
  listeners.add(listener);
}

function tellListeners() {
  for (const listener of listeners) listener();
}
