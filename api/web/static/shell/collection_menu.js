/** The header's menu: which collection is shown, which others there are, and a new one. */

import { collectionOf } from "../lib/collection.js";
import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { NOT_LOADED, onShow } from "./router.js";

/** The button and what it opens, which is loaded and asked for only then. */
export function collectionMenu() {
  const name = h("span", { class: "ellipsis" });
  const popover = h("div", { class: "menu", id: "collection-menu", popover: "auto", "aria-label": "Collections", role: "dialog" });
  const button = h(
    "button",
    { class: "button quiet collection", type: "button", popovertarget: "collection-menu" },
    icon("collection"),
    h("span", { class: "visually-hidden" }, "Collection: "),
    name,
    icon("down"),
  );
  popover.addEventListener("beforetoggle", async ({ newState }) => {
    if (newState !== "open") return;
    const { right } = button.getBoundingClientRect();
    popover.style.setProperty("--right", `${document.documentElement.clientWidth - right}px`);
    try {
      (await import("./collection_list.js")).showCollections(popover, button);
    } catch {
      notify(NOT_LOADED, { kind: "error" });
    }
  });
  onShow(() => {
    name.textContent = collectionOf();
    button.title = `Collection: ${collectionOf()}`;
    popover.hidePopover();
  });
  return [button, popover];
}
