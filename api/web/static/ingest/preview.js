/** What a selection holds, before it is sent. */

import { h } from "../lib/dom.js";
import { number, plural, size } from "../lib/format.js";

const SHOWN_PICTURES = 12;
const SHOWN_ROWS = 5;
const SHOWN_NAMES = 8;

/** Fills `element` with `selection`. */
export function preview(element, selection, { busy, onClear }) {
  for (const picture of element.querySelectorAll("img")) URL.revokeObjectURL(picture.src);
  const { pictures, archives, items, leftOut, faults } = selection;
  element.hidden = selection.isEmpty && !leftOut.size && !faults.length && !busy;
  const count = pictures.length + items.length;
  const content = [
    h(
      "header",
      { class: "row between" },
      h("h2", {}, selection.isEmpty ? "Nothing to add yet" : titleOf(selection)),
      selection.bytes > 0 && h("span", { class: "muted numbers" }, size(selection.bytes)),
    ),
    faults.length > 0 && h("ul", { class: "fault", role: "alert" }, ...faults.map((fault) => h("li", {}, fault))),
    pictures.length > 0 && thumbnails(pictures),
    archives.length > 0 && h("p", { class: "archives" }, h("bdi", {}, listed(archives.map(({ path }) => path)))),
    items.length > 0 && table(items),
    leftOut.size > 0 && leftOutList(leftOut),
    h(
      "div",
      { class: "row" },
      h(
        "button",
        { class: "button primary", type: "submit", disabled: selection.isEmpty || busy },
        busy ? "Reading…" : archives.length || !count ? "Add these" : `Add ${plural(count, "picture")}`,
      ),
      h("button", { class: "button quiet", type: "button", onclick: onClear }, "Clear"),
    ),
  ];
  element.replaceChildren(...content.filter(Boolean));
}

function titleOf({ pictures, archives, items }) {
  const parts = [
    pictures.length && plural(pictures.length, "picture"),
    archives.length && plural(archives.length, "archive"),
    items.length && plural(items.length, "URL"),
  ].filter(Boolean);
  return new Intl.ListFormat("en").format(parts);
}

function thumbnails(pictures) {
  const shown = pictures.slice(0, SHOWN_PICTURES).map(({ file, path }) => {
    const picture = h("img", { src: URL.createObjectURL(file), alt: path, width: "72", height: "72" });
    // A browser does not show every format that the server reads.
    picture.addEventListener("error", () => picture.replaceWith(h("span", { class: "thumb" }, h("bdi", {}, path))));
    return h("li", { title: path }, picture);
  });
  const rest = pictures.length - shown.length;
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
          h("tr", {}, cell(url), hasKeys && cell(key), ...names.map((name) => cell(metadata[name]))),
        ),
      ),
    ),
    items.length > rows.length && h("p", { class: "muted small" }, `and ${number(items.length - rows.length)} more`),
  );
}

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
