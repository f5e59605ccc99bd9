/** A table that becomes a list of cards on phones, where each cell says what it is. */

import { h } from "../lib/dom.js";

/** `rows` are lists of what stands in each cell: an element, a text, or several. */
export function table(heads, rows) {
  const cells = (values) =>
    values.map((value, column) => h("td", { dataset: { head: heads[column] } }, ...[value].flat().filter(Boolean)));
  return h(
    "table",
    { class: "table" },
    h("thead", {}, h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...rows.map((values) => h("tr", {}, ...cells(values)))),
  );
}
