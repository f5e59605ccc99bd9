/** All that is known of an image, as the detail view shows it beside the large one. */

import { copyButton } from "../lib/clipboard.js";
import { confirmDialog, notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { size } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { sourceName, webURL } from "../lib/sources.js";
import { heatMapTools } from "./large_image.js";
import { collectionPath } from "./query.js";

const NEAR_KM = 5;

/** Shows them in `facts` of `view`, which is what `openDetail` made. */
export function showFacts(view, image) {
  const { actions, facts } = view;
  const { id } = image;
  const like = (name, iconName, text, title) =>
    h("button", { class: "button", type: "button", title, onclick: () => actions.like(name, id) }, icon(iconName), text);
  const parts = [
    h("h2", {}, sourceName(image.source)),
    h(
      "div",
      { class: "like-buttons" },
      like("more", "plus", "More like", "More like this (m)"),
      like("less", "minus", "Less like", "Less like this (l)"),
      like("similar", "similar", "Similar", "Only similar pictures (s)"),
      like("part", "crop", "Search for a part", "Search for a part of this picture (p)"),
    ),
    heatMapTools(view, image),
    pairsList(fileFacts(image)),
    h("section", { class: "score-terms", hidden: true }),
    section("Tags", image.tags.length && h("div", { class: "row" }, ...image.tags.map((tag) => filterChip(view, tag, "tags", { in: [tag] })))),
    section(
      "Colours",
      image.colors.length &&
        h(
          "div",
          { class: "swatches" },
          ...image.colors.map((color) =>
            h("button", {
              class: `swatch ${color}`,
              type: "button",
              "aria-label": `Only ${color} pictures`,
              title: color,
              onclick: () => actions.filter("colors", { in: [color] }),
            }),
          ),
        ),
    ),
    section("Metadata", Object.keys(image.metadata).length && metadataTable(view, image.metadata)),
    section("Place", image.lat !== null && placeOf(view, image)),
    section(image.sources.length > 1 ? "Sources" : "Source", h("ul", { class: "bare-list" }, ...image.sources.map(sourceItem))),
    h("div", { class: "neighbours" }),
    deleteButton(view, image),
  ];
  facts.replaceChildren(...parts.filter(Boolean));
}

export function section(title, content) {
  return content ? h("section", {}, h("h3", {}, title), content) : null;
}

function pairsList(pairs) {
  return h("dl", { class: "pairs" }, ...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function fileFacts(image) {
  const date = (text) => h("time", { datetime: text, title: text }, new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }));
  return [
    ["Size", `${image.width ?? "?"} × ${image.height ?? "?"}, ${image.format.toUpperCase()}, ${size(image.bytes)}`],
    image.taken_at && ["Taken", date(image.taken_at)],
    image.created_at && ["Added", date(image.created_at)],
    image.keys.length && [image.keys.length > 1 ? "Keys" : "Key", image.keys.join(", ")],
    image.nsfw !== null && ["Explicit", String(Number(image.nsfw.toPrecision(2)))],
    ["Id", h("span", { class: "copied" }, h("code", { title: image.id }, image.id.slice(0, 16), "…"), copyButton(image.id, "id"))],
  ].filter(Boolean);
}

function filterChip({ actions }, text, field, condition) {
  const label = `Only pictures with ${field} ${text}`;
  return h("button", { class: "chip", type: "button", "aria-label": label, title: label, onclick: () => actions.filter(field, condition) }, h("span", { class: "value" }, text));
}

function metadataTable(view, metadata) {
  const rows = Object.entries(metadata).map(([name, value]) =>
    h(
      "div",
      {},
      h("dt", {}, name),
      h("dd", { class: "row", dataset: { name } }, ...[value].flat().map((one) => filterChip(view, String(one), name, one))),
    ),
  );
  return h("dl", { class: "pairs" }, ...rows);
}

function placeOf({ actions }, image) {
  const near = { lat: image.lat, lon: image.lon, radius_km: NEAR_KM };
  return h(
    "div",
    { class: "row" },
    h("span", { class: "numbers" }, `${image.lat.toFixed(4)}, ${image.lon.toFixed(4)}`),
    h("button", { class: "chip", type: "button", onclick: () => actions.filter("near", near) }, icon("place"), `Within ${NEAR_KM} km`),
  );
}

function sourceItem(source) {
  const url = webURL(source);
  const text = h("span", { class: "source-address" }, source);
  const shown = url ? h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer" }, text) : text;
  return h("li", { class: "copied" }, shown, copyButton(source, url ? "URL" : "file's name"));
}

function deleteButton(view, image) {
  return h(
    "button",
    { class: "button quiet danger", type: "button", onclick: () => deleteImage(view, image) },
    icon("trash"),
    "Delete this picture",
  );
}

async function deleteImage({ state, actions }, image) {
  const name = sourceName(image.source);
  if (!(await confirmDialog(`Delete ${name} from the collection “${state.collection}”? This cannot be undone.`, { action: "Delete" }))) return;
  try {
    await api(collectionPath(`/v1/images/${image.id}`, state), { method: "DELETE" });
    notify(`${name} is deleted.`, { kind: "ok" });
    actions.deleted(image.id);
  } catch (error) {
    notify(error.message, { kind: "error" });
  }
}
