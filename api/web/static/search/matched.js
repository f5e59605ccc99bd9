/** What keywords have matched in the metadata of an image, marked where they are shown. */

import { h } from "../lib/dom.js";

const LETTER = /[\p{L}\p{N}\p{M}]/u;
const WITHOUT_BLANKS = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}\p{sc=Tibetan}]/u;

/**
 * Marks, in the metadata that `facts` show, the keywords of a result's `matched`, keyword to names. Where one is not
 * found as it is written, as the server knows more of letters than a browser, the whole value is marked.
 */
export function markMatched(facts, matched = {}) {
  for (const [name, keywords] of byName(matched)) {
    const values = [...facts.querySelectorAll("dd[data-name] .value")].filter((value) => value.closest("dd").dataset.name === name);
    const pattern = new RegExp(keywords.map(patternOf).join("|"), "giu");
    const marked = values.filter((value) => mark(value, pattern));
    if (!marked.length) for (const value of values) value.replaceChildren(h("mark", {}, value.textContent));
  }
}

function byName(matched) {
  const keywords = new Map();
  for (const [keyword, names] of Object.entries(matched)) {
    for (const name of names) keywords.set(name, [...(keywords.get(name) ?? []), keyword]);
  }
  return keywords;
}

/** Whole words, with anything that is no letter between them. */
function patternOf(keyword) {
  const words = keyword.match(/[\p{L}\p{N}\p{M}]+/gu) ?? [];
  const [first, last] = [words.at(0)?.match(/^./u)?.[0] ?? "", words.at(-1)?.match(/.$/u)?.[0] ?? ""];
  const begins = WITHOUT_BLANKS.test(first) ? "" : "(?<![\\p{L}\\p{N}\\p{M}])";
  const ends = WITHOUT_BLANKS.test(last) ? "" : "(?![\\p{L}\\p{N}\\p{M}])";
  return begins + words.join("[^\\p{L}\\p{N}\\p{M}]+") + ends;
}

/** Whether there is one in the text of `element`. */
function mark(element, pattern) {
  const text = element.textContent;
  const parts = [];
  let end = 0;
  for (const { index, 0: found } of text.matchAll(pattern)) {
    if (!LETTER.test(found)) continue;
    parts.push(text.slice(end, index), h("mark", {}, found));
    end = index + found.length;
  }
  if (!parts.length) return false;
  element.replaceChildren(...parts, text.slice(end));
  return true;
}
