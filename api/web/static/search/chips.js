/** The parts of a query as chips, each of which can be taken away. */

import { h, icon } from "../lib/dom.js";
import { imageURL } from "../lib/image_urls.js";
import { sourceName } from "../lib/sources.js";
import { describeConditions, describeKeywords, withCondition } from "../filters/conditions.js";
import { jobText } from "./job_chip.js";
import { listedBy } from "./list_words.js";
import { drawPart, splitPart } from "./parts.js";
import { collectionPath, fileOf, splitWords, withoutWords } from "./query.js";

const SIDE = 24; // pixels

/**
 * Shows the chips of `state` in `list`; each calls `change` with what of the state it takes away. `choosePart(field,
 * name)` is for another part of the picture `name` among the state's `field`.
 */
export function showChips(list, state, { change, choosePart }) {
  const { words, not } = splitWords(state.q);
  const drop = (field, value) => ({ [field]: state[field].filter((one) => one !== value) });
  const rest = [
    ...state.urls.map((url) => chip(sourceName(url), "picture", () => change(drop("urls", url)), { title: url })),
    ...state.files.map((name) => fileChip(name, { remove: () => change(drop("files", name)), choose: () => choosePart("files", name) })),
    ...state.more.map((id) => likeChip(state, id, "more like", { remove: () => change(drop("more", id)), choose: () => choosePart("more", id) })),
    ...not.map((word) => chip(word, "not", () => change({ q: withoutWords(state.q, { not: word }) }))),
    ...state.less.map((id) => likeChip(state, id, "less like", { remove: () => change(drop("less", id)) })),
    state.stack && likeChip(state, state.stack, "near-duplicates of", { remove: () => change({ stack: null }) }),
    state.keywords && chip(describeKeywords(state.keywords), "with", () => change({ keywords: null })),
    ...describeConditions(state.filters).map(({ field, text }) => {
      const remove = () => change({ filters: withCondition(state.filters, field, undefined) });
      return field === "job" ? jobChip(state.filters.job, remove) : chip(text, "", remove);
    }),
    state.sure && chip("only what surely fits", "", () => change({ sure: false })),
    ...listedBy(state).map(({ part, text }) => chip(text, "", () => change(part))),
  ].filter(Boolean);
  // Words alone are in the search box already.
  const wordsChip = words && rest.length ? [chip(words, "words", () => change({ q: withoutWords(state.q, { words: true }) }))] : [];
  list.replaceChildren(...[...wordsChip, ...rest].map((each) => h("li", {}, ...[each].flat())));
  list.hidden = !rest.length;
}

function chip(text, kind, remove, { image, title } = {}) {
  const isNegative = kind === "not" || kind === "less like";
  return h(
    "button",
    {
      class: `chip removable${isNegative ? " negative" : ""}`,
      type: "button",
      title: title ?? "",
      "aria-label": `Remove ${[kind, text].filter(Boolean).join(" ")}`,
      onclick: remove,
    },
    kind && h("span", { class: "muted" }, kind),
    image,
    text && h("span", { class: "ellipsis", dir: "auto" }, text),
    icon("close"),
  );
}

function jobChip(condition, remove) {
  const made = chip(
    jobText(condition, (text) => {
      made.querySelector(".ellipsis").textContent = text;
      made.setAttribute("aria-label", `Remove ${text}`);
    }),
    "",
    remove,
  );
  return made;
}

function likeChip(state, id, kind, { remove, choose }) {
  const { of, box } = splitPart(id);
  const image = preview(box);
  imageURL(collectionPath(`/v1/images/${of}/thumbnail`, state)).then(image.show, image.remove);
  const made = chip("", box ? "like a part of" : kind, remove, { image: image.element });
  made.setAttribute("aria-label", `Remove ${box ? "part of" : kind} picture ${of.slice(0, 8)}`);
  return choose ? [made, partButton(`picture ${of.slice(0, 8)}`, choose)] : made;
}

function fileChip(name, { remove, choose }) {
  const file = fileOf(name);
  if (!file) return chip("not here", "picture", remove, { title: "It was on somebody's device" });
  const { box } = splitPart(name);
  const image = preview(box);
  const url = URL.createObjectURL(file);
  image.show(url, () => URL.revokeObjectURL(url));
  const title = "Your own picture: it is in no link, so only this window can search with it.";
  const text = file.name || "pasted picture";
  return [chip(text, box ? "part of picture" : "picture", remove, { image: image.element, title }), partButton(text, choose)];
}

function partButton(name, onclick) {
  const label = `Choose a part of ${name}`;
  return h("button", { class: "button quiet round part", type: "button", "aria-label": label, title: label, onclick }, icon("crop"));
}

/** A small image, or the part `box` of one: its `element`, `show(url, onLoaded)` and `remove()`. */
function preview(box) {
  const image = h("img", { alt: "", width: SIDE, height: SIDE });
  const element = box ? h("canvas", { width: 2 * SIDE, height: 2 * SIDE }) : image;
  const remove = () => element.remove();
  image.addEventListener("error", remove);
  const show = (url, onLoaded = () => {}) => {
    image.addEventListener("load", () => {
      if (box) drawPart(element, image, box);
      onLoaded();
    });
    image.src = url;
  };
  return { element, show, remove };
}
