/** Where a picture comes from, as people read it. Sources are hostile text. */

/** The file's name, or the host where the address has none. */
export function sourceName(source) {
  const url = webURL(source);
  const path = url ? url.pathname : source;
  const last = path.split(/[/\\]/).filter(Boolean).at(-1);
  if (!last) return url?.hostname ?? source;
  try {
    return url ? decodeURIComponent(last) : last;
  } catch {
    return last;
  }
}

/** A URL that may become a link: http or https; null for anything else. */
export function webURL(source) {
  const url = URL.canParse(source) ? new URL(source) : null;
  return url && ["http:", "https:"].includes(url.protocol) ? url : null;
}

/** A text as `[start, middle, end]`, in which the middle is what is left out of more than `most` characters. */
export function middleCut(text, most) {
  const letters = [...text];
  if (letters.length <= most) return [text, "", ""];
  const half = Math.floor((most - 1) / 2);
  return [letters.slice(0, half), letters.slice(half, -half), letters.slice(-half)].map((part) => part.join(""));
}
