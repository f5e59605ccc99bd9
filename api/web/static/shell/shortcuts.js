/** The keyboard shortcuts that hold in every view, and the list of all of them. */

import { withCollection } from "../lib/collection.js";
import { h } from "../lib/dom.js";
import { navigate } from "./router.js";

const SHORTCUTS = [
  [["/"], "to the search box"],
  [["←", "→", "↑", "↓"], "from picture to picture"],
  [["Enter"], "open the picture"],
  [["m"], "more like this picture"],
  [["l"], "less like this picture"],
  [["s"], "only pictures similar to this one"],
  [["p"], "search for a part of the open picture"],
  [["x"], "select the picture, or no longer"],
  [["Shift", "←", "→", "↑", "↓"], "select from picture to picture"],
  [["Esc"], "close, leave the selection, or back to the search box"],
  [["g", "s"], "search"],
  [["g", "a"], "add pictures"],
  [["g", "j"], "jobs"],
  [["g", "o"], "sources"],
  [["g", "y"], "system"],
  [["?"], "this list"],
];
const VIEW_KEYS = { s: "/", a: "/ingest", j: "/jobs", o: "/sources", y: "/system" }; // after a g
let isAfterG = false;

export function showShortcuts() {
  if (document.querySelector("dialog[open]")) return;
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
    h("h2", { id: "help-title" }, "Keyboard"),
    h(
      "dl",
      { class: "shortcuts" },
      ...SHORTCUTS.map(([keys, what]) => h("div", {}, h("dt", {}, ...keys.map((key) => h("kbd", {}, key))), h("dd", {}, what))),
    ),
    h(
      "p",
      { class: "muted" },
      "A leading minus takes a word away: ",
      h("kbd", {}, "boat -people"),
      ". The HTTP API is described at ",
      h("a", { href: "/docs" }, "/docs"),
      ".",
    ),
    h("form", { method: "dialog", class: "row end" }, h("button", { class: "button primary", autofocus: true }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}

/** Whether a key press is meant for a field, a dialog or the browser, and so is no shortcut. */
function isTyping(event) {
  return (
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    event.target.closest?.("input, textarea, select, [contenteditable], dialog[open]") != null
  );
}

function onKey(event) {
  if (isTyping(event) || event.defaultPrevented) return;
  if (isAfterG && VIEW_KEYS[event.key]) {
    event.preventDefault();
    event.stopImmediatePropagation();
    navigate(withCollection(VIEW_KEYS[event.key]));
  } else if (event.key === "?") {
    event.preventDefault();
    showShortcuts();
  } else if (event.key === "/" && location.pathname !== "/") {
    event.preventDefault();
    navigate(withCollection("/")).then(() => document.querySelector("input[type=search]")?.focus());
  }
  isAfterG = event.key === "g";
}

addEventListener("keydown", onKey, { capture: true });
