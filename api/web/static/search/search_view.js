/** The elements of the search view, and how a SearchState looks in them. It asks the server nothing. */

import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { limits } from "../lib/server.js";
import { showChips } from "./chips.js";
import { createFilters } from "./filters.js";
import { createGrid } from "./grid.js";
import { failed, noPictures, nothingFits } from "./messages.js";
import { addressOf, collectionPath, hasTerms, splitWords } from "./query.js";

const MAX_EXAMPLES = 8;

/**
 * Builds the view in `container`. `change(patch)` asks for another query, `onGrid` is what the grid calls, without
 * its `hrefOf`, `selection` a Selection. The elements are those that the view's wiring listens to.
 */
export function createSearchView(container, state, { change, onGrid, selection, signal }) {
  const input = h("input", {
    class: "search-input",
    type: "search",
    name: "q",
    autocomplete: "off",
    enterkeyhint: "search",
    placeholder: "Words or a picture",
    "aria-label": "Search for",
  });
  const file = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true, "aria-label": "Picture" });
  const pick = { class: "button quiet", type: "button", title: "Search with a picture: pick, drop or paste one" };
  const filterButton = h(
    "button",
    { class: "button quiet", type: "button", "aria-expanded": "false", "aria-controls": "filters" },
    icon("filter"),
    h("span", {}, "Filters"),
  );
  const form = h(
    "form",
    { class: "search-box", role: "search" },
    icon("search"),
    input,
    file,
    h("button", { ...pick, onclick: () => file.click() }, icon("image"), h("span", {}, "Picture")),
    filterButton,
  );
  const title = h("h1", {}, "Search");
  const hero = h("div", { class: "hero" }, title, h("p", { class: "muted" }, "Describe it, or drop a picture that looks like it."));
  const chips = h("ul", { class: "chips", "aria-label": "The query", hidden: true });
  const examples = h("div", { class: "chips examples", hidden: true });
  const filters = createFilters({ change });
  const status = h("p", { class: "result-status muted small numbers", role: "status" });
  const message = h("div");
  const end = h("div", { class: "results-end" });
  const grid = createGrid({ ...onGrid, hrefOf: (item) => addressOf({ ...state.asked, image: item.id }), selection, signal });
  const select = h("button", { class: "button quiet", type: "button", onclick: () => selection.begin() }, icon("check"), "Select");
  const duplicates = h("a", { class: "button quiet" }, icon("similar"), "Near-duplicates");
  const tools = h("div", { class: "row result-tools", hidden: true }, duplicates, select);
  const results = h("div", { class: "results" }, h("div", { class: "result-head" }, status, tools), message, grid.element, end);
  container.append(hero, form, chips, examples, h("div", { class: "layout" }, filters.element, results));

  function setBusy(isBusy) {
    if (isBusy) grid.element.setAttribute("aria-busy", "true");
    else grid.element.removeAttribute("aria-busy");
  }

  /** The query itself. `isTyping`: what is in the search box is left alone. */
  function paintQuery({ isTyping }) {
    const { asked, isFresh, filterCount } = state;
    const { words } = splitWords(asked.q);
    if (!isTyping && input.value.trim() !== asked.q) input.value = asked.q;
    hero.classList.toggle("visually-hidden", !isFresh);
    title.textContent = isFresh ? "What are you looking for?" : "Search";
    document.title = `${words || "Search"} · image-search`;
    showChips(chips, asked, change);
    filterButton.lastChild.textContent = filterCount ? `Filters (${filterCount})` : "Filters";
    syncFilters();
  }

  function syncFilters() {
    filters.sync(state.asked, state.tags, state.collections.map(({ name }) => name));
  }

  function paintResults() {
    setBusy(false);
    message.replaceChildren();
    end.replaceChildren();
    grid.set(state.results.items);
    if (!state.results.items.length) message.append(nothing());
    for (const warning of state.results.warnings) notify(warning);
    paintStatus();
  }

  function nothing() {
    if (state.isFresh) return noPictures();
    return nothingFits(state.isFiltered ? () => change({ filters: {}, sure: false }) : null);
  }

  function paintError(error, retry) {
    setBusy(false);
    grid.set([]);
    status.textContent = "";
    message.replaceChildren(failed(error, retry));
  }

  /** The next page could not be had; not asked for again by itself, since the end stays in view. */
  function paintEnd(error, retry) {
    end.replaceChildren(...(error ? [failed(error, retry)] : []));
  }

  /** How many there are, where, in which order, how long it took. */
  function paintStatus() {
    const { results, asked } = state;
    if (!results || isBusy()) return;
    const parts = [
      [countText(), state.collections.length > 1 && ` in ${asked.collection}`, hasTerms(asked) && ", best first"],
      results.tookMs !== null && [`${Math.max(1, Math.round(results.tookMs))} ms`],
      results.cutOff && [`only the first ${number(limits.search_offset)} are shown: narrow the search with filters`],
    ];
    const texts = parts.filter(Boolean).map((words) => words.filter(Boolean).join(""));
    status.textContent = results.items.length ? texts.join(" · ") : "";
    tools.hidden = !results.items.length;
    duplicates.href = collectionPath("/duplicates", asked);
  }

  function paintSelection() {
    grid.paintSelection();
    select.hidden = selection.isOn;
  }

  function countText() {
    const { results, isFiltered, fitting, collection } = state;
    const shown = results.items.length;
    const known = isFiltered ? fitting : collection?.count;
    const count = results.done && !results.cutOff ? shown : (known ?? shown);
    const isLeast = known === null && !results.done;
    return `${isLeast ? "more than " : ""}${plural(count, "picture")}`;
  }

  /** Tags of the collection as examples of what could be asked for. */
  function paintExamples() {
    examples.hidden = !state.isFresh || !state.tags.length;
    const tags = state.tags.slice(0, MAX_EXAMPLES);
    examples.replaceChildren(...tags.map((tag) => h("a", { class: "chip", href: addressOf({ ...state.asked, q: tag }) }, tag)));
  }

  const isBusy = () => grid.element.hasAttribute("aria-busy");

  return {
    input,
    file,
    form,
    filterButton,
    filterPanel: filters.element,
    grid,
    setBusy,
    isBusy,
    paintQuery,
    paintResults,
    paintError,
    paintEnd,
    paintStatus,
    paintSelection,
    paintCounts() {
      paintStatus();
      paintExamples();
      syncFilters();
    },
  };
}
