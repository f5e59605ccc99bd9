/** Where the server is and what to send there. Kept on this device: a key does not belong in a synced store. */

const DEFAULTS = { server: "http://127.0.0.1:8000", key: "", collection: "images" };

export const load = () => chrome.storage.local.get(DEFAULTS);

export const save = (settings) => chrome.storage.local.set(settings);

/** The match pattern of the server's host; patterns that name a port are not granted. */
export function hostPattern(server) {
  const { protocol, hostname } = new URL(server);
  return `${protocol}//${hostname}/*`;
}

/** The address as it is kept, without a slash at its end; throws an Error that says what to enter instead. */
export function parseServer(text) {
  const url = URL.parse(text.trim());
  if (!url || !["http:", "https:"].includes(url.protocol)) {
    throw new Error("Enter the address that a browser opens, such as http://127.0.0.1:8000.");
  }
  if (url.username || url.search || url.hash) {
    throw new Error("Enter the address alone, without a user name, ? or #.");
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}
