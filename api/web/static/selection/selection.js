/** Which of the found pictures are selected, wherever they are in the grid, and the bar that says what to do with them. */

import { notify } from "../lib/dialogs.js";
import { NOT_LOADED } from "../shell/router.js";

export class Selection {
  #items = new Map(); // id → result
  #before = null; // as it was when a range was begun
  #anchor = null; // the place where a range begins
  #isBegun = false; // by a button, with nothing selected yet
  #changed;

  constructor(changed) {
    this.#changed = changed;
  }

  get size() {
    return this.#items.size;
  }

  get items() {
    return [...this.#items.values()];
  }

  /** Whether a click selects instead of opening. */
  get isOn() {
    return this.#isBegun || this.size > 0;
  }

  has(item) {
    return this.#items.has(item.id);
  }

  begin() {
    this.#isBegun = true;
    this.#changed();
  }

  /** Selects the result at a place, or no longer. A range begins there. */
  toggle(results, place) {
    const item = results[place];
    if (!this.#items.delete(item.id)) this.#items.set(item.id, item);
    this.#beginRange(place);
    this.#changed();
  }

  /** Selects from where the range began to a place, and what only its last extension had is selected no longer. */
  extend(results, place, from = place) {
    if (this.#anchor === null) this.#beginRange(from);
    this.#items = new Map(this.#before);
    const last = Math.max(this.#anchor, place);
    for (let each = Math.min(this.#anchor, place); each <= last; each++) this.#items.set(results[each].id, results[each]);
    this.#changed();
  }

  add(items) {
    for (const item of items) this.#items.set(item.id, item);
    this.#endRange();
  }

  remove(ids) {
    for (const id of ids) this.#items.delete(id);
    this.#endRange();
  }

  clear() {
    if (!this.isOn) return;
    this.#items.clear();
    this.#isBegun = false;
    this.#endRange();
  }

  #beginRange(place) {
    this.#anchor = place;
    this.#before = new Map(this.#items);
  }

  #endRange() {
    this.#anchor = this.#before = null;
    this.#changed();
  }
}

/**
 * A selection whose bar is there while it is on. `paint()` shows it in the grid; the rest is what the bar calls,
 * see `createBar`.
 */
export function createSelection({ paint, signal, ...actions }) {
  let bar = null;
  let isLoading = false;

  async function changed() {
    paint();
    if (bar || isLoading || !selection.isOn) {
      bar?.paint();
      return;
    }
    isLoading = true; // its modules are for those who select
    const module = await import("./bar.js").catch(() => null);
    isLoading = false;
    if (signal.aborted) return;
    if (module) bar = module.createBar(selection, { signal, ...actions });
    else notify(NOT_LOADED, { kind: "error" });
  }

  const selection = new Selection(changed);
  addEventListener(
    "keydown",
    (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || !selection.isOn) return;
      if (event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog[open]")) return;
      event.preventDefault();
      selection.clear();
    },
    { signal },
  );
  return selection;
}
