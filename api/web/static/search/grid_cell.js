/** One image in the grid of results: a link to it, its caption, and what can be asked with it. */

import { h, icon } from "../lib/dom.js";
import { imageURL } from "../lib/image_urls.js";
import { number } from "../lib/format.js";
import { sourceName } from "../lib/sources.js";
import { othersOf } from "./query.js";

const TAGS_SHOWN = 3;

/** The cell of result number `index`; `isActive`: whether Tab leads to it. */
export function makeCell(item, index, { href, isActive, isSelected }) {
  const image = h("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => image.classList.add("loaded"));
  imageURL(item.thumbnail_url).then(
    (url) => {
      image.src = url;
    },
    () => image.remove(),
  );
  const tags = (item.tags ?? []).slice(0, TAGS_SHOWN).join(", ");
  const name = sourceName(item.source);
  const score = item.score === undefined ? null : item.score.toFixed(2);
  const label = [name, score && `score ${score}`, item.strength && `${item.strength} match`, tags].filter(Boolean).join(", ");
  const others = othersOf(item);
  const select = { class: "select", type: "checkbox", "aria-label": `Select ${name}`, title: "Select (x)", checked: isSelected };
  return h(
    "div",
    { class: `cell${isSelected ? " selected" : ""}${others ? " stacked" : ""}`, role: "listitem", "aria-posinset": index + 1, "aria-setsize": -1, dataset: { index } },
    h("a", { class: "result", href, tabindex: isActive ? 0 : -1, "aria-label": others ? `${label}, and ${number(others)} more like it` : label }, image),
    others > 0 && h("span", { class: "others numbers", "aria-hidden": "true" }, `+${number(others)}`),
    h("input", { ...select, tabindex: isActive ? 0 : -1 }),
    h(
      "div",
      { class: "caption", "aria-hidden": "true" }, // the link's name says it all
      h("span", { class: "name", title: item.source }, name),
      h(
        "div",
        { class: "about" },
        score && h("span", { class: `score numbers ${item.strength ?? ""}`, title: scoreInWords(item) }, [score, item.strength].filter(Boolean).join(" ")),
        h("span", { class: "tags" }, tags),
      ),
    ),
    h(
      "div",
      { class: "actions" },
      actionButton("more", "plus", `More like ${name}`, "More like this (m)", isActive),
      actionButton("less", "minus", `Less like ${name}`, "Less like this (l)", isActive),
      actionButton("similar", "similar", `Only similar to ${name}`, "Only similar pictures (s)", isActive),
    ),
  );
}

function actionButton(name, iconName, label, title, isActive) {
  const properties = { class: "action", type: "button", "aria-label": label, title, dataset: { action: name } };
  return h("button", { ...properties, tabindex: isActive ? 0 : -1 }, icon(iconName));
}

function scoreInWords({ score, strength, confidence }) {
  const match = strength
    ? `A ${strength} match: the confidence that it fits is ${confidence.toFixed(2)}.`
    : "For words even a good match is far below 1, how far depends on the model; between pictures it is higher.";
  return `Cosine similarity to the query: ${score.toFixed(4)}, of at most 1. ${match}`;
}
