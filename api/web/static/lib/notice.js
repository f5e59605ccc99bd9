/** What stands in a view in the place of what is not there. */

import { h } from "./dom.js";

/** A title, why that is so, and elements that lead on; `title` is a heading of level `level`. */
export function notice(title, texts, actions = [], { level = "h2", ...properties } = {}) {
  const lines = [texts].flat().map((text) => h("p", { class: "muted" }, ...[text].flat()));
  return h("div", { class: "nothing", ...properties }, h(level, {}, title), ...lines, h("div", { class: "row" }, ...actions.filter(Boolean)));
}

/** "Drop" with a mouse, "Choose" with a finger: one of two texts, by what is at hand. */
export const byHand = (mouse, touch) => [h("span", { class: "mouse" }, mouse), h("span", { class: "touch" }, touch)];
