/** What was changed or left out of what a job is made of, in sentences. */

import { h } from "../lib/dom.js";
import { plural, quoted } from "../lib/format.js";

const SHOWN = 5;
const COUNTED = { values_left_out: "value", values_as_text: "value", text_replaced: "text", rows_skipped: "row" };

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
  const text = code === "files_skipped" ? `${plural(count, "file")} left out: ${detail}` : detail;
  const noun = COUNTED[code];
  return h("li", {}, h("bdi", {}, quoted(text)), noun && h("span", { class: "muted" }, ` (${plural(count, noun)})`));
}
