/** A source as a job shows it. */

import { h } from "../lib/dom.js";
import { middleCut, webURL } from "../lib/sources.js";

const SHOWN_CHARS = 80;

/** A link only where it is a web address; what is long lacks its middle, which pointing at it and a copy of it have. */
export function sourceOf(source) {
  const [start, middle, end] = middleCut(source, SHOWN_CHARS);
  // The middle is there but takes no room, so that selecting and copying has all of it.
  const text = [start, middle && h("span", { class: "cut" }, middle), end].filter(Boolean);
  const about = { class: "source", title: middle ? source : null };
  if (!webURL(source)) return h("bdi", about, ...text);
  return h("a", { ...about, href: source, target: "_blank", rel: "noopener noreferrer" }, ...text);
}
