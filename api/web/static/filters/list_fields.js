/** The fields of the panel that say how results are listed: their order, one of each, how much they vary. */

import { h } from "../lib/dom.js";
import { groupWords, orderWords } from "../search/list_words.js";
import { NEAR_DUPLICATES, NEWEST, ORDERED, hasTerms } from "../search/query.js";
import { group } from "./fields.js";

const ORDERS = [NEWEST, "created_at", "-taken_at", "taken_at"];

const namesOf = (facets) => (facets?.metadata?.names ?? []).map(({ name }) => name);

/** A choice of values, `label` for people; what a state has is among them, also where it is not known here. */
function choice(label, words, choose) {
  const select = h("select", { class: "field", "aria-label": label, onchange: () => choose(select.value) });
  let shown = "";
  return {
    select,
    show(values, chosen) {
      const all = [...new Set(["", ...values, chosen])];
      if (shown !== (shown = JSON.stringify(all))) select.replaceChildren(...all.map((value) => h("option", { value }, words(value))));
      select.value = chosen;
    },
  };
}

export function order(change) {
  const words = (value) => (value ? capitalized(orderWords(value)) : "Best first");
  const { select, show } = choice("Order", words, (orderBy) => change({ orderBy, ...(orderBy && { diversity: 0 }) }));
  const note = h("p", { class: "muted small" }, `Of the ${ORDERED} nearest, or of what surely fits.`);
  const element = group("Order", select, note);
  return {
    element,
    sync(state, _tags, facets) {
      element.hidden = !hasTerms(state); // else the newest come first
      show([...ORDERS, ...namesOf(facets).flatMap((name) => [name, `-${name}`])], state.orderBy);
      note.hidden = !state.orderBy;
    },
  };
}

export function grouping(change) {
  const words = (value) => (value ? capitalized(groupWords(value)) : "Every picture");
  const { select, show } = choice("One of each", words, (groupBy) => change({ groupBy }));
  const element = group("One of each", select);
  return {
    element,
    sync(state, _tags, facets) {
      element.hidden = !hasTerms(state);
      show([NEAR_DUPLICATES, ...namesOf(facets)], state.groupBy);
    },
  };
}

export function diversity(change) {
  const shown = h("output", { class: "muted small numbers" });
  const range = h("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.1,
    "aria-label": "Variety",
    oninput: () => say(Number(range.value)),
    onchange: () => change({ diversity: Number(range.value) }),
  });
  const element = group("Variety", h("div", { class: "row" }, range, shown));
  function say(value) {
    const text = value ? String(value) : "none";
    range.setAttribute("aria-valuetext", text);
    shown.replaceChildren(text);
  }
  return {
    element,
    sync(state) {
      element.hidden = !hasTerms(state) || Boolean(state.orderBy); // two orders exclude each other
      range.value = state.diversity;
      say(state.diversity);
    },
  };
}

const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1);
