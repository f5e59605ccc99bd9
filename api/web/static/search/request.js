/** What is sent to the server for a query. Pictures that it has seen are sent as the vectors it made of them. */

import { api } from "../lib/requests.js";
import { limits } from "../lib/server.js";
import { ORDERED, fileOf, keywordsOf, splitWords } from "./query.js";
import { splitPart } from "./parts.js";

// docs/search.md: with more, a negative also takes away what it has in common with what is wanted. Where texts
// and images are mixed, the server knows how much is right.
const NEGATIVE_WEIGHT = 0.5;

const keptVectors = new Map(); // collection and picture → {model, vector}

/**
 * Searches; the server's answer, and `nameOf(pointer)` for what a term of the query is on the page. `page`: what is
 * asked of this one request; the rest as for `api`. Each picture that is not of the collection is sent once.
 */
export async function search(state, page, options) {
  for (;;) {
    const request = await requestOf(state, page);
    try {
      const answer = await api("/v1/search", { method: "POST", body: request.body, ...options });
      if (request.terms.every(({ kept }) => !kept || kept.model === answer.model)) {
        keepVectors(request.terms, answer);
        return { answer, nameOf: (pointer) => nameOf(request, pointer) };
      }
    } catch (error) {
      const isOfVector = error.errors?.some(({ pointer }) => pointer.endsWith("/vector"));
      if (!isOfVector || !request.terms.some(({ kept }) => kept)) throw error;
    }
    // The collection has another model than when they were made.
    for (const { key } of request.terms) keptVectors.delete(key);
  }
}

/** Has linked pictures fetched anew by the next search: at their addresses there may be others by now. */
export function forgetLinked({ collection, urls }) {
  for (const url of urls) keptVectors.delete(keyOf(collection, url));
}

const keyOf = (collection, name) => JSON.stringify([collection, name]);

function keepVectors(terms, answer) {
  for (const { pointer, vector } of answer.vectors ?? []) {
    const term = terms.find((one) => isOf(one, pointer));
    if (term?.key) keptVectors.set(term.key, { model: answer.model, vector });
  }
}

const isOf = (term, pointer) => pointer === term.pointer || pointer.startsWith(`${term.pointer}/`);

function nameOf({ terms, words }, pointer) {
  return terms.find((term) => isOf(term, pointer))?.name ?? words;
}

/** The `body`, JSON or with files as parts; its `terms` but the words, with where each is; and the `words`. */
async function requestOf(state, page) {
  const { words: typed, not } = splitWords(state.q);
  const isStackAlone = state.stack && !state.members;
  const pictures = isStackAlone ? [stored(state, state.stack, "the stack's picture")] : picturesOf(state);
  const isOfPictures = pictures.length + state.less.length > 0;
  // Keywords alone are asked for as words, too: a search needs something to be near to.
  const words = isStackAlone ? "" : typed || (isOfPictures || not.length ? "" : keywordsOf(state).join(" "));
  const weight = (words || not.length) && isOfPictures ? {} : { weight: NEGATIVE_WEIGHT };
  const unsent = pictures.filter(({ file, kept }) => file && !kept);
  // A query has one `box` of a file. In base64 a file may be less than half as large as in a part.
  const parts = unsent.length === 1 ? unsent : unsent.filter(({ box }) => !box);
  const partBox = parts.length === 1 ? parts[0].box : null;
  const positive = placed("/positive", pictures.filter((picture) => !parts.includes(picture)));
  const negative = placed("/negative", isStackAlone ? [] : negativesOf(state, not, weight));
  const toSee = pictures.some(({ key, kept }) => key && !kept);
  const query = {
    ...(words && { text: words }),
    ...(partBox && { box: partBox }),
    positive: await Promise.all(positive.map(termOf)),
    negative: negative.map(({ term }) => term),
    ...conditionsOf(state),
    ...listOf(state),
    collection: state.collection,
    ...page,
    ...(toSee && { include: [...(page.include ?? []), "vectors"] }),
  };
  return { body: bodyOf(query, parts), terms: [...positive, ...negative, ...placed("/image", parts)], words };
}

const placed = (list, terms) => terms.map((term, place) => ({ ...term, pointer: `${list}/${place}` }));

/** The pictures that add to a query; those with a `key` are not of the collection, or only in part. */
function picturesOf(state) {
  return [
    ...state.urls.map((url) => picture(state, url, { name: "picture by address", term: { image_url: url } })),
    ...state.more.map((one) => stored(state, one, "more like")),
    ...state.files.filter(fileOf).map((name) => {
      const { box } = splitPart(name);
      return picture(state, name, { name: `${box ? "part of " : ""}your picture`, file: fileOf(name), box });
    }),
  ];
}

function stored(state, text, name) {
  const { of, box } = splitPart(text);
  if (!box) return { name, term: { image_id: of } };
  return picture(state, text, { name: "part of a picture", term: { image_id: of, box } });
}

function picture(state, name, properties) {
  const key = keyOf(state.collection, name);
  return { ...properties, key, kept: keptVectors.get(key) };
}

function negativesOf(state, not, weight) {
  return [
    ...not.map((text) => ({ name: `not ${text}`, term: { text, ...weight } })),
    ...state.less.map((id) => ({ name: "less like", term: { image_id: id, ...weight } })),
  ];
}

async function termOf({ term, file, box, kept }) {
  if (kept) return { vector: kept.vector };
  return term ?? { image_base64: await dataURL(file), box };
}

function dataURL(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

function conditionsOf(state) {
  const { filters, keywords, members } = state;
  const all = [filters, members && { id: { in: members } }].filter((part) => part && Object.keys(part).length);
  return {
    ...(all.length && { filters: all.length > 1 ? { and: all } : all[0] }),
    ...(keywords && { keywords }),
    ...(state.sure && { min_confidence: limits.good_confidence }),
    ...(state.stack && !members && { min_score: limits.near_duplicates.cosine }),
  };
}

/** How the results are listed; a stack that is opened is not put together again. */
function listOf({ orderBy, groupBy, diversity, sure, stack }) {
  return {
    ...(orderBy && { order_by: orderBy, ...(!sure && { among: ORDERED }) }),
    ...(groupBy && !stack && { group_by: groupBy }),
    ...(diversity && !orderBy && { diversity }),
  };
}

function bodyOf(query, parts) {
  if (!parts.length) return query;
  const form = new FormData();
  form.append("query", JSON.stringify(query));
  for (const { file } of parts) form.append("image", file, file.name || "picture");
  return form;
}
