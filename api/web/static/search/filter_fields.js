/** The groups of fields in the filter panel: each has its `element`, and `sync` shows what a state has of it. */

import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { inputPattern, limits } from "../lib/server.js";
import { OPERATORS, lastDay, shiftDate } from "./conditions.js";

const MAX_TAGS = 24;
const NEAR_KM = 5;
const FARTHEST_KM = 20_000; // half-way around the earth

let edited = null; // what somebody is typing into: an answer that arrives meanwhile leaves it alone

/** Has the fields in `panel` left alone while somebody types into one. */
export function watchTyping(panel) {
  panel.addEventListener("input", (event) => (edited = event.target), { capture: true });
  for (const end of ["change", "focusout"]) {
    panel.addEventListener(end, () => (edited = null), { capture: true });
  }
}

function show(input, value) {
  if (input !== edited) input.value = value;
}

function group(title, ...children) {
  return h("fieldset", { class: "filter" }, h("legend", {}, title), ...children);
}

export function dateRange(set) {
  const from = h("input", { class: "field", type: "date" });
  const to = h("input", { class: "field", type: "date" });
  const changed = () => {
    const bounds = { ...(from.value && { gte: from.value }), ...(to.value && { lt: shiftDate(to.value, 1) }) };
    set("taken_at", Object.keys(bounds).length ? bounds : undefined);
  };
  for (const input of [from, to]) input.addEventListener("change", changed);
  return {
    element: group("Taken", h("div", { class: "date-range" }, h("label", {}, "From", from), h("label", {}, "Until", to))),
    sync({ filters }) {
      show(from, filters.taken_at?.gte ?? "");
      show(to, filters.taken_at?.lt ? lastDay(filters.taken_at.lt) : "");
    },
  };
}

/** Buttons that are pressed or not; what is pressed is `field in [...]`. */
function toggles(field, set, { className, make }) {
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
        for (const value of all) buttons.set(value, make(value, () => toggle(value)));
        box.replaceChildren(...buttons.values());
      }
      for (const [value, button] of buttons) button.setAttribute("aria-pressed", chosen.includes(value));
    },
  };
}

export function tagChoice(set) {
  const choice = toggles("tags", set, {
    className: "row",
    make: (tag, onclick) => h("button", { class: "chip toggle", type: "button", onclick }, tag),
  });
  const element = group("Tags", choice.box);
  return {
    element,
    sync({ filters }, tags) {
      choice.show(tags.slice(0, MAX_TAGS), filters);
      element.hidden = !choice.box.childElementCount;
    },
  };
}

export function colorChoice(set) {
  const choice = toggles("colors", set, {
    className: "swatches",
    make: (color, onclick) =>
      h("button", { class: `swatch ${color}`, type: "button", "aria-label": color, title: color, onclick }),
  });
  return { element: group("Colours", choice.box), sync: ({ filters }) => choice.show(limits.colors, filters) };
}

export function minimumSize(set) {
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
    element: group("At least, in pixels", h("div", { class: "two-columns" }, ...inputs.map(([, input]) => input))),
    sync({ filters }) {
      for (const [field, input] of inputs) show(input, filters[field]?.gte ?? "");
    },
  };
}

export function nearPlace(set) {
  const number = (label, min, max) =>
    h("input", { class: "field", type: "number", step: "any", min, max, placeholder: label, "aria-label": label });
  const lat = number("Latitude", ...limits.latitude);
  const lon = number("Longitude", ...limits.longitude);
  const radius = number("Radius in km", 0, FARTHEST_KM);
  const inputs = [lat, lon, radius];
  const changed = () => {
    const [latitude, longitude, km] = inputs.map((input) => input.value);
    if (!latitude && !longitude) set("near", undefined);
    else if (latitude && longitude && inputs.every((input) => input.validity.valid)) {
      set("near", { lat: Number(latitude), lon: Number(longitude), radius_km: Number(km || NEAR_KM) });
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
      h("div", { class: "two-columns" }, lat, lon),
      radius,
      "geolocation" in navigator &&
        h("button", { class: "button", type: "button", onclick: locate }, icon("place"), "Use my position"),
    ),
    sync({ filters }) {
      show(lat, filters.near?.lat ?? "");
      show(lon, filters.near?.lon ?? "");
      show(radius, filters.near?.radius_km ?? "");
    },
  };
}

export function maximumNsfw(set) {
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

/** A metadata value as typed: a number or truth value where it looks like one; in quotes it is always text. */
function valueOfText(text) {
  if (/^".*"$/.test(text)) return text.slice(1, -1);
  if (text === "true" || text === "false") return text === "true";
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

export function metadataCondition(set) {
  const name = h("input", {
    class: "field",
    placeholder: "name",
    "aria-label": "Metadata name",
    pattern: inputPattern(limits.metadata_name.pattern),
    title: limits.metadata_name.rule,
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
      class: "condition",
      onsubmit: (event) => {
        event.preventDefault();
        const many = ["in", "nin"].includes(operator.value);
        const given = many ? value.value.split(",").map((one) => valueOfText(one.trim())) : valueOfText(value.value.trim());
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

export function confidence(change) {
  const box = h("input", { type: "checkbox", onchange: () => change({ sure: box.checked }) });
  return {
    element: group("Results", h("label", { class: "check" }, box, "Only what surely fits")),
    sync({ sure }) {
      box.checked = sure;
    },
  };
}
