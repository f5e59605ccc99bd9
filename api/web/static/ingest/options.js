/** The options of an upload, which hold for all that is added at once and for nothing after it. */

import { h, icon } from "../lib/dom.js";
import { inputPattern, limits } from "../lib/server.js";

const NUMBER = /^-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?$/;

/** `element` shows the fields, `read` gives their values, `fill` takes back what `read` gave, or empties them. */
export function optionFields() {
  const skipNear = h("input", { type: "checkbox", id: "skip-near" });
  const rows = h("div", { class: "stack" });
  const add = h("button", { class: "button quiet", type: "button" }, icon("plus"), "Add metadata");
  add.addEventListener("click", () => {
    const row = metadataRow();
    rows.append(row);
    row.querySelector("input").focus();
  });
  const element = h(
    "fieldset",
    { class: "card options" },
    h("legend", { class: "visually-hidden" }, "Options"),
    h("label", { class: "check" }, skipNear, "Skip near-duplicates of pictures that are there"),
    h("div", { class: "stack" }, rows, h("div", {}, add)),
  );

  /** `fields` are the metadata as typed, `metadata` is what they mean. */
  function read() {
    const fields = [...rows.children].map((row) => [...row.querySelectorAll("input")].map(({ value }) => value));
    const metadata = Object.fromEntries(fields.filter(([name]) => name).map(([name, value]) => [name, valueOfText(value)]));
    return { metadata, fields, skipNear: skipNear.checked };
  }

  function fill({ fields = [], skipNear: skips = false } = {}) {
    rows.replaceChildren(...fields.map((texts) => metadataRow(...texts)));
    skipNear.checked = skips;
  }

  return { element, read, fill };
}

function metadataRow(nameText = "", valueText = "") {
  const name = h("input", {
    class: "field",
    placeholder: "name",
    "aria-label": "Metadata name",
    value: nameText,
    pattern: inputPattern(limits.metadata_name.pattern),
    title: limits.metadata_name.rule,
    spellcheck: "false",
    autocomplete: "off",
    onchange: () => (name.value = name.value.trim()),
  });
  const value = h("input", {
    class: "field",
    placeholder: "value",
    "aria-label": "Metadata value",
    value: valueText,
    autocomplete: "off",
  });
  /** A row needs both or, empty, neither: it is left out then. */
  const check = () => {
    name.required = Boolean(value.value);
    value.required = Boolean(name.value);
  };
  const remove = () => {
    const before = row.previousElementSibling?.querySelector("input");
    const next = row.nextElementSibling?.querySelector("input") ?? before ?? row.parentElement.nextElementSibling.firstElementChild;
    row.remove();
    next.focus();
  };
  const row = h(
    "div",
    { class: "metadata-row", oninput: check },
    name,
    value,
    h("button", { class: "button quiet round", type: "button", "aria-label": "Remove this metadata", onclick: remove }, icon("close")),
  );
  check();
  return row;
}

/**
 * A field's value: numbers, true and false become such; "quoted" stays text, and so does what a number's spelling
 * would not survive, such as a leading zero.
 */
function valueOfText(text) {
  if (text.length > 1 && text.startsWith('"') && text.endsWith('"')) return text.slice(1, -1);
  if (text === "true" || text === "false") return text === "true";
  const isNumber = NUMBER.test(text) && Math.abs(Number(text)) <= Number.MAX_SAFE_INTEGER;
  return isNumber ? Number(text) : text;
}
