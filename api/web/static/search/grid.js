/**
 * Justified rows of pictures. Every place is computed from the pictures' sizes, so nothing moves when they
 * load, and only the rows near the window are in the document, so that thousands scroll smoothly.
 */

import { h, icon } from "../lib/dom.js";
import { pictureURL } from "../lib/http.js";
import { sourceName } from "../lib/sources.js";

const GAP = 12;
const CAPTION = 46; // as .cell figcaption has it
const LEAST_RATIO = 0.45;
const MOST_RATIO = 3;
const OVERSCAN = 0.6; // of the window's height, above and below
const AHEAD = 2; // windows: more is asked for before the end comes into view

/** Rows for `items` from `first` on: `{top, height, cells: [{index, left, width}]}`; heights without caption. */
export function layOut(items, { width, target, first = 0, top = 0, done = true }) {
  const rows = [];
  let row = [];
  let ratios = 0;
  const close = (height) => {
    let left = 0;
    const cells = row.map(({ index, ratio }) => {
      const cell = { index, left, width: ratio * height };
      left += cell.width + GAP;
      return cell;
    });
    rows.push({ top, height, cells });
    top += height + CAPTION + GAP;
    row = [];
    ratios = 0;
  };
  for (let index = first; index < items.length; index++) {
    const ratio = Math.min(MOST_RATIO, Math.max(LEAST_RATIO, items[index].width / items[index].height || 1));
    row.push({ index, ratio });
    ratios += ratio;
    const height = (width - GAP * (row.length - 1)) / ratios;
    if (height <= target) close(height);
  }
  // A row that does not fill up keeps the usual height instead of growing to the window's width.
  if (row.length) close(Math.min(target, (width - GAP * (row.length - 1)) / ratios));
  return { rows, height: top, complete: done };
}

const targetHeight = (width) => (width < 600 ? 132 : width < 1100 ? 176 : 200);

/**
 * `hrefOf(item)` is a picture's address, `act(name, item)` is called for "more", "less" and "similar",
 * `needMore()` when the end comes near, `leave()` for Escape.
 */
