/** The panel that sets the filters of a query. */

import { h, icon } from "../lib/dom.js";
import { withCondition } from "./conditions.js";
import {
  colorChoice,
  confidence,
  dateRange,
  maximumNsfw,
  metadataCondition,
  minimumSize,
  nearPlace,
  tagChoice,
  watchTyping,
} from "./filter_fields.js";

/**
 * The panel. `change(patch)` is called with what of the state is to be different. `sync(state, tags)`
 * shows a state, with the tags to choose from.
 */
export function createFilters({ change }) {
  let filters = {};
  const set = (field, condition) => change({ filters: withCondition(filters, field, condition) });
  const parts = [
    dateRange(set),
    tagChoice(set),
    colorChoice(set),
    minimumSize(set),
    nearPlace(set),
    maximumNsfw(set),
    metadataCondition(set),
    confidence(change),
  ];
  const close = h(
    "button",
    { class: "button quiet round", type: "button", "aria-label": "Close the filters", onclick: () => element.close() },
    icon("close"),
  );
  const clear = h(
    "button",
    { class: "button quiet", type: "button", onclick: () => change({ filters: {}, sure: false }) },
    "Clear all",
  );
  const element = h(
    "dialog",
    { class: "filters", id: "filters", "aria-labelledby": "filters-title" },
    h("div", { class: "row filters-head" }, h("h2", { id: "filters-title" }, "Filters"), clear, close),
    ...parts.map((part) => part.element),
  );
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape") element.close();
  });
  watchTyping(element);
  return {
    element,
    sync(state, tags) {
      filters = state.filters;
      for (const part of parts) part.sync(state, tags);
    },
  };
}
