/** The parts of a query as chips, each of which can be taken away. */

import { h, icon } from "../lib/dom.js";
import { describe, withCondition } from "./filters.js";
import { pictureURL } from "../lib/http.js";
import { dataPath, pictureOf, split, without } from "./query.js";
import { sourceName } from "../lib/sources.js";

const GONE = "The picture that was dropped is no longer here: drop it again.";

/** Shows the chips of `state` in `list`; each calls `change` with what of the state it takes away. */
export function showChips(list, state, change) {
  const { words, not } = split(state.q);
  const drop = (field, value) => ({ [field]: state[field].filter((one) => one !== value) });
  const rest = [
    ...state.urls.map((url) => chip(sourceName(url), "picture", () => change(drop("urls", url)), { title: url })),
    ...state.pictures.map((name) => dropped(name, () => change(drop("pictures", name)))),
    ...state.more.map((id) => liked(state, id, "more like", () => change(drop("more", id)))),
    ...not.map((word) => chip(word, "not", () => change({ q: without(state.q, { not: word }) }))),
    ...state.less.map((id) => liked(state, id, "less like", () => change(drop("less", id)))),
    ...describe(state.filters).map(({ field, text }) =>
      chip(text, "", () => change({ filters: withCondition(state.filters, field, undefined) })),
    ),
    state.sure && chip("only what surely fits", "", () => change({ sure: false })),
  ].filter(Boolean);
  // Words alone are in the box already.
  const own = words && rest.length ? [chip(words, "words", () => change({ q: without(state.q, { words: true }) }))] : [];
  list.replaceChildren(...[...own, ...rest].map((each) => h("li", {}, each)));
  list.hidden = !rest.length;
}

function chip(text, kind, remove, { picture, title } = {}) {
  const taking = kind === "not" || kind === "less like";
  return h(
    "button",
    {
      class: `chip removable${taking ? " taking" : ""}`,
      type: "button",
      title: title ?? "",
      "aria-label": `Remove ${[kind, text].filter(Boolean).join(" ")}`,
      onclick: remove,
    },
    kind && h("span", { class: "muted" }, kind),
    picture,
    text && h("span", { class: "ellipsis" }, text),
    icon("close"),
  );
}

function liked(state, id, kind, remove) {
  const picture = h("img", { alt: "", width: 24, height: 24 });
  pictureURL(dataPath(`/v1/images/${id}/thumbnail`, state)).then(
    (url) => {
      picture.src = url;
    },
    () => picture.remove(),
  );
  const made = chip("", kind, remove, { picture });
  made.setAttribute("aria-label", `Remove ${kind} picture ${id.slice(0, 8)}`);
  return made;
}

function dropped(name, remove) {
  const file = pictureOf(name);
  if (!file) return chip("picture is gone", "", remove, { title: GONE });
  const picture = h("img", { alt: "", width: 24, height: 24 });
  const url = URL.createObjectURL(file);
  picture.addEventListener("load", () => URL.revokeObjectURL(url));
  picture.src = url;
  const title = "Your own picture: it is in no link, so only this window can search with it.";
  return chip(file.name || "pasted picture", "picture", remove, { picture, title });
}
