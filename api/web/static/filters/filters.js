/** The panel that sets the filters of a query. */

import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { NOT_LOADED } from "../shell/router.js";
import { diversity, grouping, order } from "./list_fields.js";
import { keywords } from "./keywords.js";
import { withCondition } from "./conditions.js";
import {
  colorChoice,
  confidence,
  dateRange,
  maximumNsfw,
  minimumSize,
  nearPlace,
  tagChoice,
  watchTyping,
} from "./fields.js";

const CLEARED = { filters: {}, keywords: null, sure: false, orderBy: "", groupBy: "", diversity: 0 };

/**
 * The panel. `change(patch)` is called with what of the state is to be different. `sync(state, tags,
 * facets)` shows a state, with the tags to choose from, or the facets where they were counted.
 */
export function createFilters({ change }) {
  let filters = {};
  const set = (field, condition) => change({ filters: withCondition(filters, field, condition) });
  const parts = [
    order(change),
    grouping(change),
    diversity(change),
    keywords(change),
    dateRange(set),
    tagChoice(set),
    colorChoice(set),
    ownMetadata(set),
    minimumSize(set),
    nearPlace(set),
    maximumNsfw(set),
    confidence(change),
  ];
  const close = h(
    "button",
    { class: "button quiet round", type: "button", "aria-label": "Close the filters", onclick: () => element.close() },
    icon("close"),
  );
  const clear = h(
    "button",
    { class: "button quiet", type: "button", onclick: () => change(CLEARED) },
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
    sync(state, tags, facets) {
      filters = state.filters;
      for (const part of parts) part.sync(state, tags, facets);
    },
  };
}

/** The fields of the collection's own metadata, which are loaded when there is something to show in them. */
function ownMetadata(set) {
  const element = h("div");
  let part = null;
  let latest = null;
  return {
    element,
    async sync(state, _tags, facets) {
      if (!facets) return;
      latest = [state, facets];
      if (!part) {
        const module = await import("./metadata_fields.js").catch(() => notify(NOT_LOADED, { kind: "error" }));
        if (!module) return;
        part ??= module.metadataFields(set);
        element.replaceChildren(part.element);
      }
      part.sync(...latest);
    },
  };
}
