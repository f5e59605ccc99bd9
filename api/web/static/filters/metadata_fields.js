/** The filters on a collection's own metadata: values to choose from, and a condition to type. */

import { h } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { inputPattern, limits } from "../lib/server.js";
import { OPERATORS } from "./conditions.js";
import { chipToggle, group, toggles } from "./fields.js";

const RANGES = { gt: "gte", gte: "gt", lt: "lte", lte: "lt" }; // each with the one that it replaces
const TYPES = { text: "text", number: "number", boolean: "true or false", texts: "texts" };

/** `set(field, condition)` sets a condition; `sync(state, facets)` shows a state and what there is to filter by. */
export function metadataFields(set) {
  const choices = new Map(); // of a name
  const box = h("div", { class: "choices" });
  const typed = typedCondition(set);
  return {
    element: h("div", { class: "choices" }, box, typed.element),
    sync({ filters }, facets) {
      for (const name of facets.choices) {
        if (!choices.has(name)) choices.set(name, choice(name, set));
        choices.get(name).toggles.show(facets.values[name] ?? [], filters, facets);
      }
      const elements = facets.choices.map((name) => choices.get(name).element);
      if (elements.some((element, place) => box.children[place] !== element) || box.childElementCount > elements.length) {
        box.replaceChildren(...elements);
      }
      typed.sync(filters, facets.metadata);
    },
  };
}

function choice(name, set) {
  const made = toggles(name, set, { className: "row", make: chipToggle });
  return { toggles: made, element: group(name, made.box) };
}

/** A name, a comparison and a value. Names and frequent values are offered while one types; others can be typed. */
function typedCondition(set) {
  let filters = {};
  let names = new Map();
  const offeredNames = h("datalist", { id: "metadata-names" });
  const offeredValues = h("datalist", { id: "metadata-values" });
  const name = h("input", {
    class: "field",
    list: offeredNames.id,
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    placeholder: "name",
    "aria-label": "Metadata name",
    pattern: inputPattern(limits.metadata_name.pattern),
    title: limits.metadata_name.rule,
    required: true,
    oninput: offerValues,
  });
  const operator = h(
    "select",
    { class: "field", "aria-label": "Comparison" },
    ...Object.entries(OPERATORS).map(([value, text]) => h("option", { value }, text)),
  );
  const value = h("input", {
    class: "field",
    list: offeredValues.id,
    autocomplete: "off",
    autocapitalize: "none",
    "aria-label": "Metadata value",
    title: 'Numbers, true and false are taken as such; in "quotes" as text. Several with commas.',
    required: true,
  });
  const form = h(
    "form",
    {
      class: "condition",
      onsubmit: (event) => {
        event.preventDefault();
        const types = names.get(name.value)?.types;
        const read = (text) => valueOfText(text.trim(), types);
        const many = ["in", "nin"].includes(operator.value);
        const given = many ? value.value.split(",").map(read) : read(value.value);
        set(name.value, { ...otherBound(filters[name.value], operator.value), [operator.value]: given });
        form.reset();
        offerValues();
      },
    },
    name,
    operator,
    value,
    h("button", { class: "button" }, "Add"),
    offeredNames,
    offeredValues,
  );

  function offerValues() {
    const known = names.get(name.value);
    const options = (known?.values ?? []).map((one) => h("option", { value: textOf(one.value, known.types), label: `${one.value} · ${number(one.count)}` }));
    offeredValues.replaceChildren(...options);
    value.placeholder = known ? Object.keys(known.types).map((type) => TYPES[type] ?? type).join(" or ") : "value";
  }

  return {
    element: group("Metadata", form),
    sync(shown, metadata) {
      filters = shown;
      names = new Map((metadata?.names ?? []).map((one) => [one.name, one]));
      const options = [...names.values()].map((one) => h("option", { value: one.name, label: `${one.name} · ${plural(one.pictures, "picture")}` }));
      offeredNames.replaceChildren(...options);
      offerValues();
    },
  };
}

/** The bound of a range at its other end, which a new bound leaves. */
function otherBound(condition, operator) {
  if (!(operator in RANGES) || condition === null || typeof condition !== "object") return {};
  const kept = Object.entries(condition).filter(([one]) => one in RANGES && one !== operator && one !== RANGES[operator]);
  return Object.fromEntries(kept);
}

/**
 * A metadata value as typed: a number or truth value where it looks like one, unless the name has texts alone; in
 * quotes it is always text.
 */
function valueOfText(text, types = {}) {
  if (/^".*"$/.test(text)) return text.slice(1, -1);
  const may = (type) => types[type] || !(types.text || types.texts);
  if (text === "true" || text === "false") return may("boolean") ? text === "true" : text;
  return text !== "" && Number.isFinite(Number(text)) && may("number") ? Number(text) : text;
}

const textOf = (value, types) => (valueOfText(String(value), types) === value ? String(value) : `"${value}"`);
