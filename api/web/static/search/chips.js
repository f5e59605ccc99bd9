/** The parts of a query as chips, each of which can be taken away. */

import { h, icon } from "../lib/dom.js";
import { imageURL } from "../lib/image_urls.js";
import { sourceName } from "../lib/sources.js";
import { describeConditions, withCondition } from "../filters/conditions.js";
import { jobText } from "./job_chip.js";
import { collectionPath, fileOf, splitWords, withoutWords } from "./query.js";


/** Shows the chips of `state` in `list`; each calls `change` with what of the state it takes away. */
export function showChips(list, state, change) {
  const { words, not } = splitWords(state.q);
  const drop = (field, value) => ({ [field]: state[field].filter((one) => one !== value) });
  const rest = [
    ...state.urls.map((url) => chip(sourceName(url), "picture", () => change(drop("urls", url)), { title: url })),
    ...state.files.map((name) => fileChip(name, () => change(drop("files", name)))),
    ...state.more.map((id) => likeChip(state, id, "more like", () => change(drop("more", id)))),
    ...not.map((word) => chip(word, "not", () => change({ q: withoutWords(state.q, { not: word }) }))),
    ...state.less.map((id) => likeChip(state, id, "less like", () => change(drop("less", id)))),
    ...describeConditions(state.filters).map(({ field, text }) => {
      const remove = () => change({ filters: withCondition(state.filters, field, undefined) });
      return field === "job" ? jobChip(state.filters.job, remove) : chip(text, "", remove);
    }),
    state.sure && chip("only what surely fits", "", () => change({ sure: false })),
  ].filter(Boolean);
  // Words alone are in the search box already.
  const wordsChip = words && rest.length ? [chip(words, "words", () => change({ q: withoutWords(state.q, { words: true }) }))] : [];
  list.replaceChildren(...[...wordsChip, ...rest].map((each) => h("li", {}, each)));
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

function likeChip(state, id, kind, remove) {
  const image = h("img", { alt: "", width: 24, height: 24, onerror: () => image.remove() });
  imageURL(collectionPath(`/v1/images/${id}/thumbnail`, state)).then(
    (url) => {
      image.src = url;
    },
    () => image.remove(),
  );
  const made = chip("", kind, remove, { image });
  made.setAttribute("aria-label", `Remove ${kind} picture ${id.slice(0, 8)}`);
  return made;
}

function fileChip(name, remove) {
  const file = fileOf(name);
  if (!file) return chip("not here", "picture", remove, { title: "It was on somebody's device" });
  const image = h("img", { alt: "", width: 24, height: 24 });
  const url = URL.createObjectURL(file);
  image.addEventListener("load", () => URL.revokeObjectURL(url));
  image.src = url;
  const title = "Your own picture: it is in no link, so only this window can search with it.";
  return chip(file.name || "pasted picture", "picture", remove, { image, title });
}
