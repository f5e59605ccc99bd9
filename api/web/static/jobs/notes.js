/** What was changed or left out of what a job is made of, in sentences. */

import { h } from "../lib/dom.js";
import { number, plural, quoted } from "../lib/format.js";

const SHOWN = 5;
const WHAT = {
  column_renamed: ["column", "renamed"],
  columns_left_out: ["column", "left out"],
  values_left_out: ["value", "left out"],
  values_as_text: ["value", "kept as text"],
  text_replaced: ["text", "mended"],
  rows_skipped: ["row", "skipped"],
  files_skipped: ["file", "left out"],
};

/** As elements: the first few, the others behind a disclosure. A server of an earlier version says nothing of them. */
export function notesList(notes = []) {
  const list = (some) => h("ul", { class: "notes small" }, ...some.map(line));
  const rest = notes.slice(SHOWN);
  return [
    notes.length > 0 && list(notes.slice(0, SHOWN)),
    rest.length > 0 && h("details", {}, h("summary", {}, `${plural(rest.length, "more note")}`), list(rest)),
  ].filter(Boolean);
}

function line({ code, detail, count }) {
  const [noun, verb] = WHAT[code] ?? [];
  const what = noun ? `${plural(count, noun)} ${verb}` : number(count);
  return h("li", {}, h("strong", {}, `${what}: `), h("bdi", {}, quoted(detail)));
}
