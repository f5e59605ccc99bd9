/** Addresses and views: which view shows which path, and the browser's history. */

import { withCollection } from "../lib/collection.js";
import { h } from "../lib/dom.js";

const VIEWS = [
  { path: /^\/$/, name: "search", title: "Search" },
  { path: /^\/ingest$/, name: "ingest", title: "Add pictures" },
  { path: /^\/jobs(?:\/([^/]+))?$/, name: "jobs", title: "Jobs" },
  { path: /^\/sources$/, name: "sources", title: "Sources" },
  { path: /^\/duplicates$/, name: "duplicates", title: "Near-duplicates" },
  { path: /^\/system$/, name: "system", title: "System" },
];
const NO_PAGE = { path: /^\/.*$/, name: "no_page", title: "No such page" };
/** What is said where a module cannot be had. */
export const NOT_LOADED =
  "This cannot be loaded: the server cannot be reached, or it was updated since this page was opened. Reload the page.";
const container = document.getElementById("main");
const listeners = [];
let shown = null;

/** Calls `listener` whenever an address is shown, the first time included. */
export function onShow(listener) {
  listeners.push(listener);
}

/**
 * Shows an address of this app. `replace` puts it in the place of the present one in the history. An entry's
 * state says `from` which address it was reached.
 */
export function navigate(path, { replace = false } = {}) {
  const url = new URL(path, location.href);
  if (replace) history.replaceState({ from: history.state?.from }, "", url);
  else history.pushState({ from: location.href }, "", url);
  return show();
}

/** Whether an address is one of a view, and so need not be loaded from the server. */
export function isView(url) {
  return url.origin === location.origin && VIEWS.some((view) => view.path.test(url.pathname));
}

/**
 * Shows the view of the present address. A view whose `show` gave back `{update}` is told of other parameters
 * instead of being shown anew.
 */
export async function show() {
  const view = VIEWS.find((candidate) => candidate.path.test(location.pathname)) ?? NO_PAGE;
  const params = new URLSearchParams(location.search);
  const id = view.path.exec(location.pathname)?.[1];
  if (id) params.set("id", decoded(id));
  for (const link of document.querySelectorAll(".brand, .views a")) link.href = withCollection(link.pathname);
  for (const listener of listeners) listener();
  if (shown?.name === view.name && shown.handle?.update) {
    shown.handle.update(params);
    return;
  }
  const isFirst = shown === null;
  shown?.leaving.abort();
  const showing = { name: view.name, leaving: new AbortController(), handle: null };
  shown = showing;
  document.title = `${view.title} · image-search`;
  document.documentElement.dataset.view = view.name;
  for (const link of document.querySelectorAll(".views a")) {
    if (link.dataset.view === view.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  container.replaceChildren();
  const loaded = await load(view.name);
  if (shown !== showing) return;
  scrollTo(0, 0);
  if (!isFirst) container.focus(); // so that Tab goes on there, and screen readers say where one is
  if (loaded) showing.handle = (await loaded.show(container, params, showing.leaving.signal)) ?? null;
  else container.append(notLoaded());
}

/** A view's module, its styles loaded too; null when the server is gone, or has other files since it was updated. */
async function load(name) {
  const styles = [...document.querySelectorAll(`link[data-views~=${name}]`)].filter((link) => link.disabled);
  try {
    const [module] = await Promise.all([import(`../${name}/${name}.js`), ...styles.map(enable)]);
    return module;
  } catch {
    return null;
  }
}

function enable(link) {
  return new Promise((resolve, reject) => {
    link.addEventListener("load", resolve, { once: true });
    link.addEventListener("error", reject, { once: true });
    link.disabled = false;
  });
}

function notLoaded() {
  return h(
    "div",
    { class: "stack", role: "alert" },
    h("p", {}, NOT_LOADED),
    h("div", {}, h("button", { class: "button primary", type: "button", onclick: () => location.reload() }, "Reload the page")),
  );
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("popstate", () => show());
history.scrollRestoration = "manual";
