/** The elements of the search view, and how a SearchState looks in them. It asks the server nothing. */

import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { byHand } from "../lib/notice.js";
import { limits } from "../lib/server.js";
import { showChips } from "./chips.js";
import { createFilters } from "../filters/filters.js";
import { createGrid } from "./grid.js";
import { deadEnd, failed, noGoodMatch, noPictures, nothingFits, pictureNotHere } from "./messages.js";
import { orderWords } from "./list_words.js";
import { addressOf, collectionPath, fileOf, hasTerms, openedGroup, orderOf, othersOf, splitWords } from "./query.js";
import { modelOnItsWay } from "./waiting.js";

const MAX_EXAMPLES = 8;
const OF_FILTERS = /^\/(?:filters|keywords|order_by|group_by)\b[^:]*: /;

const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/**
 * Builds the view in `container`. `change(patch)` asks for another query, `choosePart` is as for `showChips`, `onGrid`
 * is what the grid calls, without its `hrefOf`, `selection` a Selection. The elements are those that the view's wiring listens to.
 */
export function createSearchView(container, state, { change, choosePart, onGrid, selection, signal }) {
  const input = h("input", {
    class: "search-input",
    type: "search",
    name: "q",
    dir: "auto",
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
  const hero = h("div", { class: "hero" }, title, h("p", { class: "muted" }, "Describe it, or ", ...byHand("drop", "choose"), " a picture that looks like it."));
  const chips = h("ul", { class: "chips", "aria-label": "The query", hidden: true });
  const notes = h("div", { class: "query-notes muted small", role: "status" });
  const examples = h("div", { class: "chips examples", hidden: true });
  const filters = createFilters({ change });
  const status = h("p", { class: "result-status muted small numbers", role: "status" });
  const message = h("div");
  const end = h("div", { class: "results-end" });
  const hrefOf = (item) => addressOf(othersOf(item) ? openedGroup(state.asked, item) : { ...state.asked, image: item.id });
  const grid = createGrid({ ...onGrid, hrefOf, lineAt: () => state.line, selection, signal });
  const select = h("button", { class: "button quiet", type: "button", onclick: () => selection.begin() }, icon("check"), "Select");
  const duplicates = h("a", { class: "button quiet" }, icon("similar"), "Near-duplicates");
  const tools = h("div", { class: "row result-tools", hidden: true }, duplicates, select);
  const results = h("div", { class: "results" }, h("div", { class: "result-head" }, status, tools), message, grid.element, end);
  container.append(hero, form, chips, notes, examples, h("div", { class: "layout" }, filters.element, results));

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
    showChips(chips, asked, { change, choosePart });
    filterButton.lastChild.textContent = filterCount ? `Filters (${filterCount})` : "Filters";
    syncFilters();
  }

  function syncFilters() {
    filters.sync(state.asked, state.tags, state.facets);
  }

  function paintResults() {
    setBusy(false);
    end.replaceChildren();
    grid.set(state.shown);
    message.replaceChildren(...(state.shown.length ? [] : [nothing()]));
    paintWarnings(state.results.warnings);
    paintStatus();
  }

  /** What is to be said of the filters stands below them. */
  function paintWarnings(warnings) {
    const own = warnings.filter((warning) => OF_FILTERS.test(warning));
    notes.replaceChildren(...own.map((warning) => h("p", {}, icon("warning"), capitalized(warning.replace(OF_FILTERS, "")))));
    for (const warning of warnings) if (!own.includes(warning)) notify(warning);
  }

  function nothing() {
    const { asked, isFiltered, isHidden, collection } = state;
    const isEmpty = !isHidden && (!isFiltered || collection?.count === 0);
    if (isEmpty) return noPictures(asked.collection, signal);
    const clear = () => change({ filters: {}, keywords: null, sure: false });
    if (!isHidden && !(asked.sure && hasTerms(asked))) return nothingFits(clear);
    const showNearest = () => change({ sure: false, nearest: true });
    return noGoodMatch(splitWords(asked.q).words, showNearest, Object.keys(asked.filters).length > 0 && clear);
  }

  /** The result at a place, or what can be done where there is none. */
  function focusResults(place = 0) {
    if (state.shown.length) grid.focus(place);
    else message.querySelector("button, a")?.focus();
  }

  /** The query has pictures that are not here: it is not asked without them, which would be another one. */
  function paintLost() {
    showNone(pictureNotHere(() => file.click(), () => change({ files: state.asked.files.filter(fileOf) })));
  }

  function paintError(error, retry) {
    showNone(fault(error, retry));
  }

  /** The collection's model is on its way; gives what says so. */
  function paintWaiting(error) {
    const element = modelOnItsWay(error, state.asked.collection, state.signal);
    showNone(element);
    return element;
  }

  function showNone(why) {
    setBusy(false);
    grid.set([]);
    end.replaceChildren();
    status.textContent = "";
    tools.hidden = true;
    notes.replaceChildren();
    message.replaceChildren(why);
  }

  const fault = (error, retry) => deadEnd(error, state.asked, { retry, signal }) ?? failed(error, retry);

  /** The next page could not be had; not asked for again by itself, since the end stays in view. */
  function paintEnd(error, retry) {
    end.replaceChildren(...(error ? [fault(error, retry)] : []));
  }

  /** How many there are, or fit, where, in which order, how long it took. */
  function paintStatus() {
    const { results } = state;
    if (!results || isBusy()) return;
    const parts = [
      [state.good === null ? placedCount() : goodText(), orderText()],
      results.tookMs !== null && [`${Math.max(1, Math.round(results.tookMs))} ms`],
      results.cutOff && [`only the first ${number(limits.search_offset)} are shown: narrow the search with filters`],
    ];
    const texts = parts.filter(Boolean).map((words) => words.filter(Boolean).join(""));
    status.textContent = results.items.length ? texts.join(" · ") : "";
    tools.hidden = !state.shown.length;
    duplicates.href = collectionPath("/duplicates", state.asked);
  }

  function paintSelection() {
    grid.paintSelection();
    select.hidden = selection.isOn;
  }

  const placedCount = () => `${countText()}${state.collections.length > 1 ? ` in ${state.asked.collection}` : ""}`;

  function goodText() {
    const { results, good, asked, fitting } = state;
    if (!good) return "No good match";
    const known = asked.sure && !state.isGrouped ? fitting : null; // only then it is good matches that were counted
    const isLeast = known === null && good === results.items.length && !results.done;
    const count = known ?? good;
    return `${isLeast ? "more than " : ""}${number(count)} good match${count === 1 ? "" : "es"}`;
  }

  function orderText() {
    if (state.isHidden) return "";
    const order = orderOf(state.asked);
    if (order) return `, ${orderWords(order)}`;
    if (state.asked.diversity) return ", nearest first, varied";
    if (state.good === null) return ", nearest first";
    if (!state.good) return "; the nearest first";
    return state.line ? "; less certain below" : ", best first";
  }

  function countText() {
    const { results, isFiltered, fitting, collection } = state;
    const shown = results.items.length;
    const { scope } = results;
    const isPart = scope && !scope.complete && Boolean(results.done || state.asked.orderBy);
    if (state.isGrouped) {
      const of = isPart ? ` of the ${number(scope.pictures)} nearest pictures` : "";
      return `${results.done ? "" : "more than "}${plural(shown, "group")}${of}`;
    }
    if (isPart) return `the ${number(scope.pictures)} nearest pictures`;
    const known = isFiltered ? fitting : collection?.count;
    const count = results.done && !results.cutOff ? shown : (known ?? shown);
    const isLeast = known === null && !results.done;
    return `${isLeast ? "more than " : ""}${plural(count, "picture")}`;
  }

  /** Tags of the collection as examples of what could be asked for. */
  function paintExamples() {
    examples.hidden = !state.isFresh || !state.tags.length;
    const tags = state.tags.slice(0, MAX_EXAMPLES);
    examples.replaceChildren(...tags.map((tag) => h("a", { class: "chip", href: addressOf({ ...state.asked, q: tag, image: null }) }, tag)));
  }

  const isBusy = () => grid.element.hasAttribute("aria-busy");

  return {
    input,
    file,
    form,
    results,
    focusResults,
    filterButton,
    filterPanel: filters.element,
    grid,
    setBusy,
    isBusy,
    paintQuery,
    paintResults,
    paintError,
    paintLost,
    paintWaiting,
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
