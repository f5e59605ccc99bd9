/** The shell around the views: links, theme and sign-in. */

import { hasKey, needsKey, onKeyChange, storeKey } from "../lib/api_key.js";
import { h, icon } from "../lib/dom.js";
import { signIn } from "../lib/sign_in.js";
import { collectionMenu } from "./collection_menu.js";
import { isView, navigate, show } from "./router.js";
import { showShortcuts } from "./shortcuts.js";

const THEMES = ["auto", "light", "dark"];

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
    if (hasKey()) storeKey(null);
    else if (!(await signIn())) return;
    location.reload();
  });
  onKeyChange(paint);
  paint();
  return button;
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
  ...collectionMenu(),
  h("a", { class: "button quiet api", href: "/docs", title: "The HTTP API" }, "API"),
  keyButton(),
  h(
    "button",
    {
      class: "button quiet round help",
      type: "button",
      "aria-label": "Keyboard shortcuts",
      title: "Keyboard shortcuts (?)",
      onclick: showShortcuts,
    },
    icon("keyboard"),
  ),
  themeButton(),
);
addEventListener("click", onClick);
show();
