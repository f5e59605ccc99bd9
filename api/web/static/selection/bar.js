/** The bar under the grid while pictures are selected: how many, and what can be done with all of them. */

import { copyText } from "../lib/clipboard.js";
import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { limits } from "../lib/server.js";
import { webURL } from "../lib/sources.js";
import { deletePictures } from "./changes.js";
import { downloadDialog } from "./download.js";
import { metadataDialog } from "./metadata.js";

/**
 * Shows the bar in the document until the signal. `state()` has the collection, `loadUpTo(most, onLoaded, signal)`
 * loads results and gives back all of them, `isWhole()` says whether they are all that is found, `deleted(ids)` is
 * called after a deletion.
 */
export function createBar(selection, { state, loadUpTo, isWhole, deleted, signal }) {
  const count = h("p", { class: "numbers", role: "status" });
  const all = button("check", "Select all", selectAll);
  const acts = [
    button("tag", "Set metadata", () => metadataDialog(selection.items, state())),
    button("copy", "Copy ids", copyIds),
    button("link", "Copy URLs", copyURLs),
    button("download", "Download", () => downloadDialog(selection.items, state())),
    button("trash", "Delete", remove),
  ];
  acts.at(-1).classList.add("danger");
  const close = h(
    "button",
    { class: "button quiet round", type: "button", "aria-label": "Leave the selection", title: "Leave the selection (Esc)", onclick: () => selection.clear() },
    icon("close"),
  );
  const element = h(
    "section",
    { class: "selection-bar", "aria-label": "Selected pictures" },
    close,
    count,
    all,
    h("div", { class: "selection-acts", role: "group", "aria-label": "With the selected pictures" }, ...acts),
  );
  let loading = null;
  document.body.append(element);
  signal.addEventListener("abort", () => element.remove());

  function paint() {
    element.hidden = !selection.isOn;
    if (element.hidden) loading?.abort();
    if (!loading) say(`${number(selection.size)} selected`);
    for (const act of acts) act.disabled = !selection.size || loading !== null;
  }

  function say(text) {
    if (count.textContent !== text) count.textContent = text;
  }

  /** Loads what is found, page by page, and selects it; the same button stops that. */
  async function selectAll() {
    if (loading) {
      loading.abort();
      return;
    }
    loading = new AbortController();
    label(all, "Stop");
    paint();
    try {
      const most = limits.search_offset; // so many a search can reach
      const results = await loadUpTo(most, (loaded) => say(`Loading: ${number(loaded)}`), AbortSignal.any([loading.signal, signal]));
      selection.add(results.slice(0, most));
      if (!isWhole() || results.length > most) notify(`These are the first ${plural(selection.size, "picture")}, the most at once. Filters narrow the search.`);
    } catch (error) {
      if (!loading.signal.aborted && !signal.aborted) notify(error.message, { kind: "error" });
    } finally {
      loading = null;
      label(all, "Select all");
      paint();
    }
  }

  async function remove() {
    const gone = await deletePictures(selection.items, state());
    if (!gone.length || signal.aborted) return;
    selection.remove(gone);
    deleted(gone);
  }

  function copyIds() {
    copy(selection.items.map(({ id }) => id), "id");
  }

  function copyURLs() {
    const urls = selection.items.map(({ source }) => source).filter(webURL);
    const others = selection.size - urls.length;
    if (!urls.length) notify("These pictures were uploaded as files: they have no URL.", { kind: "error" });
    else copy(urls, "URL", others ? `; ${plural(others, "picture")} came as files, without one` : "");
  }

  async function copy(lines, noun, rest = "") {
    if (await copyText(lines.join("\n"))) notify(`${plural(lines.length, noun)} copied${rest}.`, { kind: "ok" });
    else notify("The browser does not let this page copy: allow it, or open the page by https.", { kind: "error" });
  }

  paint();
  return { paint };
}

function button(iconName, text, onclick) {
  return h("button", { class: "button quiet", type: "button", onclick }, icon(iconName), h("span", {}, text));
}

function label(made, text) {
  made.lastChild.textContent = text;
}
