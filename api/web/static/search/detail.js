/** One picture, large, with all that is known of it. */

import { confirmDialog, h, icon, notify } from "../lib/dom.js";
import { api, blob, pictureURL } from "../lib/http.js";
import { dataPath, split } from "./query.js";
import { sourceName, webURL } from "../lib/sources.js";
import { explainScore } from "./why.js";

// What docs/pictures.md calls near-duplicates.
const NEAR_SCORE = 0.95;
const NEAR_BITS = 8;
const SIMILAR = 24;
const NEAR_KM = 5;
const MOST_ENLARGED = 2;

/**
 * Opens the picture `id`. `actions`: `close()`, `step(by)` to a neighbour, `like(name, id)` for "more", "less"
 * and "similar", `filter(field, condition)`, `hrefOf(id)`, `deleted(id)`, `can(by)` whether there is a
 * neighbour. Gives back the dialog, whose `dismiss()` closes it without `close()`.
 */
export function openDetail(id, state, actions) {
  const leaving = new AbortController();
  const picture = h("div", { class: "stage" });
  const facts = h("div", { class: "known" }, h("p", { class: "muted loading" }, "Loading…"));
  const dialog = h(
    "dialog",
    { class: "detail", "aria-label": "Picture" },
    picture,
    facts,
    h("div", { class: "detail-top" }, button("close", "Close (Esc)", actions.close)),
    actions.can(-1) && stepButton("previous", "Previous picture (←)", () => actions.step(-1)),
    actions.can(1) && stepButton("next", "Next picture (→)", () => actions.step(1)),
  );
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    actions.close();
  });
  dialog.addEventListener("keydown", (event) => onKey(event, id, actions));
  dialog.dismiss = () => {
    leaving.abort();
    dialog.remove();
  };
  document.body.append(dialog);
  dialog.showModal();
  fill({ id, state, actions, picture, facts, dialog, signal: leaving.signal });
  return dialog;
}

function button(name, label, onclick) {
  return h("button", { class: "button round solid", type: "button", "aria-label": label, title: label, onclick }, icon(name));
}

function stepButton(name, label, onclick) {
  const made = button(name, label, onclick);
  made.classList.add("step", name);
  return made;
}

