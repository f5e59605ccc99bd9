/** What the search view says in the place of results. */

import { collectionAddress, isCollectionName, withCollection } from "../lib/collection.js";
import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { byHand, notice } from "../lib/notice.js";
import { api } from "../lib/requests.js";
import { limits } from "../lib/server.js";
import { NOT_LOADED, navigate } from "../shell/router.js";
import { splitPart } from "./parts.js";
import { addressOf } from "./query.js";
import { modelState } from "./waiting.js";

const OF_KEYWORD = /^\/keywords\/(?:any|all)\//;
const MOST_NAMED = 8;
const SHOWN_OF_ID = 16;
const MOST_ASKED = 12; // of the collections, whether they have an image

export function nothingFits(clear) {
  return notice("Nothing fits", "No picture passes the filters.", [button("Clear the filters", clear)]);
}

/** Nothing fits well enough to be shown unasked; `clear` takes the filters away, where there are some. */
export function noGoodMatch(words, showNearest, clear) {
  const text = `No picture clearly fits ${words ? `“${words}”` : "the query"}. What comes nearest may have little to do with it.`;
  const actions = [button("Show the nearest anyway", showNearest), clear && button("Clear the filters", clear)];
  return notice("No good match", text, actions);
}

/** The collection is empty, or all that it has is hidden: those that have pictures are named. */
export function noPictures(collection, signal) {
  const add = h("a", { class: "button primary", href: withCollection("/ingest", collection) }, icon("plus"), "Add pictures");
  const text = "Add a folder, pictures or their addresses: a minute later they can be searched.";
  const element = notice(`No pictures in “${collection}” yet`, text, [add]);
  element.append(modelState(collection, signal));
  sayHidden(element, collection, signal);
  showFull(element, collection, signal);
  return element;
}

/** Says in `element` what it is, where the collection does have pictures. */
async function sayHidden(element, collection, signal) {
  const count = (await fullCollections(signal)).find(({ name }) => name === collection)?.count;
  if (!count) return;
  element.querySelector("h2").textContent = `No picture in “${collection}” is shown`;
  element.querySelector("p").textContent =
    `It has ${plural(count, "picture")}: what the server takes for explicit, by its limit IMAGE_SEARCH_NSFW_MAX, is shown only where the filter Explicit asks for it.`;
}

/** A picture of the query was on somebody's device: `choose` asks for it again, `without` takes it away. */
export function pictureNotHere(choose, without) {
  const text = [
    "It was on somebody's device, which no link holds, and which the page forgets when it is loaded anew. ",
    ...byHand("Drop it here again, or choose it", "Choose it again"),
    " to search with it.",
  ];
  const actions = [button("Choose the picture", choose, "primary"), button("Search without it", without)];
  return notice("A picture of this search is not here", [text], actions, { role: "alert" });
}

export function failed(error, retry) {
  return notice("That did not work", linesOf(error), [button("Try again", retry)], { role: "alert" });
}

/** An error that trying again does not mend, with ways on; null for any other. `retry` is for when it was mended. */
export function deadEnd(error, asked, { retry, signal }) {
  const isOfCollection = error.code === "collection_not_found" || error.errors?.[0]?.pointer === "/collection";
  if (isOfCollection) return noCollection(asked.collection, { retry, signal });
  const ids = [...asked.more, ...asked.less].map((one) => splitPart(one).of).filter((id) => error.code === "image_not_found" && error.message.includes(id));
  return ids.length ? noImage(ids[0], asked, signal) : null;
}

function noCollection(name, { retry, signal }) {
  const isName = isCollectionName(name);
  const create = async () => {
    const module = await import("../shell/new_collection.js").catch(() => notify(NOT_LOADED, { kind: "error" }));
    const made = await module?.newCollection(name);
    if (made === name) retry();
    else if (made) navigate(collectionAddress(made));
  };
  const text = isName ? "It was deleted, or never made: a link may have another name in it." : `No collection can have this name: ${limits.collection_name.rule}.`;
  const usual = limits.default_collection;
  const back = name !== usual && h("a", { class: "button", href: collectionAddress(usual) }, `Go to ${usual}`);
  const element = notice(`There is no collection “${name}”`, text, [isName && button("Create it…", create), back], { role: "alert" });
  showFull(element, name, signal);
  return element;
}

function noImage(id, asked, signal) {
  const kept = (ids) => ids.filter((one) => splitPart(one).of !== id);
  const without = addressOf({ ...asked, more: kept(asked.more), less: kept(asked.less) });
  const text = `The search asks for the picture ${id.length > SHOWN_OF_ID ? `${id.slice(0, SHOWN_OF_ID)}…` : id}, which the collection “${asked.collection}” does not have.`;
  const element = notice("A picture of this search is not here", text, [h("a", { class: "button", href: without }, "Search without it")], { role: "alert" });
  const hrefIn = (collection) => addressOf({ ...asked, collection });
  showElsewhere(element, id, asked.collection, { hrefIn, signal });
  return element;
}

/** Appends to `element` links to the fullest collections but the `present` one. */
async function showFull(element, present, signal) {
  const full = await otherCollections(present, signal);
  const links = full.slice(0, MOST_NAMED).map(({ name, count }) =>
    h("a", { class: "chip", href: collectionAddress(name) }, name, h("span", { class: "muted numbers" }, number(count))),
  );
  const rest = full.length - links.length;
  if (rest > 0) links.push(h("span", { class: "muted" }, `and ${number(rest)} more`));
  if (links.length) element.append(h("div", { class: "row" }, h("span", { class: "muted" }, "There are pictures in"), ...links));
}

async function otherCollections(present, signal) {
  return (await fullCollections(signal)).filter(({ name }) => name !== present);
}

/** The collections that have pictures, the fullest first; none where they cannot be had. */
async function fullCollections(signal) {
  try {
    const { collections } = await api("/v1/collections", { signal, isOptional: true, needs: ["collections"] });
    return collections.filter(({ count }) => count).sort((a, b) => b.count - a.count);
  } catch {
    return [];
  }
}

/** Appends to `element` links to the collections that do have an image; a few are asked, the fullest first. */
export async function showElsewhere(element, id, present, { hrefIn, signal }) {
  const ask = async ({ name }) => {
    await api(withCollection(`/v1/images/${encodeURIComponent(id)}`, name), { signal, isOptional: true });
    return name;
  };
  const others = await otherCollections(present, signal);
  const answers = await Promise.allSettled(others.slice(0, MOST_ASKED).map(ask));
  const links = answers.filter(({ value }) => value).map(({ value }) => h("a", { class: "chip", href: hrefIn(value) }, value));
  if (links.length) element.append(h("div", { class: "row" }, h("span", { class: "muted" }, "It is in"), ...links));
}

const button = (text, onclick, kind = "") => h("button", { class: `button ${kind}`, type: "button", onclick }, text);

/** What is wrong, without the places in the request, which the server names for programs. */
function linesOf({ message: text, errors }) {
  return errors?.length ? [...new Set(errors.map(({ pointer, message }) => (OF_KEYWORD.test(pointer) ? `A keyword ${message}` : message)))] : [text];
}
