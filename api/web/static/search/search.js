/** The search view: a box, the query's chips, filters, and what is found. */

import { showChips } from "./chips.js";
import { openDetail } from "./detail.js";
import { h, icon, notify } from "../lib/dom.js";
import { createFilters, withCondition } from "./filters.js";
import { createGrid } from "./grid.js";
import { api } from "../lib/http.js";
import { failed, noPictures, nothingFits } from "./messages.js";
import { acceptPictures } from "./pictures.js";
import { format, hasTerms, lessLike, moreLike, parse, similarTo, split } from "./query.js";
import { countTags, forgetResults, resultsOf } from "./results.js";
import { navigate } from "../lib/router.js";

const TYPING_MS = 300;
const SCROLLED_MS = 150;
const MOST_EXAMPLES = 8;
const LIKE = { more: moreLike, less: lessLike, similar: similarTo };
const PHONE = matchMedia("(max-width: 40rem)");

export function show(container, params, signal) {
  const view = new SearchView(container, signal);
  view.update(params);
  return view;
}

class SearchView {
  constructor(container, signal) {
    this.signal = signal;
    this.collections = [];
    this.tags = [];
    this.running = new AbortController();
    this.loading = false;
    this.build(container);
    this.listen();
    this.loadCollections();
  }

  build(container) {
    const input = { class: "words", type: "search", name: "q", autocomplete: "off", enterkeyhint: "search" };
    this.box = h("input", { ...input, placeholder: "Words or a picture", "aria-label": "Search for" });
    this.file = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true, "aria-label": "Picture" });
    this.filterButton = h(
      "button",
      { class: "button quiet", type: "button", "aria-expanded": "false", "aria-controls": "filters" },
      icon("filter"),
      h("span", {}, "Filters"),
    );
    const pick = { class: "button quiet", type: "button", title: "Search with a picture: pick, drop or paste one" };
    this.form = h(
      "form",
      { class: "search-box", role: "search" },
      icon("search"),
      this.box,
      this.file,
      h("button", { ...pick, onclick: () => this.file.click() }, icon("picture"), h("span", {}, "Picture")),
      this.filterButton,
    );
    this.title = h("h1", {}, "Search");
    this.lead = h("p", { class: "muted" });
    this.hero = h("div", { class: "hero" }, this.title, this.lead);
    this.chips = h("ul", { class: "chips", "aria-label": "The query", hidden: true });
    this.examples = h("div", { class: "chips examples", hidden: true });
    this.filters = createFilters({ change: (patch) => this.change(patch) });
    this.status = h("p", { class: "found muted small numbers", role: "status" });
    this.message = h("div");
    this.end = h("div", { class: "results-end" });
    this.grid = createGrid({
      hrefOf: (item) => format({ ...this.state, image: item.id }),
      act: (name, item) => this.like(name, item.id),
      needMore: () => this.loadMore(),
      leave: () => this.box.focus(),
      signal: this.signal,
    });
    const results = h("div", { class: "results" }, this.status, this.message, this.grid.element, this.end);
    const layout = h("div", { class: "layout" }, this.filters.element, results);
    container.append(this.hero, this.form, this.chips, this.examples, layout);
  }

  listen() {
    const { signal } = this;
    this.box.addEventListener("input", () => this.onTyping());
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" || !this.results?.items.length) return;
      event.preventDefault();
      this.grid.focus(0);
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.file.addEventListener("change", () => {
      this.pictures.add([...this.file.files]);
      this.file.value = "";
    });
    this.filterButton.addEventListener("click", () => this.toggleFilters());
    this.filters.element.addEventListener("close", () => this.onFiltersClosed());
    this.pictures = acceptPictures({
      state: () => this.state,
      change: (patch) => this.change(patch),
      like: (id) => this.like("more", id),
      box: this.box,
      signal,
    });
    addEventListener("keydown", (event) => this.onKey(event), { signal });
    let scrolled = 0;
    addEventListener(
      "scroll",
      () => {
        clearTimeout(scrolled);
        scrolled = setTimeout(() => this.rememberScroll(), SCROLLED_MS);
      },
      { passive: true, signal },
    );
    PHONE.addEventListener("change", () => this.filters.element.close(), { signal });
    signal.addEventListener("abort", () => {
      clearTimeout(scrolled);
      clearTimeout(this.typing);
      this.running.abort();
      this.detail?.dismiss();
    });
  }

  onKey(event) {
    const busy = event.target.closest?.("input, textarea, select, dialog[open]") || event.ctrlKey || event.metaKey;
    if (event.key !== "/" || busy) return;
    event.preventDefault();
    this.box.focus();
    this.box.select();
  }

  rememberScroll() {
    if (!this.signal.aborted) history.replaceState({ ...history.state, scroll: scrollY }, "");
  }

  // --- the address is the state: everything that changes the query goes through it

  change(patch, options) {
    return navigate(format({ ...this.state, image: null, ...patch }), options);
  }

  like(name, id) {
    navigate(format(LIKE[name](this.state, id)));
  }

  onTyping() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => {
      this.typing = null;
      const q = this.box.value.trim();
      if (q === this.state.q || /^https?:/i.test(q)) return;
      // While one goes on typing it is one step of the history.
      this.change({ q }, { replace: this.isEditing });
      this.isEditing = true;
    }, TYPING_MS);
  }

  submit() {
    clearTimeout(this.typing);
    this.typing = null;
    const q = this.box.value.trim();
    if (this.pictures.takeURL(q)) this.box.value = "";
    else if (q !== this.state.q) this.change({ q }, { replace: this.isEditing });
    this.isEditing = false;
    if (PHONE.matches) this.box.blur();
  }

  /** Shows what an address asks for; called for each one, by the router. */
  update(params) {
    const before = this.state && format({ ...this.state, image: null });
    this.state = this.read(params);
    if (before !== format({ ...this.state, image: null })) this.run();
    this.showPicture();
  }

  read(params) {
    try {
      return parse(params);
    } catch (error) {
      notify(error.message, { kind: "error" });
      params.delete("f");
      return parse(params);
    }
  }

  // --- the query

  async run() {
    const { state } = this;
    this.running.abort();
    this.running = new AbortController();
    this.loading = false;
    const { signal } = this.running;
    const hadFocus = this.grid.element.contains(document.activeElement);
    // An entry of the history that was seen before has a place to scroll to; any other is asked for anew.
    const scroll = history.state?.scroll;
    this.results = resultsOf(state, { again: scroll !== undefined });
    this.paintQuery();
    try {
      if (!this.results.items.length && !this.results.done) {
        this.grid.element.setAttribute("aria-busy", "true");
        await this.results.more(signal);
      }
      this.paintResults();
      await this.loadDownTo(scroll, signal);
      scrollTo(0, scroll ?? 0);
      this.rememberScroll();
      this.grid.render();
      if (hadFocus && !this.hasFocusElsewhere) this.grid.focus(0);
      await this.countResults(signal);
    } catch (error) {
      if (!signal.aborted) this.paintError(error);
    }
  }

  async loadDownTo(scroll, signal) {
    const end = () => this.grid.element.getBoundingClientRect().bottom + scrollY;
    while (!this.results.done && scroll && end() < scroll + innerHeight) {
      await this.results.more(signal);
      this.grid.grow();
    }
  }

  async loadMore() {
    const { items, done } = this.results;
    if (this.loading || done || !items.length || this.grid.element.hasAttribute("aria-busy")) return;
    this.loading = true;
    const { results } = this;
    const { signal } = this.running;
    try {
      await results.more(signal);
      this.loading = false;
      this.grid.grow();
      this.paintStatus();
    } catch (error) {
      // Not again by itself: the end stays in view.
      if (!signal.aborted) this.end.replaceChildren(failed(error, () => this.loadAgain()));
    }
  }

  loadAgain() {
    this.loading = false;
    this.end.replaceChildren();
    this.loadMore();
  }

  /** Whoever went somewhere else while results were on their way stays there. */
  get hasFocusElsewhere() {
    const { activeElement } = document;
    return activeElement !== document.body && !this.grid.element.contains(activeElement);
  }

  get isFiltered() {
    return Object.keys(this.state.filters).length > 0 || this.state.sure;
  }

  async loadCollections() {
    try {
      this.collections = (await api("/v1/collections", { signal: this.signal })).collections;
    } catch (error) {
      if (!this.signal.aborted) notify(error.message, { kind: "error" });
      return;
    }
    this.paintQuery();
    this.paintStatus();
  }

  /** Facets cost time on the server: they are asked for where somebody looks at them. */
  async countResults(signal) {
    this.total = null;
    this.tags = [];
    if (hasTerms(this.state) && (this.isFiltered || this.filters.element.open)) {
      const { tags, scope } = await countTags(this.state, signal);
      this.tags = tags.map(({ value }) => value);
      this.total = scope.complete ? scope.pictures : null;
    } else {
      this.tags = frequentTags(this.results.items);
    }
    this.paintStatus();
    this.paintExamples();
    this.syncFilters();
  }

  // --- painting

  paintQuery() {
    const { state } = this;
    if (!state) return;
    const { words } = split(state.q);
    const isFresh = !hasTerms(state) && !this.isFiltered;
    if (!this.typing && this.box.value.trim() !== state.q) this.box.value = state.q;
    this.hero.classList.toggle("visually-hidden", !isFresh);
    this.title.textContent = isFresh ? "What are you looking for?" : "Search";
    this.lead.textContent = "Describe it, or drop a picture that looks like it.";
    document.title = `${words || "Search"} · image-search`;
    showChips(this.chips, state, (patch) => this.change(patch));
    const count = Object.keys(state.filters).length + Number(state.sure);
    this.filterButton.lastChild.textContent = count ? `Filters (${count})` : "Filters";
    this.syncFilters();
  }

  syncFilters() {
    this.filters.sync(this.state, this.tags, this.collections.map(({ name }) => name));
  }

  paintExamples() {
    const isFresh = !hasTerms(this.state) && !this.isFiltered;
    this.examples.hidden = !isFresh || !this.tags.length;
    this.examples.replaceChildren(
      ...this.tags.slice(0, MOST_EXAMPLES).map((tag) => h("a", { class: "chip", href: format({ ...this.state, q: tag }) }, tag)),
    );
  }

  paintResults() {
    this.grid.element.removeAttribute("aria-busy");
    this.message.replaceChildren();
    this.end.replaceChildren();
    this.grid.set(this.results.items);
    if (!this.results.items.length) this.message.append(this.nothing());
    for (const warning of this.results.warnings) notify(warning);
    this.paintStatus();
  }

  nothing() {
    if (!hasTerms(this.state) && !this.isFiltered) return noPictures();
    return nothingFits(this.isFiltered ? () => this.change({ filters: {}, sure: false }) : null);
  }

  paintError(error) {
    this.grid.element.removeAttribute("aria-busy");
    this.grid.set([]);
    this.status.textContent = "";
    this.message.replaceChildren(failed(error, () => this.run()));
  }

  paintStatus() {
    const { results, state } = this;
    if (!results || this.grid.element.hasAttribute("aria-busy")) return;
    const count = this.countOf(results);
    const where = this.collections.length > 1 ? ` in ${state.collection}` : "";
    const order = hasTerms(state) ? ", best first" : "";
    const took = results.tookMs === null ? "" : ` · ${Math.max(1, Math.round(results.tookMs))} ms`;
    const end = results.cutOff ? " · only the first 10,000 are shown: narrow the search with filters" : "";
    this.status.textContent = results.items.length ? `${count}${where}${order}${took}${end}` : "";
  }

  countOf(results) {
    const shown = results.items.length;
    const collection = this.collections.find(({ name }) => name === this.state.collection);
    const known = this.isFiltered ? this.total : collection?.count;
    const count = results.done && !results.cutOff ? shown : (known ?? shown);
    const isLeast = known === null && !results.done;
    return `${isLeast ? "more than " : ""}${count.toLocaleString("en")} ${count === 1 ? "picture" : "pictures"}`;
  }

  // --- the filter panel: beside the results, on phones a sheet over them

  toggleFilters() {
    const panel = this.filters.element;
    if (panel.open) {
      panel.close();
      return;
    }
    if (PHONE.matches) panel.showModal();
    else panel.show();
    this.filterButton.setAttribute("aria-expanded", "true");
    this.countResults(this.running.signal).catch((error) => notify(error.message, { kind: "error" }));
  }

  onFiltersClosed() {
    this.filterButton.setAttribute("aria-expanded", "false");
    this.filterButton.focus();
  }

  // --- one picture

  showPicture() {
    const { image } = this.state;
    if (image === this.detailOf) return;
    this.detail?.dismiss();
    const before = this.detailOf;
    this.detailOf = image;
    this.detail = image ? openDetail(image, this.state, this.detailActions(image)) : null;
    if (!image && before) this.grid.focus(Math.max(0, this.placeOf(before)));
  }

  placeOf(id) {
    return this.results.items.findIndex((item) => item.id === id);
  }

  detailActions(image) {
    const address = (id) => format({ ...this.state, image: id });
    const neighbour = (by) => {
      const place = this.placeOf(image);
      return place < 0 ? undefined : this.results.items[place + by];
    };
    return {
      close: () => {
        const without = new URL(address(null), location.href).href;
        if (history.state?.from === without) history.back();
        else navigate(without, { replace: true });
      },
      can: (by) => Boolean(neighbour(by)),
      step: (by) => navigate(address(neighbour(by).id), { replace: true }),
      hrefOf: address,
      like: (name, id) => this.like(name, id),
      filter: (field, condition) =>
        this.change({ filters: withCondition(this.state.filters, field, condition) }),
      deleted: (id) => {
        forgetResults();
        const less = this.state.less.filter((one) => one !== id);
        const more = this.state.more.filter((one) => one !== id);
        this.change({ more, less }, { replace: true });
        this.run();
        this.loadCollections();
      },
    };
  }
}

function frequentTags(items) {
  const counts = new Map();
  for (const item of items) {
    for (const tag of item.tags ?? []) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([tag]) => tag);
}
