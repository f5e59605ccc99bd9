/** The image itself, as large as there is room, and where in it the words of the query match. */

import { notify } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { imageURL } from "../lib/image_urls.js";
import { blob } from "../lib/requests.js";
import { sourceName } from "../lib/sources.js";
import { collectionPath, splitWords } from "./query.js";

const MAX_ENLARGEMENT = 2;

/** Shows it in `frame` of `view`, which is what `openDetail` made. */
export function showLargeImage({ state, frame, signal }, image) {
  const small = h("img", { alt: "", width: image.width, height: image.height });
  const large = h("img", { class: "large", alt: altText(image), width: image.width, height: image.height });
  frame.replaceChildren(small);
  // What is small is shown larger, but not until it blurs.
  frame.style.setProperty("--max-width", `${image.width * MAX_ENLARGEMENT}px`);
  frame.style.setProperty("--max-height", `${image.height * MAX_ENLARGEMENT}px`);
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

/** The button that lays a map over the image of where the words match; null where none are asked for. */
export function heatMapButton({ state, frame, signal }, image) {
  const { words } = splitWords(state.q);
  if (!words) return null;
  let map = null;
  const toggle = h("button", { class: "button", type: "button", "aria-pressed": "false" }, `Where is “${words}”?`);
  toggle.addEventListener("click", async () => {
    const on = toggle.getAttribute("aria-pressed") === "false";
    if (on && !map) {
      toggle.disabled = true;
      map = await loadHeatMap(collectionPath("/v1/explain", state, { image_id: image.id, text: words }), words, signal);
      toggle.disabled = false;
      toggle.focus();
      if (!map) return;
      frame.append(map);
    }
    map.hidden = !on;
    toggle.setAttribute("aria-pressed", on);
  });
  return h("div", { class: "row" }, toggle);
}

async function loadHeatMap(path, words, signal) {
  try {
    const url = URL.createObjectURL(await blob(path, { signal }));
    const map = h("img", { class: "heat", alt: `Where in the picture “${words}” matches: light where most`, src: url });
    signal.addEventListener("abort", () => URL.revokeObjectURL(url));
    return map;
  } catch (error) {
    if (!signal.aborted) notify(error.message, { kind: "error" });
    return null;
  }
}
