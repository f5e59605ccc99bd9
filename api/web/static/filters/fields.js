/** The groups of fields in the filter panel: each has its `element`, and `sync` shows what a state has of it. */

import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { limits } from "../lib/server.js";
import { lastDay, shiftDate } from "./conditions.js";

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

export function show(input, value) {
  if (input !== edited) input.value = value;
}

export function group(title, ...children) {
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

/** The values that a condition asks for, where it asks for some and for nothing else. */
function chosenOf(condition) {
  if (condition === null || typeof condition !== "object") return condition === undefined ? [] : [condition];
  return condition.in ?? (condition.eq === undefined ? [] : [condition.eq]);
}

/**
 * Buttons that are pressed or not; what is pressed is `field in [...]`. `make(value, onclick)` makes one, as `element`
 * with the `button` and the `count` in it.
 */
export function toggles(field, set, { className, make }) {
  const box = h("div", { class: className });
  let chosen = [];
  let made = new Map();
  const toggle = (value) => {
    const next = chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value];
    set(field, next.length ? { in: next } : undefined);
  };

  function rebuild(values) {
    const focused = [...made].find(([, { button }]) => button === document.activeElement)?.[0];
    made = new Map(values.map((value) => [value, make(value, () => toggle(value))]));
    box.replaceChildren(...[...made.values()].map(({ element }) => element));
    made.get(focused)?.button.focus();
  }

  return {
    box,
    /** `counts` are `{value, count}`; a count is undefined where it is not known. */
    show(counts, filters, { areLeast = false } = {}) {
      chosen = chosenOf(filters[field]);
      const known = new Map([...chosen.map((value) => ({ value })), ...counts].map(({ value, count }) => [value, count]));
      const values = [...new Set([...counts.map(({ value }) => value), ...chosen])];
      if (JSON.stringify(values) !== JSON.stringify([...made.keys()])) rebuild(values);
      for (const [value, { button, count }] of made) {
        button.setAttribute("aria-pressed", chosen.includes(value));
        const pictures = known.get(value);
        count.textContent = pictures === undefined ? "" : number(pictures) + (areLeast ? "+" : "");
        button.title = pictures === undefined ? String(value) : `${value}: ${plural(pictures, "picture")}${areLeast ? " or more" : ""}`;
      }
    },
  };
}

/** A value with its count as a chip. */
export function chipToggle(value, onclick) {
  const count = h("span", { class: "count muted numbers" });
  const button = h("button", { class: "chip toggle", type: "button", onclick }, h("span", { class: "ellipsis" }, String(value)), count);
  return { element: button, button, count };
}

export function tagChoice(set) {
  const choice = toggles("tags", set, { className: "row", make: chipToggle });
  const element = group("Tags", choice.box);
  return {
    element,
    sync({ filters }, tags, facets) {
      const counts = facets?.values.tags?.length ? facets.values.tags : tags.map((value) => ({ value }));
      choice.show(counts.slice(0, MAX_TAGS), filters, facets ?? {});
      element.hidden = !choice.box.childElementCount;
    },
  };
}

export function colorChoice(set) {
  const choice = toggles("colors", set, {
    className: "swatches",
    make(color, onclick) {
      const button = h("button", { class: `swatch ${color}`, type: "button", "aria-label": color, onclick });
      const count = h("span", { class: "count muted numbers", "aria-hidden": "true" });
      return { element: h("span", { class: "swatch-choice" }, button, count), button, count };
    },
  });
  return {
    element: group("Colours", choice.box),
    sync({ filters }, _tags, facets) {
      const known = new Map(facets?.values.colors?.map(({ value, count }) => [value, count]));
      const none = facets?.areCounted ? 0 : undefined;
      choice.show(limits.colors.map((value) => ({ value, count: known.get(value) ?? none })), filters, facets ?? {});
    },
  };
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

// A SigLIP's probabilities are small also of what fits, so the low bounds are as far apart as the high ones.
const NSFW_BOUNDS = [0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];

export function maximumNsfw(set) {
  let exact = 1; // what the address says may lie between two bounds
  const shown = h("output", { class: "muted small numbers" });
  const name = () => (exact === 1 ? "any" : `at most ${exact}`);
  const range = h("input", {
    type: "range",
    min: 0,
    max: NSFW_BOUNDS.length - 1,
    "aria-label": "Explicit (nsfw), at most",
    oninput: () => choose(NSFW_BOUNDS[range.value]),
    onchange: () => set("nsfw", exact === 1 ? undefined : { lte: exact }),
  });
  function choose(bound) {
    exact = bound;
    range.setAttribute("aria-valuetext", name());
    shown.replaceChildren(name());
  }
  return {
    element: group("Explicit", h("div", { class: "row" }, range, shown)),
    sync({ filters }) {
      choose(filters.nsfw?.lte ?? 1);
      range.value = NSFW_BOUNDS.findLastIndex((bound) => bound <= exact);
    },
  };
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
