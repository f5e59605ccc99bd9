/** The shell around the views: links, theme, sign-in and the help on shortcuts. */

import { h, icon } from "./lib/dom.js";
import { hasKey, needsKey, onKeyChange, signIn, signOut } from "./lib/http.js";
import { isView, navigate, show } from "./lib/router.js";

export { navigate };

const THEMES = ["auto", "light", "dark"];
const SHORTCUTS = [
  ["/", "to the search box"],
  ["← → ↑ ↓", "from picture to picture"],
  ["Enter", "open the picture"],
  ["m", "more like this picture"],
  ["l", "less like this picture"],
  ["s", "only pictures similar to this one"],
  ["Esc", "close, or back to the search box"],
  ["g s  g a  g j  g y", "search, add pictures, jobs, system"],
  ["?", "this list"],
];
const GO = { s: "/", a: "/ingest", j: "/jobs", y: "/system" };

function themeButton() {
  const button = h("button", { class: "button quiet round", type: "button" });
  const paint = () => {
    const theme = document.documentElement.dataset.theme ?? "auto";
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    button.replaceChildren(icon(theme === "auto" ? "half" : theme === "light" ? "sun" : "moon"));
    button.setAttribute("aria-label", `Theme: ${theme}. Change to ${next}`);
    button.title = `Theme: ${theme}`;
    return next;
  };
  button.addEventListener("click", () => {
    const next = paint();
    if (next === "auto") {
      localStorage.removeItem("theme");
      delete document.documentElement.dataset.theme;
    } else {
      localStorage.setItem("theme", next);
      document.documentElement.dataset.theme = next;
    }
    paint();
  });
  paint();
  return button;
}

function keyButton() {
  const button = h("button", { class: "button quiet", type: "button" });
  const paint = () => {
    button.hidden = !hasKey() && !needsKey();
    button.textContent = hasKey() ? "Sign out" : "Sign in";
  };
  button.addEventListener("click", async () => {
    if (hasKey()) signOut();
    else if (!(await signIn())) return;
    location.reload();
  });
  onKeyChange(paint);
  paint();
  return button;
}

function showHelp() {
  if (document.querySelector("dialog[open]")) return;
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
    h("h2", { id: "help-title" }, "Keyboard"),
    h(
      "dl",
      { class: "shortcuts" },
      ...SHORTCUTS.map(([keys, what]) => h("div", {}, h("dt", {}, h("kbd", {}, keys)), h("dd", {}, what))),
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
export function isTyping(event) {
  return (
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    event.target.closest?.("input, textarea, select, [contenteditable], dialog[open]") != null
  );
}

let goes = false;

function onKey(event) {
  if (isTyping(event) || event.defaultPrevented) return;
  if (goes && GO[event.key]) {
    event.preventDefault();
    event.stopImmediatePropagation();
    navigate(GO[event.key]);
  } else if (event.key === "?") {
    event.preventDefault();
    showHelp();
  } else if (event.key === "/" && location.pathname !== "/") {
    event.preventDefault();
    navigate("/").then(() => document.querySelector("input[type=search]")?.focus());
  }
  goes = event.key === "g";
}

function onClick(event) {
  const link = event.target.closest?.("a[href]");
  const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || event.defaultPrevented || link.target || link.hasAttribute("download")) return;
  const url = new URL(link.href);
  if (!isView(url) || (url.hash && url.pathname === location.pathname)) return;
  event.preventDefault();
  navigate(url.href);
}

document.getElementById("tools").append(
  keyButton(),
  h(
    "button",
    {
      class: "button quiet round help",
      type: "button",
      "aria-label": "Keyboard shortcuts",
      title: "Keyboard shortcuts (?)",
      onclick: showHelp,
    },
    icon("keyboard"),
  ),
  themeButton(),
);
addEventListener("click", onClick);
addEventListener("keydown", onKey, { capture: true });
show();
