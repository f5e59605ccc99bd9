/** Where a picture comes from, as people read it. Sources are hostile text. */

/** The file's name, or the host where the address has none. */
export function sourceName(source) {
  const url = webURL(source);
  const path = url ? url.pathname : source;
  const last = path.split(/[/\\]/).filter(Boolean).at(-1);
  if (!last) return url?.hostname ?? source;
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

/** A URL that may become a link: http or https; null for anything else. */
export function webURL(source) {
  const url = URL.canParse(source) ? new URL(source) : null;
  return url && ["http:", "https:"].includes(url.protocol) ? url : null;
}
