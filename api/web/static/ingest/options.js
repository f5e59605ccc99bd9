/** What holds for all pictures that are added at once: their collection, their metadata. */

import { h, icon } from "../lib/dom.js";
import { typed } from "./lists.js";

const COLLECTION = "[A-Za-z0-9]([A-Za-z0-9._\\-]{0,61}[A-Za-z0-9])?";
const NAME = "[A-Za-z][A-Za-z0-9_]{0,62}";

/** `element` shows the fields, `read` gives their values, `offer` lists what `/v1/collections` answers. */
export function optionFields(collection) {
  const known = h("datalist", { id: "collections" });
  const name = h("input", {
    class: "field",
    id: "collection",
    value: collection,
    list: "collections",
    required: true,
    pattern: COLLECTION,
    title: "1 to 63 letters, digits, . _ or -; the first and last a letter or digit",
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
      if (field.value) metadata[field.value] = typed(value.value);
    }
    return { collection: name.value, metadata, skipNear: skipNear.checked };
  }

  async function offer(answer) {
    try {
      const { collections } = await answer;
      known.replaceChildren(...collections.map((one) => h("option", { value: one.name })));
    } catch {
      // A key that may only add cannot list them; their names can still be typed.
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
    pattern: NAME,
    title: "A letter, then letters, digits or _",
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
