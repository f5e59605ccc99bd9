/** The dialog that sets metadata of all selected pictures: names with values, and names to remove. */

import { h, icon } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { inputPattern, limits } from "../lib/server.js";
import { collectionPath } from "../search/query.js";
import { forgetResults } from "../search/results.js";
import { changeEach } from "./changes.js";
import { readRecords } from "./records.js";

const SAMPLE = 50; // of the pictures: whose names are offered, and whose kinds of values are looked at
const NUMBER = /^-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;
// Name of a kind: what it is called, and the value of a text; undefined for what is none.
const KINDS = {
  text: ["text", (text) => text],
  number: ["number", (text) => (NUMBER.test(text.trim()) ? Number(text) : undefined)],
  boolean: ["true or false", (text) => ({ true: true, false: false })[text.trim().toLowerCase()]],
  list: ["list, by commas", (text) => text.split(",").map((one) => one.trim()).filter(Boolean)],
  remove: ["remove the name", () => null],
};

export function metadataDialog(items, state) {
  const leaving = new AbortController();
  const known = new Map(); // name → kinds of value that it has, of the sample
  const names = h("datalist", { id: "selected-names" });
  const rows = h("div", { class: "stack" });
  const row = () => metadataRow(known, () => rows.childElementCount > 1);
  const dialog = h(
    "dialog",
    { class: "dialog metadata-dialog", "aria-labelledby": "metadata-title", onclose },
    h("h2", { id: "metadata-title" }, `Metadata of ${plural(items.length, "picture")}`),
    h("p", { class: "muted small" }, "A value takes the place of the one that a picture has under the name. Other names stay."),
    h(
      "form",
      { method: "dialog", class: "stack" },
      rows,
      names,
      h("div", {}, h("button", { class: "button quiet", type: "button", onclick: () => rows.append(row()) }, icon("plus"), "Another name")),
      h(
        "div",
        { class: "row end" },
        h("button", { class: "button", type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { class: "button primary", value: "set" }, `Set in ${number(items.length)}`),
      ),
    ),
  );
  // Only then does the focus lie where the next dialog gives it back to.
  function onclose() {
    leaving.abort();
    dialog.remove();
    if (dialog.returnValue === "set") apply([...rows.children].map((one) => one.read()), items, state);
  }

  rows.append(row());
  document.body.append(dialog);
  dialog.showModal();
  readRecords(items.slice(0, SAMPLE), state, { signal: leaving.signal }).then(
    (records) => {
      for (const [name, value] of records.flatMap(({ metadata }) => Object.entries(metadata))) {
        known.set(name, (known.get(name) ?? new Set()).add(kindOf(value)));
      }
      names.replaceChildren(...[...known.keys()].sort().map((name) => h("option", { value: name })));
      for (const one of rows.children) one.look();
    },
    () => {}, // names can still be typed
  );
}

async function apply(entries, items, state) {
  const metadata = Object.fromEntries(entries);
  const count = plural(items.length, "picture");
  const { done } = await changeEach(items, {
    title: `Setting metadata of ${count}`,
    did: "changed",
    change: ({ id }) => api(collectionPath(`/v1/images/${id}`, state), { method: "PATCH", body: { metadata } }),
  });
  if (done.length) forgetResults();
}

function metadataRow(known, mayGo) {
  const name = h("input", {
    class: "field",
    placeholder: "name",
    "aria-label": "Metadata name",
    list: "selected-names",
    required: true,
    pattern: inputPattern(limits.metadata_name.pattern),
    title: limits.metadata_name.rule,
    spellcheck: "false",
    autocomplete: "off",
  });
  const kind = h("select", { class: "field", "aria-label": "Kind of value" }, ...Object.entries(KINDS).map(([key, [text]]) => h("option", { value: key }, text)));
  const value = h("input", { class: "field", placeholder: "value", "aria-label": "Metadata value", autocomplete: "off" });
  const note = h("p", { class: "muted small", role: "status" });
  const remove = h("button", { class: "button quiet round", type: "button", "aria-label": "Leave this name out" }, icon("close"));
  const row = h("div", { class: "metadata-edit" }, name, kind, value, remove, note);
  let isChosen = false; // the kind, by the visitor: then it stays

  /** Takes the kind that the name's values have already, else the one that the value looks like. */
  row.look = () => {
    const kinds = [...(known.get(name.value) ?? [])];
    if (!isChosen) kind.value = kinds.length ? kinds[0] : guess(value.value);
    value.hidden = kind.value === "remove";
    value.required = !value.hidden && kind.value !== "text";
    const others = kinds.filter((one) => one !== kind.value);
    const isWrong = KINDS[kind.value][1](value.value) === undefined;
    value.setCustomValidity(isWrong && value.value ? `This is no ${KINDS[kind.value][0]}: choose another kind, or correct it.` : "");
    note.textContent = others.length && kind.value !== "remove" ? clash(name.value, kinds, kind.value) : "";
  };
  row.read = () => [name.value, KINDS[kind.value][1](value.value)];
  row.addEventListener("input", ({ target }) => {
    isChosen ||= target === kind;
    row.look();
  });
  remove.addEventListener("click", () => {
    if (!mayGo()) return;
    const next = (row.nextElementSibling ?? row.previousElementSibling).querySelector("input");
    row.remove();
    next.focus();
  });
  queueMicrotask(() => name.focus());
  return row;
}

const guess = (text) => ["number", "boolean"].find((kind) => KINDS[kind][1](text) !== undefined) ?? "text";

function kindOf(value) {
  return Array.isArray(value) ? "list" : typeof value === "string" ? "text" : typeof value;
}

/** What becomes of values of other kinds: filters tell the number 7 from the text “7”. */
function clash(name, kinds, chosen) {
  const now = kinds.map((kind) => KINDS[kind][0]).join(" in some and ");
  return `“${name}” is now a ${now}${kinds.length > 1 ? " in others" : ""}; it becomes a ${KINDS[chosen][0]} in all.`;
}
