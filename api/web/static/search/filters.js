/** The filters of a query: the panel that sets them and the words that describe them. */

import { h, icon, notify } from "../lib/dom.js";

const COLORS = ["black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"];
const OPERATORS = { eq: "=", ne: "≠", gte: "≥", lte: "≤", gt: ">", lt: "<", in: "one of", nin: "none of" };
const MOST_TAGS = 24;
const DAY_MS = 86_400_000;

/** `filters` with a field's condition changed; `undefined` takes it away. */
export function withCondition(filters, field, condition) {
  const { [field]: _, ...others } = filters;
  return condition === undefined ? others : { ...others, [field]: condition };
}

/** Each condition as `{field, text}`, for people. */
export function describe(filters) {
  return Object.entries(filters).map(([field, condition]) => ({ field, text: sentence(field, condition) }));
}

function sentence(field, condition) {
  const isObject = condition !== null && typeof condition === "object" && !Array.isArray(condition);
  if (field === "near" && isObject) {
    return `within ${condition.radius_km} km of ${condition.lat}, ${condition.lon}`;
  }
  if (field === "taken_at" && isObject && (condition.gte || condition.lt)) {
    const to = condition.lt && lastDay(condition.lt);
    return `taken ${[condition.gte && `from ${condition.gte}`, to && `until ${to}`].filter(Boolean).join(" ")}`;
  }
  if (["tags", "colors"].includes(field) && Array.isArray(condition?.in)) {
    return `${field === "tags" ? "tag" : "colour"} ${condition.in.join(" or ")}`;
  }
  if (!isObject || ["and", "or", "not"].includes(field)) {
    return isObject || Array.isArray(condition) ? `${field} ${JSON.stringify(condition)}` : `${field} = ${condition}`;
  }
  return Object.entries(condition)
    .map(([operator, value]) => `${field} ${OPERATORS[operator] ?? operator} ${[value].flat().join(", ")}`)
    .join(", ");
}

const shifted = (date, days) => new Date(Date.parse(date) + days * DAY_MS).toISOString().slice(0, 10);
/** The last whole day before `lt`; as it is where that is not a date alone. */
const lastDay = (lt) => (/^\d{4}-\d\d-\d\d$/.test(lt) ? shifted(lt, -1) : lt);

/** A metadata value as typed: a number or truth value where it looks like one; in quotes it is always text. */
function typed(text) {
  if (/^".*"$/.test(text)) return text.slice(1, -1);
  if (text === "true" || text === "false") return text === "true";
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

/**
 * The panel. `change(patch)` is called with what of the state is to be different. `sync(state, tags)` shows a
 * state and the tags to choose from; `collections` are names.
 */
export function createFilters({ change }) {
  let filters = {};
  const set = (field, condition) => change({ filters: withCondition(filters, field, condition) });
  const parts = [
    dates(set),
    tagChoice(set),
    colorChoice(set),
    sizes((field, least) => set(field, least)),
    place(set),
    explicit(set),
    metadata((name, condition) => set(name, condition)),
    confident(change),
    collectionChoice(change),
  ];
  const close = h(
    "button",
    { class: "button quiet round", type: "button", "aria-label": "Close the filters", onclick: () => element.close() },
    icon("close"),
  );
  const clear = h(
    "button",
    { class: "button quiet", type: "button", onclick: () => change({ filters: {}, sure: false }) },
    "Clear all",
  );
  const element = h(
    "dialog",
    { class: "filters", id: "filters", "aria-labelledby": "filters-title" },
    h("div", { class: "row filters-head" }, h("h2", { id: "filters-title" }, "Filters"), clear, close),
    ...parts.map((part) => part.element),
  );
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape") element.close();
  });
  element.addEventListener("input", (event) => (edited = event.target), { capture: true });
  for (const end of ["change", "focusout"]) {
    element.addEventListener(end, () => (edited = null), { capture: true });
  }
  return {
    element,
    sync(state, tags, collections) {
      filters = state.filters;
      for (const part of parts) part.sync(state, tags, collections);
    },
  };
}

let edited = null; // what somebody is typing into: an answer that arrives meanwhile leaves it alone

function assign(input, value) {
  if (input !== edited) input.value = value;
}

function group(title, ...children) {
  return h("fieldset", { class: "filter" }, h("legend", {}, title), ...children);
}

function dates(set) {
  const from = h("input", { class: "field", type: "date" });
  const to = h("input", { class: "field", type: "date" });
  const changed = () => {
    const bounds = { ...(from.value && { gte: from.value }), ...(to.value && { lt: shifted(to.value, 1) }) };
    set("taken_at", Object.keys(bounds).length ? bounds : undefined);
  };
  for (const input of [from, to]) input.addEventListener("change", changed);
  return {
    element: group("Taken", h("div", { class: "span" }, h("label", {}, "From", from), h("label", {}, "Until", to))),
    sync({ filters }) {
      assign(from, filters.taken_at?.gte ?? "");
      assign(to, filters.taken_at?.lt ? lastDay(filters.taken_at.lt) : "");
    },
  };
}

/** Buttons that are pressed or not; what is pressed is `field in [...]`. */
function toggles(field, set, { className, look }) {
  const box = h("div", { class: className });
  let chosen = [];
  const toggle = (value) => {
    const next = chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value];
    set(field, next.length ? { in: next } : undefined);
  };
  const buttons = new Map();
  return {
    box,
    show(values, filters) {
      chosen = filters[field]?.in ?? (typeof filters[field] === "string" ? [filters[field]] : []);
      const all = [...new Set([...values, ...chosen])];
      if (all.join("\n") !== [...buttons.keys()].join("\n")) {
        buttons.clear();
        for (const value of all) buttons.set(value, look(value, () => toggle(value)));
        box.replaceChildren(...buttons.values());
      }
      for (const [value, button] of buttons) button.setAttribute("aria-pressed", chosen.includes(value));
    },
  };
}

