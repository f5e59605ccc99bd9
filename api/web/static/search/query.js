/**
 * A query as the address bar has it. In the page it is a `state`: the words `q` as typed, `urls` of images, names of
 * the visitor's own `files`, ids of images of which `more` or `less` is wanted (parts of files and of images are as
 * parts.js writes them), `filters`, the `keywords` that metadata must have (`{any | all, in}`, null for none), `sure`
 * for good matches alone, `nearest` for the results of words that have no good match; of the list: `orderBy` and
 * `groupBy` ("" for none), `diversity` (0 to 1) and the id of a `stack` of near-duplicates that is opened; the
 * `collection`, and the `image` that is open.
 */

import { collectionOf, withCollection } from "../lib/collection.js";
import { splitPart } from "./parts.js";

export const NEAR_DUPLICATES = "near_duplicates";
export const NEWEST = "-created_at";
/** Of the nearest so many are put into another order: what is less alike has no place in it. */
export const ORDERED = 200;
const MINUS = /(^|\s)-(?:"([^"]+)"|(\S+))/g;

const keptFiles = new Map();

/** Keeps an image that was dropped, pasted or picked for as long as the page lives; gives the name it has here. */
export function keepFile(file) {
  const name = Math.random().toString(36).slice(2, 10);
  keptFiles.set(name, file);
  return name;
}

export const fileOf = (name) => keptFiles.get(splitPart(name).of);

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
    filters: parsed(params.get("f")) ?? {},
    keywords: parsed(params.get("keywords")),
    orderBy: params.get("order_by") ?? "",
    groupBy: params.get("group_by") ?? "",
    diversity: Number(params.get("diversity")) || 0,
    stack: params.get("stack"),
    members: null, // ids of the stack's pictures, where they are known
    sure: params.has("sure"),
    nearest: params.has("nearest"),
    collection: collectionOf(params),
    image: params.get("image"),
  };
}

function parsed(text) {
  if (!text) return null;
  let conditions = null;
  try {
    conditions = JSON.parse(text);
  } catch {
    // said below
  }
  if (conditions === null || typeof conditions !== "object" || Array.isArray(conditions)) {
    throw new Error("The filters in this link (f=…, keywords=…) cannot be read, so it is shown without them.");
  }
  return conditions;
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
  if (state.keywords) params.set("keywords", JSON.stringify(state.keywords));
  if (state.orderBy) params.set("order_by", state.orderBy);
  if (state.groupBy) params.set("group_by", state.groupBy);
  if (state.diversity) params.set("diversity", state.diversity);
  if (state.stack) params.set("stack", state.stack);
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
  return Boolean(words || state.keywords || state.stack) || [not, state.urls, state.files, state.more, state.less].some((part) => part.length);
}

/** Whether words alone are asked for, of all pictures: then, and only then, "nothing fits" is an answer. */
export function isOfWords(state) {
  const others = [state.urls, state.files, state.more, state.less, Object.keys(state.filters)];
  return Boolean(splitWords(state.q).words) && !state.keywords && !state.stack && !others.some((part) => part.length);
}

/** The words and phrases that metadata must have. */
export const keywordsOf = ({ keywords }) => [keywords?.any ?? keywords?.all ?? []].flat();

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

/** The order of the results; "" for that of their scores. What is not searched for is listed in one order alone. */
export const orderOf = (state) => (hasTerms(state) ? state.orderBy : NEWEST);

/** What a state of results asks for without how they are listed: their order, groups and variety. */
export const unlisted = (state) => ({ ...state, orderBy: "", groupBy: "", diversity: 0 });

/** The state that shows the group of a result, which `groupBy` made. */
export function openedGroup(state, { id, group }) {
  if (state.groupBy === NEAR_DUPLICATES) return { ...state, stack: id, image: null };
  return { ...state, filters: { ...state.filters, [state.groupBy]: group.value }, groupBy: "", image: null };
}

/** How many pictures a result stands for beside its own. */
export const othersOf = ({ group }) => (group ? group.size - 1 : 0);

/** A path of the server with the state's collection and other parameters. */
export function collectionPath(path, state, params = {}) {
  return withCollection(`${path}?${new URLSearchParams(params)}`, state.collection);
}
