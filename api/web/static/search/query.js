/**
 * A query: what it is in the address bar, and what is sent to the server for it. In the page it is a `state`: the
 * words `q` as typed, `urls` of images, names of the visitor's own `files`, ids of images of which `more` or
 * `less` is wanted, `filters`, `sure` for good matches alone, `nearest` for the results of words that have no good
 * match, the `collection`, and the `image` that is open.
 */

import { collectionOf, withCollection } from "../lib/collection.js";
import { limits } from "../lib/server.js";

// docs/search.md: with more, a negative also takes away what it has in common with what is wanted. Where texts
// and images are mixed, the server knows how much is right.
const NEGATIVE_WEIGHT = 0.5;
const MINUS = /(^|\s)-(?:"([^"]+)"|(\S+))/g;

const keptFiles = new Map();

/** Keeps an image that was dropped, pasted or picked for as long as the page lives; gives the name it has here. */
export function keepFile(file) {
  const name = Math.random().toString(36).slice(2, 10);
  keptFiles.set(name, file);
  return name;
}

export const fileOf = (name) => keptFiles.get(name);

/** The images of a state that this page does not hold: of somebody else, or from before it was loaded anew. */
export const lostFiles = (state) => state.files.filter((name) => !fileOf(name));

/** The state of the search view that an address stands for; throws an Error whose message is for people. */
export function stateOf(params) {
  const words = [params.get("q") ?? "", ...params.getAll("not").map(minus)];
  return {
    q: words.filter(Boolean).join(" "),
    urls: params.getAll("image_url"),
    files: params.getAll("picture"),
    more: params.getAll("more"),
    less: params.getAll("less"),
    filters: parseFilters(params.get("f")),
    sure: params.has("sure"),
    nearest: params.has("nearest"),
    collection: collectionOf(params),
    image: params.get("image"),
  };
}

function parseFilters(text) {
  if (!text) return {};
  let filters = null;
  try {
    filters = JSON.parse(text);
  } catch {
    // said below
  }
  if (filters === null || typeof filters !== "object" || Array.isArray(filters)) {
    throw new Error("The filters in this link (f=…) cannot be read, so it is shown without them.");
  }
  return filters;
}

/** The address of a state; what is as usual is left out. */
export function addressOf(state) {
  const params = new URLSearchParams();
  if (state.q) params.set("q", state.q);
  for (const url of state.urls) params.append("image_url", url);
  for (const name of state.files) params.append("picture", name);
  for (const id of state.more) params.append("more", id);
  for (const id of state.less) params.append("less", id);
  if (Object.keys(state.filters).length) params.set("f", JSON.stringify(state.filters));
  if (state.sure) params.set("sure", "1");
  if (state.nearest) params.set("nearest", "1");
  if (state.image) params.set("image", state.image);
  return withCollection(`/?${params}`, state.collection);
}

/** The words of a query, and those with a leading minus: `boat -people -"red sail"`. */
export function splitWords(q) {
  const not = [...q.matchAll(MINUS)].map(([, , quoted, bare]) => quoted ?? bare);
  return { words: q.replace(MINUS, " ").replace(/\s+/g, " ").trim(), not };
}

/** `q` without its words, or without one of those with a minus. */
export function withoutWords(q, { words = false, not = null }) {
  const parts = splitWords(q);
  const kept = parts.not.filter((word) => word !== not).map(minus);
  return [words ? "" : parts.words, ...kept].filter(Boolean).join(" ");
}

function minus(word) {
  return /\s/.test(word) ? `-"${word}"` : `-${word}`;
}

/** Whether anything is asked for, so that results have scores; else pictures are only listed. */
export function hasTerms(state) {
  const { words, not } = splitWords(state.q);
  return Boolean(words) || [not, state.urls, state.files, state.more, state.less].some((part) => part.length);
}

/** Whether words alone are asked for, of all pictures: then, and only then, "nothing fits" is an answer. */
export function isOfWords(state) {
  const others = [state.urls, state.files, state.more, state.less, Object.keys(state.filters)];
  return Boolean(splitWords(state.q).words) && !others.some((part) => part.length);
}

/** The state with more like an image asked for; asked again it changes nothing. */
export function moreLike(state, id) {
  const less = state.less.filter((one) => one !== id);
  return { ...state, more: [...new Set([...state.more, id])], less, image: null };
}

/** The state with less like an image asked for. */
export function lessLike(state, id) {
  const more = state.more.filter((one) => one !== id);
  return { ...state, less: [...new Set([...state.less, id])], more, image: null };
}

/** The state that asks for what is similar to an image, and for nothing else. */
export function similarTo(state, id) {
  return { ...state, q: "", urls: [], files: [], more: [id], less: [], image: null };
}

/** The body of a search, JSON or with the image files as parts. `page`: what is asked of this one request. */
export function searchBody(state, page) {
  const { words, not } = splitWords(state.q);
  const hasTexts = Boolean(words) || not.length > 0;
  const hasImages = [state.urls, state.files, state.more, state.less].some((part) => part.length);
  const weight = hasTexts && hasImages ? {} : { weight: NEGATIVE_WEIGHT };
  const query = {
    ...(words && { text: words }),
    positive: [
      ...state.urls.map((url) => ({ image_url: url })),
      ...state.more.map((id) => ({ image_id: id })),
    ],
    negative: [
      ...not.map((text) => ({ text, ...weight })),
      ...state.less.map((id) => ({ image_id: id, ...weight })),
    ],
    ...(Object.keys(state.filters).length && { filters: state.filters }),
    ...(state.sure && { min_confidence: limits.good_confidence }),
    collection: state.collection,
    ...page,
  };
  const files = state.files.map(fileOf).filter(Boolean);
  if (!files.length) return query;
  const form = new FormData();
  form.append("query", JSON.stringify(query));
  for (const file of files) form.append("image", file, file.name || "picture");
  return form;
}

/** A path of the server with the state's collection and other parameters. */
export function collectionPath(path, state, params = {}) {
  return withCollection(`${path}?${new URLSearchParams(params)}`, state.collection);
}