function onKey(event, id, actions) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const keys = {
    ArrowLeft: () => actions.can(-1) && actions.step(-1),
    ArrowRight: () => actions.can(1) && actions.step(1),
    m: () => actions.like("more", id),
    l: () => actions.like("less", id),
    s: () => actions.like("similar", id),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

async function fill(view) {
  const { id, state, facts, dialog, signal } = view;
  try {
    const image = await api(dataPath(`/v1/images/${encodeURIComponent(id)}`, state), { signal });
    dialog.setAttribute("aria-label", sourceName(image.source));
    showPicture(view, image);
    showFacts(view, image);
    await Promise.all([explainScore(facts.querySelector(".why"), state, id, signal), showNeighbours(view, image)]);
  } catch (error) {
    if (signal.aborted) return;
    facts.querySelector(".loading")?.remove();
    facts.append(h("p", { role: "alert" }, error.message));
  }
}

function showPicture({ state, picture, signal }, image) {
  const small = h("img", { alt: "", width: image.width, height: image.height });
  const large = h("img", { class: "large", alt: altText(image), width: image.width, height: image.height });
  picture.replaceChildren(small);
  // What is small is shown larger, but not until it blurs.
  picture.style.setProperty("--most-width", `${image.width * MOST_ENLARGED}px`);
  picture.style.setProperty("--most-height", `${image.height * MOST_ENLARGED}px`);
  pictureURL(image.thumbnail_url).then((url) => {
    small.src = url;
  }, () => {});
  // Not by the element's own request, so that a picture without a rendition is no error.
  blob(dataPath(`/v1/images/${image.id}/rendition`, state), { signal }).then(
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

function showFacts(view, image) {
  const { actions, facts } = view;
  const { id } = image;
  const like = (name, iconName, text, title) =>
    h("button", { class: "button", type: "button", title, onclick: () => actions.like(name, id) }, icon(iconName), text);
  const parts = [
    h("h2", {}, sourceName(image.source)),
    h(
      "div",
      { class: "likes" },
      like("more", "plus", "More like", "More like this (m)"),
      like("less", "minus", "Less like", "Less like this (l)"),
      like("similar", "similar", "Similar", "Only similar pictures (s)"),
    ),
    ...heatMap(view, image),
    list(known(image)),
    h("section", { class: "why", hidden: true }),
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
    section(image.sources.length > 1 ? "Sources" : "Source", h("ul", { class: "plain" }, ...image.sources.map(sourceItem))),
    h("div", { class: "neighbours" }),
    h(
      "button",
      { class: "button quiet danger", type: "button", onclick: () => remove(view, image) },
      icon("trash"),
      "Delete this picture",
    ),
  ];
  facts.replaceChildren(...parts.filter(Boolean));
}

function section(title, content) {
  return content ? h("section", {}, h("h3", {}, title), content) : null;
}

function list(pairs) {
  return h("dl", { class: "pairs" }, ...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function known(image) {
  const date = (text) => h("time", { datetime: text, title: text }, new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }));
  return [
    ["Size", `${image.width} × ${image.height}, ${image.format.toUpperCase()}, ${bytes(image.bytes)}`],
    image.taken_at && ["Taken", date(image.taken_at)],
    image.created_at && ["Added", date(image.created_at)],
    image.keys.length && [image.keys.length > 1 ? "Keys" : "Key", image.keys.join(", ")],
    image.nsfw !== null && ["Explicit", image.nsfw.toFixed(2)],
    ["Id", h("code", { title: image.id }, image.id.slice(0, 16), "…")],
  ].filter(Boolean);
}

function bytes(count) {
  const units = ["B", "kB", "MB", "GB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(count, 1)) / 3));
  return `${(count / 1000 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
}

function filterChip({ actions }, text, field, condition) {
  const label = `Only pictures with ${field} ${text}`;
  return h("button", { class: "chip", type: "button", "aria-label": label, title: label, onclick: () => actions.filter(field, condition) }, text);
}

function metadataTable(view, metadata) {
  const rows = Object.entries(metadata).map(([name, value]) =>
    h(
      "div",
      {},
      h("dt", {}, name),
      h("dd", { class: "row" }, ...[value].flat().map((one) => filterChip(view, String(one), name, one))),
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
  const text = h("span", { class: "origin" }, source);
  return h("li", {}, url ? h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer" }, text) : text);
}

function heatMap({ state, picture, signal }, image) {
  const { words } = split(state.q);
  if (!words) return [];
  let map = null;
  const toggle = h("button", { class: "button", type: "button", "aria-pressed": "false" }, `Where is “${words}”?`);
  toggle.addEventListener("click", async () => {
    const on = toggle.getAttribute("aria-pressed") === "false";
    if (on && !map) {
      toggle.disabled = true;
      map = await loadMap(dataPath("/v1/explain", state, { image_id: image.id, text: words }), words, signal);
      toggle.disabled = false;
      toggle.focus();
      if (!map) return;
      picture.append(map);
    }
    map.hidden = !on;
    toggle.setAttribute("aria-pressed", on);
  });
  return [h("div", { class: "row" }, toggle)];
}

async function loadMap(path, words, signal) {
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

async function showNeighbours({ id, state, actions, facts, signal }, image) {
  const { results } = await api(dataPath(`/v1/images/${id}/similar`, state, { limit: SIMILAR }), { signal });
  const near = await nearDuplicates(image, results, state, signal);
  const twins = new Set(near.map((result) => result.id));
  facts.querySelector(".neighbours").replaceChildren(
    ...[
      section("Near-duplicates", near.length && strip(near, actions)),
      section("Similar", strip(results.filter((result) => !twins.has(result.id)), actions)),
    ].filter(Boolean),
  );
}

function strip(results, actions) {
  if (!results.length) return null;
  return h(
    "div",
    { class: "strip" },
    ...results.map((result) => {
      const thumb = h("img", { alt: "", loading: "lazy" });
      pictureURL(result.thumbnail_url).then((url) => {
        thumb.src = url;
      }, () => {});
      const name = `${sourceName(result.source)}, ${result.score.toFixed(2)}`;
      return h("a", { href: actions.hrefOf(result.id), "aria-label": name, title: name }, thumb);
    }),
  );
}

/** Of the most similar pictures those whose perceptual hashes are near, too. */
async function nearDuplicates(image, results, state, signal) {
  if (!image.phash) return [];
  const alike = results.filter((result) => result.score >= NEAR_SCORE);
  const hashes = await Promise.all(
    alike.map(async (result) => (await api(dataPath(`/v1/images/${result.id}`, state), { signal })).phash),
  );
  return alike.filter((_, place) => hashes[place] && distance(hashes[place], image.phash) <= NEAR_BITS);
}

function distance(a, b) {
  const bits = (BigInt(`0x${a}`) ^ BigInt(`0x${b}`)).toString(2);
  return bits.replaceAll("0", "").length;
}

async function remove({ state, actions }, image) {
  const name = sourceName(image.source);
  if (!(await confirmDialog(`Delete ${name} from the collection “${state.collection}”? This cannot be undone.`, { action: "Delete" }))) return;
  try {
    await api(dataPath(`/v1/images/${image.id}`, state), { method: "DELETE" });
    notify(`${name} is deleted.`, { kind: "ok" });
    actions.deleted(image.id);
  } catch (error) {
    notify(error.message, { kind: "error" });
  }
}
