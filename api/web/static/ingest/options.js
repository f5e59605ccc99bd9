/** The options of an upload, which hold for all that is added at once: collection, metadata, near-duplicates. */

import { h, icon } from "../lib/dom.js";
import { inputPattern, limits } from "../lib/server.js";
import { valueOfText } from "./lists.js";

/** `element` shows the fields, `read` gives their values, `offer` suggests what `/v1/collections` answers. */
export function optionFields(collection) {
  const known = h("datalist", { id: "collections" });
  const name = h("input", {
    class: "field",
    id: "collection",
    value: collection,
    list: "collections",
    required: true,
    pattern: inputPattern(limits.collection_name.pattern),
    title: limits.collection_name.rule,
    autocomplete: "off",
    spellcheck: "false",
  });
  const skipNear = h("input", { type: "checkbox", id: "skip-near" });
  const rows = h("div", { class: "stack" });
  const add = h(
    "button",
    { class: "button quiet", type: "button", onclick: () => rows.append(metadataRow()) },
    icon("plus"),
    "Add metadata",
  );
  const element = h(
    "fieldset",
    { class: "card options" },
    h("legend", { class: "visually-hidden" }, "Options"),
    h("div", { class: "stack" }, h("label", { for: "collection" }, "Collection, an existing or a new one"), name, known),
    h("label", { class: "check" }, skipNear, "Skip near-duplicates of pictures that are there"),
    h("div", { class: "stack" }, rows, h("div", {}, add)),
  );

  function read() {
    const metadata = {};
    for (const row of rows.children) {
      const [field, value] = row.querySelectorAll("input");
      if (field.value) metadata[field.value] = valueOfText(value.value);
    }
    return { collection: name.value, metadata, skipNear: skipNear.checked };
  }

  async function offer(answer) {
    try {
      const { collections } = await answer;
      known.replaceChildren(...collections.map((one) => h("option", { value: one.name })));
    } catch {
      // A key that may only add cannot list them; a name can still be typed.
    }
  }

  return { element, read, offer };
}

function metadataRow() {
  const name = h("input", {
    class: "field",
    placeholder: "name",
    "aria-label": "Metadata name",
    required: true,
    pattern: inputPattern(limits.metadata_name.pattern),
    title: limits.metadata_name.rule,
    spellcheck: "false",
    autocomplete: "off",
  });
  const remove = () => {
    const before = row.previousElementSibling?.querySelector("input");
    const next = row.nextElementSibling?.querySelector("input") ?? before ?? row.parentElement.nextElementSibling.firstElementChild;
    row.remove();
    next.focus();
  };
  const row = h(
    "div",
    { class: "metadata-row" },
    name,
    h("input", { class: "field", placeholder: "value", "aria-label": "Metadata value", required: true, autocomplete: "off" }),
    h("button", { class: "button quiet round", type: "button", "aria-label": "Remove this metadata", onclick: remove }, icon("close")),
  );
  queueMicrotask(() => name.focus());
  return row;
}
