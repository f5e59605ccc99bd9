/** The near-duplicates of a collection, side by side in groups: one of each is kept, the others can be deleted. */

import { collectionOf } from "../lib/collection.js";
import { h, icon } from "../lib/dom.js";
import { number, plural, size } from "../lib/format.js";
import { imageURL } from "../lib/image_urls.js";
import { api } from "../lib/requests.js";
import { sourceName } from "../lib/sources.js";
import { deadEnd, failed } from "../search/messages.js";
import { collectionPath } from "../search/query.js";
import { deletePictures } from "../selection/changes.js";

const PAGE = 50;
const NEEDS = ["groups", "total", "compared", "not_compared", "next_cursor"];

export function show(container, params, signal) {
  const state = { collection: collectionOf(params), more: [], less: [] };
  const groups = new Set(); // those shown, as `groupCard` makes them
  const status = h("p", { class: "muted numbers", role: "status", tabindex: "-1" });
  const others = h("button", { class: "button danger", type: "button", hidden: true, onclick: () => remove([...groups].filter((card) => card.others().length)) }, icon("trash"), h("span", {}));
  const list = h("div", { class: "duplicate-groups" });
  const more = h("button", { class: "button", type: "button", hidden: true, onclick: load }, "Show more groups");
  const end = h("div", { class: "stack" }, h("div", {}, more));
  container.append(
    h(
      "div",
      { class: "column" },
      h(
        "header",
        { class: "stack" },
        h("h1", {}, "Near-duplicates"),
        h(
          "p",
          { class: "muted" },
          `Pictures of “${state.collection}” that were recompressed, resized, slightly trimmed or edited. Of each group the largest is suggested to be kept.`,
        ),
        h("div", { class: "row between" }, status, others),
      ),
      list,
      end,
    ),
  );
  let found = null; // the last page
  let hadGroups = false;

  async function load() {
    more.disabled = true;
    status.textContent = "Comparing all pictures. Of ten thousands that takes some seconds.";
    try {
      const page = { limit: PAGE, ...(found?.next_cursor && { cursor: found.next_cursor }) };
      found = await api(collectionPath("/v1/duplicates", state, page), { signal, needs: NEEDS });
      end.replaceChildren(h("div", {}, more));
      for (const group of found.groups) add(group);
      paint();
    } catch (error) {
      if (signal.aborted) return;
      status.textContent = "";
      end.replaceChildren(deadEnd(error, state, { retry: load, signal }) ?? failed(error, load));
    }
  }

  function add(group) {
    const card = groupCard(group, state, { changed: paint, remove: () => remove([card]) });
    hadGroups = true;
    groups.add(card);
    list.append(card.element);
  }

  async function remove(cards) {
    const items = cards.flatMap((card) => card.others());
    const of = cards.length > 1 ? ` of ${plural(cards.length, "group")}, and keep the rest` : "";
    const gone = new Set(await deletePictures(items, state, of));
    found.compared -= gone.size;
    for (const card of cards) {
      card.drop(gone);
      if (card.count() > 1) continue;
      card.element.remove();
      groups.delete(card);
      found.total -= 1;
    }
    paint();
    if (document.activeElement === document.body) status.focus(); // the button went with its group
  }

  function paint() {
    const { total, compared, not_compared: bare, next_cursor: cursor } = found;
    const shown = groups.size === total ? plural(total, "group") : `${number(groups.size)} of ${plural(total, "group")} shown`;
    const parts = [
      total ? shown : compared ? "No near-duplicates" : "The collection is empty",
      compared && `${plural(compared, "picture")} compared`,
      bare && `${number(bare)} not compared: ingested by an older version, without a perceptual hash`,
    ];
    status.textContent = parts.filter(Boolean).join(" · ");
    const count = [...groups].reduce((sum, card) => sum + card.others().length, 0);
    others.hidden = groups.size < 2;
    others.disabled = !count;
    others.lastChild.textContent = `Delete the others of these ${plural(groups.size, "group")} (${number(count)})`;
    more.hidden = cursor === null;
    more.disabled = false;
    if (!groups.size && cursor === null) end.replaceChildren(nothing(compared, hadGroups, state));
  }

  load();
}

function nothing(compared, hadGroups, state) {
  const text = hadGroups
    ? "All groups are done."
    : compared
      ? "No two pictures of this collection are nearly the same."
      : "There are no pictures to compare yet.";
  const back = h("a", { class: "button", href: collectionPath("/", state) }, icon("search"), "To the pictures");
  return h("div", { class: "nothing" }, h("p", { class: "muted" }, text), back);
}

/** One group. `others()` are those that are not kept, `drop(ids)` takes away what is deleted. */
function groupCard(group, state, { changed, remove }) {
  let members = group.images.map((image) => member(image, image.id === group.keeper, state, paint));
  const title = h("h2", {});
  const button = h("button", { class: "button danger", type: "button", onclick: remove }, icon("trash"), h("span", {}));
  const row = h("ul", { class: "members" }, ...members.map(({ element }) => element));
  const hidden = group.count - group.images.length;
  const element = h(
    "section",
    { class: "card duplicate-group" },
    h("div", { class: "row between" }, title, button),
    row,
    hidden > 0 && h("p", { class: "muted small" }, `${plural(hidden, "more picture")} of this group: not shown, and not deleted.`),
  );
  const others = () => members.filter(({ isKept }) => !isKept()).map(({ image }) => image);

  function paint() {
    const count = others().length;
    title.textContent = plural(members.length, "picture");
    const isNoneKept = count === members.length;
    button.disabled = !count || isNoneKept;
    button.lastChild.textContent = isNoneKept ? "Keep at least one" : `Delete the ${count === 1 ? "other" : `other ${number(count)}`}`;
    changed();
  }

  function drop(ids) {
    for (const { image, element: gone } of members) if (ids.has(image.id)) gone.remove();
    members = members.filter(({ image }) => !ids.has(image.id));
    if (members.length > 1) paint();
  }

  queueMicrotask(paint);
  return { element, drop, count: () => members.length, others: () => (others().length === members.length ? [] : others()) };
}

function member(image, isKeeper, state, changed) {
  const name = sourceName(image.source);
  const keep = h("input", { type: "checkbox", checked: isKeeper, onchange: changed });
  const picture = h("img", { alt: "", loading: "lazy", decoding: "async" });
  imageURL(image.thumbnail_url).then((url) => {
    picture.src = url;
  }, () => {});
  const fact = (title, ...value) => h("div", {}, h("dt", {}, title), h("dd", {}, ...value));
  const element = h(
    "li",
    { class: "member" },
    // In a window of its own, so that what was chosen here stays.
    h("a", { class: "member-picture", href: collectionPath("/", state, { image: image.id }), target: "_blank", "aria-label": `Open ${name}` }, picture),
    h("label", { class: "check" }, keep, h("span", {}, "Keep", h("span", { class: "visually-hidden" }, ` ${name}`)), isKeeper && h("span", { class: "muted small" }, "suggested")),
    h(
      "dl",
      { class: "member-facts numbers" },
      fact("Size", `${image.width ?? "?"} × ${image.height ?? "?"}`),
      fact("File", [image.format?.toUpperCase(), size(image.bytes)].filter(Boolean).join(", ")),
      fact("Score", isKeeper ? "—" : h("span", { title: "Cosine similarity to the suggested picture, of at most 1" }, image.score.toFixed(4))),
      fact("Source", h("span", { class: "member-source", title: image.source }, name)),
    ),
  );
  return { image, element, isKept: () => keep.checked };
}
