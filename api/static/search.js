import { h } from "./dom.js";

export function show(container) {
  container.append(h("h1", {}, "Search"));
}
