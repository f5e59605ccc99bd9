/** What the header's menu of collections holds. */

import { collectionAddress, collectionOf, withCollection } from "../lib/collection.js";
import { h, icon } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { newCollection } from "./new_collection.js";
import { navigate } from "./router.js";

const MANY = 12; // from here on a name can be typed to find one

/** Fills the open `popover` of `button`. */
export async function showCollections(popover, button) {
  const list = h("ul", {}, h("li", { class: "muted small" }, "Loading…"));
  const find = h("input", { class: "field", placeholder: "Find", "aria-label": "Find a collection", hidden: true });
  const create = h("button", { class: "button quiet", type: "button" }, icon("plus"), "New collection…");
  create.addEventListener("click", async () => {
    popover.hidePopover();
    const name = await newCollection();
    if (name !== null) navigate(collectionAddress(name));
    button.focus();
  });
  const manage = h("a", { class: "button quiet", href: withCollection("/system#collections") }, "Manage");
  popover.replaceChildren(find, list, h("div", { class: "menu-end" }, create, manage));
  popover.onkeydown = (event) => step(event, popover);
  find.addEventListener("input", () => {
    for (const row of list.children) row.hidden = !row.textContent.toLowerCase().includes(find.value.trim().toLowerCase());
  });
  try {
    const { collections } = await api("/v1/collections", { needs: ["collections"], isOptional: true });
    find.hidden = collections.length < MANY;
    list.replaceChildren(...collections.map(row));
    if (!collections.length) list.append(h("li", { class: "muted small" }, "There are none yet."));
    const first = find.hidden ? (popover.querySelector("[aria-current]") ?? popover.querySelector("a")) : find;
    if (!popover.contains(document.activeElement)) first?.focus(); // who has gone on meanwhile stays there
  } catch (error) {
    list.replaceChildren(h("li", { class: "small", role: "alert" }, error.message));
  }
}

function row({ name, count, model }) {
  const link = h(
    "a",
    { href: collectionAddress(name), "aria-current": name === collectionOf() && "true" },
    h("span", { class: "ellipsis" }, name),
    h("span", { class: "muted numbers" }, number(count)),
    h("bdi", { class: "muted small ellipsis", title: model }, model),
  );
  return h("li", {}, link);
}

/** Arrow keys go from one to the next. */
function step(event, popover) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by) return;
  const stops = [...popover.querySelectorAll("input, a, button")].filter((one) => one.checkVisibility());
  const at = stops.indexOf(document.activeElement);
  stops[(at + by + stops.length) % stops.length].focus();
  event.preventDefault();
  event.stopPropagation();
}