function tagChoice(set) {
  const choice = toggles("tags", set, {
    className: "row",
    look: (tag, onclick) => h("button", { class: "chip toggle", type: "button", onclick }, tag),
  });
  const element = group("Tags", choice.box);
  return {
    element,
    sync({ filters }, tags) {
      choice.show(tags.slice(0, MOST_TAGS), filters);
      element.hidden = !choice.box.childElementCount;
    },
  };
}

function colorChoice(set) {
  const choice = toggles("colors", set, {
    className: "swatches",
    look: (color, onclick) =>
      h("button", { class: `swatch ${color}`, type: "button", "aria-label": color, title: color, onclick }),
  });
  return { element: group("Colours", choice.box), sync: ({ filters }) => choice.show(COLORS, filters) };
}

function sizes(set) {
  const inputs = ["width", "height"].map((field) => {
    const input = h("input", {
      class: "field",
      type: "number",
      min: 1,
      step: 1,
      inputmode: "numeric",
      placeholder: field,
      "aria-label": `Least ${field} in pixels`,
      onchange: () => set(field, input.value ? { gte: Number(input.value) } : undefined),
    });
    return [field, input];
  });
  return {
    element: group("At least, in pixels", h("div", { class: "pair" }, ...inputs.map(([, input]) => input))),
    sync({ filters }) {
      for (const [field, input] of inputs) assign(input, filters[field]?.gte ?? "");
    },
  };
}

function place(set) {
  const number = (label, min, max) =>
    h("input", { class: "field", type: "number", step: "any", min, max, placeholder: label, "aria-label": label });
  const lat = number("Latitude", -90, 90);
  const lon = number("Longitude", -180, 180);
  const radius = number("Radius in km", 0, 20_000);
  const inputs = [lat, lon, radius];
  const changed = () => {
    const [latitude, longitude, km] = inputs.map((input) => input.value);
    if (!latitude && !longitude) set("near", undefined);
    else if (latitude && longitude && inputs.every((input) => input.validity.valid)) {
      set("near", { lat: Number(latitude), lon: Number(longitude), radius_km: Number(km || 5) });
    }
  };
  for (const input of inputs) input.addEventListener("change", changed);
  const locate = () =>
    navigator.geolocation?.getCurrentPosition(
      ({ coords }) => {
        lat.value = coords.latitude.toFixed(4);
        lon.value = coords.longitude.toFixed(4);
        changed();
      },
      (error) => notify(`Your position is not to be had: ${error.message || "it was refused"}.`, { kind: "error" }),
    );
  return {
    element: group(
      "Near",
      h("div", { class: "pair" }, lat, lon),
      radius,
      "geolocation" in navigator &&
        h("button", { class: "button", type: "button", onclick: locate }, icon("place"), "Use my position"),
    ),
    sync({ filters }) {
      assign(lat, filters.near?.lat ?? "");
      assign(lon, filters.near?.lon ?? "");
      assign(radius, filters.near?.radius_km ?? "");
    },
  };
}

function explicit(set) {
  const shown = h("output", { class: "muted small numbers" });
  const name = () => (Number(range.value) === 1 ? "any" : `at most ${range.value}`);
  const range = h("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    "aria-label": "Explicit (nsfw), at most",
    oninput: () => shown.replaceChildren(name()),
    onchange: () => set("nsfw", Number(range.value) === 1 ? undefined : { lte: Number(range.value) }),
  });
  return {
    element: group("Explicit", h("div", { class: "row" }, range, shown)),
    sync({ filters }) {
      range.value = filters.nsfw?.lte ?? 1;
      shown.replaceChildren(name());
    },
  };
}

function metadata(set) {
  const name = h("input", {
    class: "field",
    placeholder: "name",
    "aria-label": "Metadata name",
    pattern: "[A-Za-z][A-Za-z0-9_]{0,62}",
    title: "A letter, then letters, digits and _",
    required: true,
  });
  const operator = h(
    "select",
    { class: "field", "aria-label": "Comparison" },
    ...Object.entries(OPERATORS).map(([value, text]) => h("option", { value }, text)),
  );
  const value = h("input", {
    class: "field",
    placeholder: "value",
    "aria-label": "Metadata value",
    title: 'Numbers, true and false are taken as such; in "quotes" as text. Several with commas.',
    required: true,
  });
  const form = h(
    "form",
    {
      class: "triple",
      onsubmit: (event) => {
        event.preventDefault();
        const many = ["in", "nin"].includes(operator.value);
        const given = many ? value.value.split(",").map((one) => typed(one.trim())) : typed(value.value.trim());
        set(name.value, { [operator.value]: given });
        form.reset();
      },
    },
    name,
    operator,
    value,
    h("button", { class: "button" }, "Add"),
  );
  return { element: group("Metadata", form), sync() {} };
}

function confident(change) {
  const box = h("input", { type: "checkbox", onchange: () => change({ sure: box.checked }) });
  return {
    element: group("Results", h("label", { class: "check" }, box, "Only what surely fits")),
    sync({ sure }) {
      box.checked = sure;
    },
  };
}

function collectionChoice(change) {
  const select = h("select", {
    class: "field",
    "aria-label": "Collection",
    // Ids of pictures mean nothing in another collection.
    onchange: () => change({ collection: select.value, more: [], less: [] }),
  });
  const element = group("Collection", select);
  return {
    element,
    sync({ collection }, _tags, collections) {
      const names = [...new Set([...collections, collection])];
      select.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
      select.value = collection;
      element.hidden = names.length < 2;
    },
  };
}
