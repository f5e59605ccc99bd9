/** The image itself, as large as there is room, and where in it the words of the query match. */

import { notify } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { imageURL } from "../lib/image_urls.js";
import { blob, request } from "../lib/requests.js";
import { sourceName } from "../lib/sources.js";
import { collectionPath, splitWords } from "./query.js";

const MAX_ENLARGEMENT = 2;

/** Shows it in `frame` of `view`, which is what `openDetail` made. */
export function showLargeImage({ state, frame, signal }, image) {
  const small = h("img", { alt: "", width: image.width, height: image.height });
  const large = h("img", { class: "large", alt: altText(image), width: image.width, height: image.height });
  frame.replaceChildren(small);
  // What is small is shown larger, but not until it blurs.
  for (const side of image.width && image.height ? ["width", "height"] : []) {
    frame.style.setProperty(`--max-${side}`, `${image[side] * MAX_ENLARGEMENT}px`);
  }
  imageURL(image.thumbnail_url).then((url) => {
    small.src = url;
  }, () => {});
  // Not by the element's own request, so that an image without a rendition is no error.
  blob(collectionPath(`/v1/images/${image.id}/rendition`, state), { signal }).then(
    (data) => {
      large.src = URL.createObjectURL(data);
      large.addEventListener("load", () => URL.revokeObjectURL(large.src), { once: true });
      small.replaceWith(large);
    },
    () => {
      small.alt = altText(image);
    },
  );
}

function altText(image) {
  return [sourceName(image.source), image.tags.join(", ")].filter(Boolean).join(": ");
}

/** What lays a map over the image of where the words match, and explains it; null where none are asked for. */
export function heatMapTools({ state, frame, signal }, image) {
  const { words } = splitWords(state.q);
  if (!words) return null;
  let map = null;
  const toggle = h("button", { class: "button", type: "button", "aria-pressed": "false" }, `Where is “${words}”?`);
  const legend = h("div", { class: "heat-legend", role: "group", "aria-label": "The map", hidden: true });
  const said = h("p", { class: "small", role: "status" });
  toggle.addEventListener("click", async () => {
    const on = toggle.getAttribute("aria-pressed") === "false";
    if (on && !map) {
      toggle.disabled = true;
      const loaded = await loadHeatMap(collectionPath("/v1/explain", state, { image_id: image.id, text: words }), words, signal);
      toggle.disabled = false;
      toggle.focus();
      if (!loaded) return;
      map = loaded.map;
      frame.append(map);
      legend.replaceChildren(scale(), fader(map));
      said.textContent = loaded.isClear === false ? `No clear spot: no part of the picture stands out for “${words}”.` : "";
    }
    for (const part of [map, legend, said]) part.hidden = !on;
    toggle.setAttribute("aria-pressed", on);
  });
  return h("div", { class: "stack" }, h("div", { class: "row" }, toggle), said, legend);
}

const scale = () =>
  h("div", { class: "heat-scale small muted" }, h("span", {}, "matches least"), h("span", { class: "heat-colours" }), h("span", {}, "most"));

function fader(map) {
  const range = h("input", {
    type: "range",
    min: 0,
    max: 100,
    step: 5,
    value: 100,
    oninput: () => (map.style.opacity = range.value / 100),
  });
  return h("label", { class: "heat-fader small muted" }, "Strength of the map", range);
}

/** The map, and whether it has a clear spot, `undefined` where the server does not know; null where there is none. */
async function loadHeatMap(path, words, signal) {
  try {
    const answer = await request(path, { signal });
    const url = URL.createObjectURL(await answer.blob());
    const map = h("img", { class: "heat", alt: `Where in the picture “${words}” matches: light where most`, src: url });
    signal.addEventListener("abort", () => URL.revokeObjectURL(url));
    return { map, isClear: { clear: true, unclear: false }[answer.headers.get("Heat-Spot")] };
  } catch (error) {
    if (!signal.aborted) notify(error.message, { kind: "error" });
    return null;
  }
}
