/** What a selection holds, before it is sent. */

import { h } from "../lib/dom.js";
import { number, plural, size } from "../lib/format.js";
import { cut, isURL } from "./selection.js";

const SHOWN_IMAGES = 12;
const SHOWN_ROWS = 5;
const SHOWN_NAMES = 8;
const SHOWN_CHARS = 48; // of a URL

/** Fills `element` with what `selection` holds. */
export function showPreview(element, selection, { collection, busy, onClear }) {
  for (const image of element.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  const { images, archives, items, urls, leftOut, faults } = selection;
  element.hidden = selection.isEmpty && !items.length && !leftOut.size && !faults.length && !busy;
  const count = images.length + urls.length;
  const wrong = items.filter((item) => !isURL(item)).map(({ url }) => url || "(empty)");
  const content = [
    h(
      "header",
      { class: "row between" },
      h("h2", {}, selection.isEmpty ? "Nothing to add yet" : new Intl.ListFormat("en").format(kindsOf(selection))),
      selection.bytes > 0 && h("span", { class: "muted numbers" }, size(selection.bytes)),
    ),
    faults.length > 0 && h("ul", { class: "fault", role: "alert" }, ...faults.map((fault) => h("li", {}, fault))),
    images.length > 0 && thumbnails(images),
    archives.length > 0 && h("p", { class: "archives" }, h("bdi", {}, listed(archives.map(({ path }) => path)))),
    items.length > 0 && table(items),
    wrong.length > 0 && h("p", { class: "fault" }, `${plural(wrong.length, "line")} left out, no URL to fetch: `, h("bdi", {}, listed(wrong))),
    leftOut.size > 0 && leftOutList(leftOut),
    h(
      "div",
      { class: "row" },
      h(
        "button",
        { class: "button primary", type: "submit", disabled: selection.isEmpty || busy },
        busy ? "Reading…" : h("span", { class: "ellipsis" }, `Add ${archives.length || !count ? "these" : plural(count, "picture")} to ${collection}`),
      ),
      h("button", { class: "button quiet", type: "button", onclick: onClear }, "Clear"),
    ),
  ];
  element.replaceChildren(...content.filter(Boolean));
}

/** "3 pictures", "1 archive", "2 URLs": what a selection holds, kind by kind. */
export function kindsOf({ images, archives, urls }) {
  return [
    images.length && plural(images.length, "picture"),
    archives.length && plural(archives.length, "archive"),
    urls.length && plural(urls.length, "URL"),
  ].filter(Boolean);
}

function thumbnails(images) {
  const shown = images.slice(0, SHOWN_IMAGES).map(({ file, path }) => {
    const image = h("img", { src: URL.createObjectURL(file), alt: path, width: "72", height: "72" });
    // A browser does not show every format that the server reads.
    image.addEventListener("error", () => image.replaceWith(h("span", { class: "thumb" }, h("bdi", {}, path))));
    return h("li", { title: path }, image);
  });
  const rest = images.length - shown.length;
  return h("ul", { class: "thumbs" }, ...shown, rest > 0 && h("li", { class: "more muted" }, `+ ${number(rest)}`));
}

function table(items) {
  const rows = items.slice(0, SHOWN_ROWS);
  const names = [...new Set(rows.flatMap(({ metadata }) => Object.keys(metadata)))];
  const hasKeys = rows.some(({ key }) => key);
  const heads = ["URL", ...(hasKeys ? ["key"] : []), ...names];
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "First rows" },
    h(
      "table",
      { class: "table" },
      h("thead", {}, h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, h("bdi", {}, name))))),
      h(
        "tbody",
        {},
        ...rows.map(({ url, key, metadata }) =>
          h("tr", {}, isURL({ url }) ? urlCell(url) : notURL(url), hasKeys && cell(key), ...names.map((name) => cell(metadata[name]))),
        ),
      ),
    ),
    items.length > rows.length && h("p", { class: "muted small" }, `and ${number(items.length - rows.length)} more`),
  );
}

const notURL = (text) => h("td", { class: "fault" }, h("bdi", { title: text }, cut(text, SHOWN_CHARS)), h("strong", {}, " no URL to fetch"));
const urlCell = (url) => h("td", {}, h("bdi", { title: url }, cut(url, SHOWN_CHARS)));
const cell = (value) => h("td", {}, h("bdi", {}, value === undefined ? "" : String(value)));

function leftOutList(leftOut) {
  const all = [...leftOut.values()].reduce((sum, paths) => sum + paths.length, 0);
  return h(
    "details",
    {},
    h("summary", {}, `${plural(all, "file")} left out`),
    h(
      "ul",
      {},
      ...[...leftOut].map(([reason, paths]) => h("li", {}, `${number(paths.length)} ${reason}: `, h("bdi", {}, listed(paths)))),
    ),
  );
}

function listed(paths) {
  const rest = paths.length - SHOWN_NAMES;
  return paths.slice(0, SHOWN_NAMES).join(", ") + (rest > 0 ? ` and ${number(rest)} more` : "");
}
