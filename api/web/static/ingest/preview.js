/** What a selection holds, before it is sent. */

import { h } from "../lib/dom.js";
import { number, plural, size } from "../lib/format.js";
import { leftOutByKind, leftOutText } from "./kinds.js";
import { listView } from "./list_view.js";

const SHOWN_IMAGES = 12;
const SHOWN_NAMES = 8;

/** `element` shows a selection, as `update` gives it; what is in it stays in its place, so that focus does. */
export function previewOf({ onClear, onRemove }) {
  const view = {
    title: h("h2", {}),
    size: h("span", { class: "muted numbers" }),
    thumbs: h("ul", { class: "thumbs", "aria-label": "Pictures" }),
    archives: h("p", { class: "archives" }),
    lists: h("div", { class: "stack" }),
    leftOut: h("details", {}, h("summary", {}), h("ul", {})),
    submit: h("button", { class: "button primary", type: "submit" }),
  };
  const clear = h("button", { class: "button quiet", type: "button", onclick: onClear }, "Clear");
  const element = h(
    "section",
    { class: "card preview", "aria-label": "What will be added", hidden: true },
    h("header", { class: "row between" }, view.title, view.size),
    view.thumbs,
    view.archives,
    view.lists,
    view.leftOut,
    h("div", { class: "row" }, view.submit, clear),
  );
  const lists = new Map();
  let pictured = "";
  let told = null;

  function update(selection, { collection, busy }) {
    const { images, archives, leftOut, isEmpty } = selection;
    const isReading = busy || selection.isReading;
    element.hidden = isEmpty && !selection.lists.length && !leftOut.length && !busy;
    view.title.textContent = isEmpty ? (isReading ? "Reading…" : "Nothing to add yet") : inWords(selection);
    view.size.textContent = selection.bytes ? size(selection.bytes) : "";
    showImages(images);
    view.archives.hidden = !archives.length;
    view.archives.replaceChildren(h("bdi", {}, listed(archives.map(({ path }) => path))));
    showLists(selection.lists);
    if (told !== leftOut) showLeftOut(view.leftOut, leftOut);
    told = leftOut;
    view.submit.disabled = isEmpty || isReading;
    view.submit.replaceChildren(h("span", { class: "ellipsis" }, isReading ? "Reading…" : `Add ${amountOf(selection)} to ${collection}`));
  }

  function showImages(images) {
    const now = images.map(({ path }) => path).join("\n");
    if (now === pictured) return;
    pictured = now;
    for (const image of view.thumbs.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    view.thumbs.replaceChildren(...thumbnails(images));
  }

  function showLists(all) {
    for (const [list, { element: gone }] of lists) {
      if (all.includes(list)) continue;
      gone.remove();
      lists.delete(list);
    }
    for (const list of all) {
      if (lists.has(list)) lists.get(list).update();
      else {
        lists.set(list, listView(list, { onRemove }));
        view.lists.append(lists.get(list).element);
      }
    }
  }

  return { element, update };
}

function inWords(selection) {
  const text = new Intl.ListFormat("en").format(kindsOf(selection));
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** "3 pictures", "1 archive", "2 URLs": what a selection holds, kind by kind. */
export function kindsOf({ images, archives, sendable }) {
  const known = sendable.filter(({ rows }) => rows.count);
  const urls = known.reduce((sum, { rows }) => sum + rows.count, 0);
  const isAll = known.every(({ rows }) => rows.isAll);
  return [
    images.length && plural(images.length, "picture"),
    archives.length && plural(archives.length, "archive"),
    urls && `${isAll ? "" : "at least "}${plural(urls, "URL")}`,
    known.length < sendable.length && plural(sendable.length - known.length, "list"),
  ].filter(Boolean);
}

/** How many pictures a selection may bring, where that is known. */
function amountOf({ images, archives, sendable }) {
  const count = sendable.reduce((sum, { rows }) => sum + rows.count, images.length);
  return archives.length || !count || !sendable.every(({ rows }) => rows.isAll) ? "these" : plural(count, "picture");
}

function thumbnails(images) {
  const shown = images.slice(0, SHOWN_IMAGES).map(({ file, path }) => {
    const image = h("img", { src: URL.createObjectURL(file), alt: path, width: "72", height: "72" });
    // A browser does not show every format that the server reads.
    image.addEventListener("error", () => image.replaceWith(h("span", { class: "thumb" }, h("bdi", {}, path))));
    return h("li", { title: path }, image);
  });
  const rest = images.length - shown.length;
  return [...shown, rest > 0 && h("li", { class: "more muted" }, `+ ${number(rest)}`)].filter(Boolean);
}

function showLeftOut(element, paths) {
  const kinds = leftOutByKind(paths);
  element.hidden = !paths.length;
  element.replaceChildren(
    h("summary", {}, "Left out: ", h("bdi", {}, leftOutText(kinds))),
    h("ul", {}, ...[...kinds].map(([kind, some]) => h("li", {}, `${number(some.length)} `, h("bdi", {}, `${kind}: ${listed(some)}`)))),
  );
}

/** The first few paths, and how many more there are. */
export function listed(paths) {
  const rest = paths.length - SHOWN_NAMES;
  return paths.slice(0, SHOWN_NAMES).join(", ") + (rest > 0 ? ` and ${number(rest)} more` : "");
}