export function createGrid({ hrefOf, act, needMore, leave, signal }) {
  const element = h("div", { class: "grid", role: "list", "aria-label": "Results" });
  const cells = new Map();
  let items = [];
  let rows = [];
  let width = 0;
  let active = 0;
  let scheduled = false;

  function set(newItems) {
    items = newItems;
    active = 0;
    for (const cell of cells.values()) cell.remove();
    cells.clear();
    relay(0);
  }

  /** After items were appended: all rows but the last stay as they are. */
  function grow() {
    relay(Math.max(0, rows.length - 1));
  }

  function relay(fromRow) {
    width = element.clientWidth;
    const from = rows[fromRow];
    const start = from && fromRow > 0 ? { first: from.cells[0].index, top: from.top } : {};
    const laid = layOut(items, { width, target: targetHeight(width), ...start });
    rows = fromRow > 0 ? [...rows.slice(0, fromRow), ...laid.rows] : laid.rows;
    element.style.height = `${laid.height}px`;
    for (const row of rows.slice(fromRow)) {
      for (const place of row.cells) if (cells.has(place.index)) put(cells.get(place.index), row, place);
    }
    render();
  }

  function put(cell, row, place) {
    Object.assign(cell.style, {
      width: `${place.width}px`,
      height: `${row.height + CAPTION}px`,
      transform: `translate(${place.left}px, ${row.top}px)`,
    });
  }

  /** The number of the first row that ends below `y`. */
  function rowAt(y) {
    let low = 0;
    let high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle].top + rows[middle].height + CAPTION < y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function render() {
    scheduled = false;
    if (!element.isConnected) return;
    const above = -element.getBoundingClientRect().top;
    const near = innerHeight * OVERSCAN;
    const shown = new Map();
    for (let number = rowAt(above - near); number < rows.length; number++) {
      const row = rows[number];
      if (row.top > above + innerHeight + near) break;
      for (const place of row.cells) shown.set(place.index, { row, place });
    }
    const focused = [...cells].find(([, cell]) => cell.contains(document.activeElement))?.[0];
    if (focused === undefined && !shown.has(active)) setActive(shown.keys().next().value ?? 0);
    for (const [index, cell] of cells) {
      if (shown.has(index) || index === focused) continue; // focus must not vanish with its cell
      cell.remove();
      cells.delete(index);
    }
    let next = element.firstElementChild;
    for (const [index, { row, place }] of shown) {
      let cell = cells.get(index);
      if (!cell) {
        cell = makeCell(index);
        put(cell, row, place);
        cells.set(index, cell);
      }
      while (next && Number(next.dataset.index) < index) next = next.nextElementSibling;
      if (next === cell) next = cell.nextElementSibling;
      else element.insertBefore(cell, next);
    }
    if (element.getBoundingClientRect().bottom < innerHeight * (1 + AHEAD)) needMore();
  }

  function makeCell(index) {
    const item = items[index];
    const image = h("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
    image.addEventListener("load", () => image.classList.add("loaded"));
    pictureURL(item.thumbnail_url).then(
      (url) => {
        image.src = url;
      },
      () => image.remove(),
    );
    const tags = (item.tags ?? []).slice(0, 3).join(", ");
    const name = sourceName(item.source);
    const score = item.score === undefined ? null : item.score.toFixed(2);
    const label = [name, score && `score ${score}`, tags].filter(Boolean).join(", ");
    return h(
      "div",
      { class: "cell", role: "listitem", "aria-posinset": index + 1, "aria-setsize": -1, dataset: { index } },
      h(
        "a",
        { class: "open", href: hrefOf(item), tabindex: index === active ? 0 : -1, "aria-label": label },
        image,
      ),
      h(
        "div",
        { class: "caption", "aria-hidden": "true" }, // the link's name says it all
        h("span", { class: "name", title: item.source }, name),
        score && h("span", { class: "score numbers", title: explainScore(item.score) }, score),
        h("span", { class: "tags" }, tags),
      ),
      h(
        "div",
        { class: "actions" },
        actionButton("more", "plus", `More like ${name}`, "More like this (m)", index),
        actionButton("less", "minus", `Less like ${name}`, "Less like this (l)", index),
        actionButton("similar", "similar", `Only similar to ${name}`, "Only similar pictures (s)", index),
      ),
    );
  }

  function actionButton(name, iconName, label, title, index) {
    const properties = { class: "action", type: "button", "aria-label": label, title, dataset: { act: name } };
    return h("button", { ...properties, tabindex: index === active ? 0 : -1 }, icon(iconName));
  }

  function setActive(index) {
    for (const [each, tabindex] of [
      [active, -1],
      [index, 0],
    ]) {
      for (const part of cells.get(each)?.querySelectorAll("a, button") ?? []) part.tabIndex = tabindex;
    }
    active = index;
  }

  function focus(index) {
    if (!items.length) return;
    const wanted = Math.min(Math.max(index, 0), items.length - 1);
    setActive(wanted);
    const row = rows[rowOf(wanted)];
    if (!cells.has(wanted)) {
      scrollTo(0, element.getBoundingClientRect().top + scrollY + row.top - innerHeight / 3);
      render();
    }
    const link = cells.get(wanted).querySelector("a");
    link.focus({ preventScroll: true });
    cells.get(wanted).scrollIntoView({ block: "nearest" });
  }

  function rowOf(index) {
    return rows.findIndex((row) => row.cells.at(-1).index >= index);
  }

  /** The picture above or below whose middle is nearest. */
  function vertical(step) {
    const number = rowOf(active);
    const row = rows[number + step];
    if (!row) return active;
    const own = rows[number].cells.find((place) => place.index === active);
    const middle = own.left + own.width / 2;
    const distance = (place) => Math.abs(place.left + place.width / 2 - middle);
    return row.cells.reduce((best, place) => (distance(place) < distance(best) ? place : best)).index;
  }

  const MOVES = {
    ArrowLeft: () => active - 1,
    ArrowRight: () => active + 1,
    ArrowUp: () => vertical(-1),
    ArrowDown: () => vertical(1),
    Home: () => 0,
    End: () => items.length - 1,
  };
  const ACTS = { m: "more", l: "less", s: "similar" };

  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (MOVES[event.key]) focus(MOVES[event.key]());
    else if (ACTS[event.key]) act(ACTS[event.key], items[active]);
    else if (event.key === "Escape") leave();
    else return;
    event.preventDefault();
  });
  element.addEventListener("focusin", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) setActive(Number(cell.dataset.index));
  });
  element.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (button) act(button.dataset.act, items[Number(button.closest(".cell").dataset.index)]);
  });

  const schedule = () => {
    if (!scheduled) requestAnimationFrame(render);
    scheduled = true;
  };
  addEventListener("scroll", schedule, { passive: true, signal });
  addEventListener("resize", schedule, { signal });
  const resized = new ResizeObserver(() => {
    if (element.clientWidth !== width) relay(0);
  });
  resized.observe(element);
  signal.addEventListener("abort", () => resized.disconnect());

  return { element, set, grow, focus, render };
}

function explainScore(score) {
  return (
    `Cosine similarity to the query: ${score.toFixed(4)}, of at most 1. ` +
    "For words, 0.25 is a good match already; between pictures it is higher."
  );
}
