/** What the search view knows: what is asked for, and what was found so far. It touches no element. */

import { api } from "../lib/requests.js";
import { listedBy } from "./list_words.js";
import { addressOf, hasTerms, isOfWords, stateOf } from "./query.js";
import { countValues, membersOf, resultsOf } from "./results.js";

export class SearchState {
  asked = null; // the state that the address stands for, as `stateOf` gives it
  results = null; // as `resultsOf` gives them
  collections = []; // as the server lists them
  tags = []; // of what was found, the most frequent first
  facets = null; // as `loadFacets` gives them, while somebody looks at the filters
  fitting = null; // how many images pass the filters, where that was counted
  #running = new AbortController(); // what is asked of the server for this query
  #page = null; // the promise of the next results, while they are on their way

  /** Takes over what an address asks for; whether that is another query, and not only another open image. */
  read(params) {
    const before = this.asked && this.#queryAddress();
    this.asked = stateOf(params);
    this.asked.members = membersOf(this.asked);
    return before !== this.#queryAddress();
  }

  #queryAddress() {
    return addressOf({ ...this.asked, image: null });
  }

  get signal() {
    return this.#running.signal;
  }

  get isFiltered() {
    const { filters, sure, keywords, stack } = this.asked;
    return Object.keys(filters).length > 0 || Boolean(sure || keywords || stack);
  }

  /** Whether the best do not come first, so that no line parts them from the rest. */
  get isReordered() {
    return Boolean(this.asked.orderBy || this.asked.diversity);
  }

  /** Whether each result stands for a group. */
  get isGrouped() {
    return Boolean(this.asked.groupBy) && !this.asked.stack && hasTerms(this.asked);
  }

  /** Whether nothing is asked for, so that the collection itself is shown. */
  get isFresh() {
    return !hasTerms(this.asked) && !this.isFiltered;
  }

  get filterCount() {
    const { filters, sure, keywords } = this.asked;
    return Object.keys(filters).length + [sure, keywords, ...listedBy(this.asked)].filter(Boolean).length;
  }

  /** How many good matches lead the results that are loaded; null where that is not known. */
  get good() {
    const { items } = this.results;
    if (this.isReordered || !items[0]?.strength) return null; // or not asked for, or too few pictures to tell
    const weak = items.findIndex(({ strength }) => strength === "weak");
    return weak < 0 ? items.length : weak;
  }

  /** The place of the first result that is no good match, where there are both. */
  get line() {
    const { good } = this;
    return good && good < this.results.items.length ? good : null;
  }

  /** Whether no result fits and nobody has asked for the nearest all the same. */
  get isHidden() {
    return this.good === 0 && isOfWords(this.asked) && !this.asked.nearest;
  }

  /** The results as the grid has them. */
  get shown() {
    return this.isHidden ? [] : this.results.items;
  }

  get collection() {
    return this.collections.find(({ name }) => name === this.asked.collection);
  }

  /** Begins a query and ends the one before; `mayRepeat`: what it found last time will do. */
  begin({ mayRepeat }) {
    this.stop();
    this.#running = new AbortController();
    this.#page = null;
    this.results = resultsOf(this.asked, { mayRepeat });
  }

  stop() {
    this.#running.abort();
  }

  /** Loads the first page of results, unless they are known; `onModel` is as for `api`. */
  async loadFirst(onModel) {
    if (!this.results.items.length && !this.results.done) await this.results.more(this.signal, onModel);
  }

  /** Loads one more page; false while one is on its way and when there is none. */
  async loadMore() {
    const { results } = this;
    if (this.#page || results.done || !this.shown.length) return false;
    this.#page = results.more(this.signal); // and it stays so after an error, until `allowRetry`
    await this.#page;
    this.#page = null;
    return true;
  }

  /** Loads until there are so many results, or all; `onPage` is called after each page. */
  async loadUpTo(most, onPage, signal) {
    const { results } = this;
    while (!results.done && this.shown.length && results.items.length < most) {
      try {
        await (this.#page ?? this.loadMore());
      } catch (error) {
        this.allowRetry();
        throw error;
      }
      signal.throwIfAborted();
      onPage(results.items.length);
    }
    return this.shown;
  }

  allowRetry() {
    this.#page = null;
  }

  async loadCollections(signal) {
    this.collections = (await api("/v1/collections", { signal, needs: ["collections"] })).collections;
  }

  /** Finds the tags, and how many images fit where `withTotal`: that costs the server time. */
  async count({ withTotal }) {
    this.fitting = null;
    this.tags = [];
    const { asked, signal } = this;
    this.facets = withTotal ? await import("../filters/facets.js").then(({ loadFacets }) => loadFacets(asked, signal)) : null;
    if (hasTerms(asked) && this.facets) {
      this.tags = this.facets.values.tags.map(({ value }) => value);
      this.fitting = this.facets.fitting;
    } else if (hasTerms(asked) && this.isFiltered) {
      const { facets, facet_scope: scope } = await countValues(asked, ["tags"], signal);
      this.tags = facets.tags.map(({ value }) => value);
      this.fitting = scope.complete ? scope.pictures : null;
    } else {
      this.tags = frequentTags(this.results.items);
    }
  }

  /** The result `by` places after the one with this id. */
  neighbour(id, by) {
    const place = this.placeOf(id);
    return place < 0 ? undefined : this.results.items[place + by];
  }

  placeOf(id) {
    return this.results.items.findIndex((item) => item.id === id);
  }
}

function frequentTags(items) {
  const counts = new Map();
  for (const item of items) {
    for (const tag of item.tags ?? []) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([tag]) => tag);
}
