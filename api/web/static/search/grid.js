/**
 * The grid of results. Every place is computed from the images' sizes, so nothing moves when they load, and only
 * the rows near the window are in the document, so that thousands scroll smoothly.
 */

import { h } from "../lib/dom.js";
import { makeCell } from "./grid_cell.js";
import { CAPTION_HEIGHT, LINE_HEIGHT, itemBelow, layOutRows, rowAt, rowOf, targetHeight } from "./grid_rows.js";

const OVERSCAN = 0.6; // of the window's height, above and below
const PRESS_MS = 450; // before the browser's own menu
const PRESS_SLACK = 10; // pixels that a finger may move
const AHEAD = 2; // windows: more is asked for before the end comes into view

/**
 * `hrefOf(item)` is an image's address, `onAction(name, item)` is called for "more", "less" and "similar",
 * `needMore()` when the end comes near, `leave()` for Escape. `lineAt()` is the place of the first item that lies
 * below the line between good matches and others, null where there is none. `selection` is a Selection.
 */
export function createGrid({ hrefOf, onAction, needMore, leave, lineAt, selection, signal }) {
  // Its words are in the status and in each cell's name, too.
  const line = h("div", { class: "certainty-line muted small", "aria-hidden": "true", hidden: true }, "Less certain");
  const element = h("div", { class: "grid", role: "list", "aria-label": "Results" }, line); // stays the last child
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
    layOut(0);
  }

  /** After items were appended: all rows but the last stay as they are. */
  function grow() {
    layOut(Math.max(0, rows.length - 1));
  }

  function layOut(fromRow) {
    width = element.clientWidth;
    const from = rows[fromRow];
    const start = from && fromRow > 0 ? { first: from.cells[0].index, top: from.top } : {};
    const at = lineAt();
    const laid = layOutRows(items, { width, target: targetHeight(width), line: at, ...start });
    rows = fromRow > 0 ? [...rows.slice(0, fromRow), ...laid.rows] : laid.rows;
    element.style.height = `${laid.height}px`;
    const below = at === null ? undefined : rows[rowOf(rows, at)];
    line.hidden = !below;
    if (below) line.style.transform = `translateY(${below.top - LINE_HEIGHT}px)`;
    for (const row of rows.slice(fromRow)) {
      for (const place of row.cells) if (cells.has(place.index)) position(cells.get(place.index), row, place);
    }
    render();
  }

  function position(cell, row, place) {
    Object.assign(cell.style, {
      width: `${place.width}px`,
      height: `${row.height + CAPTION_HEIGHT}px`,
      transform: `translate(${place.left}px, ${row.top}px)`,
    });
  }

  function render() {
    scheduled = false;
    if (!element.isConnected) return;
    const above = -element.getBoundingClientRect().top;
    const near = innerHeight * OVERSCAN;
    const shown = new Map();
    for (let number = rowAt(rows, above - near); number < rows.length; number++) {
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
        const isSelected = selection.has(items[index]);
        cell = makeCell(items[index], index, { href: hrefOf(items[index]), isActive: index === active, isSelected });
        position(cell, row, place);
        cells.set(index, cell);
      }
      while (next && Number(next.dataset.index) < index) next = next.nextElementSibling;
      if (next === cell) next = cell.nextElementSibling;
      else element.insertBefore(cell, next);
    }
    if (element.getBoundingClientRect().bottom < innerHeight * (1 + AHEAD)) needMore();
  }

  function setActive(index) {
    for (const [each, tabindex] of [
      [active, -1],
      [index, 0],
    ]) {
      for (const part of cells.get(each)?.querySelectorAll("a, button, input") ?? []) part.tabIndex = tabindex;
    }
    active = index;
  }

  function focus(index) {
    if (!items.length) return;
    const wanted = Math.min(Math.max(index, 0), items.length - 1);
    setActive(wanted);
    const row = rows[rowOf(rows, wanted)];
    if (!cells.has(wanted)) {
      scrollTo(0, element.getBoundingClientRect().top + scrollY + row.top - innerHeight / 3);
      render();
    }
    const link = cells.get(wanted).querySelector("a");
    link.focus({ preventScroll: true });
    cells.get(wanted).scrollIntoView({ block: "nearest" });
  }

  const MOVES = {
    ArrowLeft: () => active - 1,
    ArrowRight: () => active + 1,
    ArrowUp: () => itemBelow(rows, active, -1),
    ArrowDown: () => itemBelow(rows, active, 1),
    Home: () => 0,
    End: () => items.length - 1,
  };
  const ACTION_KEYS = { m: "more", l: "less", s: "similar" };

  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const from = active;
    if (MOVES[event.key]) {
      focus(MOVES[event.key]());
      if (event.shiftKey) selection.extend(items, active, from);
    } else if (event.key === "x" || (event.key === " " && event.target.matches("a"))) selection.toggle(items, active);
    else if (ACTION_KEYS[event.key]) onAction(ACTION_KEYS[event.key], items[active]);
    else if (event.key === "Escape" && !selection.isOn) leave();
    else return;
    event.preventDefault();
  });
  element.addEventListener("focusin", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) setActive(Number(cell.dataset.index));
  });
  element.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const index = Number(cell.dataset.index);
    const button = event.target.closest("[data-action]");
    if (button) onAction(button.dataset.action, items[index]);
    else if (event.target.matches(".select")) pick(index, event);
    else if (event.detail && (selection.isOn || event.shiftKey || event.ctrlKey || event.metaKey)) {
      event.preventDefault(); // Enter, which has no detail, opens it all the same
      pick(index, event);
    }
  });
  listenToLongPresses(element, (cell) => selection.toggle(items, Number(cell.dataset.index)));

  function pick(index, { shiftKey }) {
    if (shiftKey) selection.extend(items, index);
    else selection.toggle(items, index);
  }

  function paintSelection() {
    element.classList.toggle("selecting", selection.isOn);
    for (const [index, cell] of cells) {
      const isSelected = selection.has(items[index]);
      cell.classList.toggle("selected", isSelected);
      cell.querySelector(".select").checked = isSelected;
    }
  }

  const schedule = () => {
    if (!scheduled) requestAnimationFrame(render);
    scheduled = true;
  };
  addEventListener("scroll", schedule, { passive: true, signal });
  addEventListener("resize", schedule, { signal });
  const resized = new ResizeObserver(() => {
    if (element.clientWidth !== width) layOut(0);
  });
  resized.observe(element);
  signal.addEventListener("abort", () => resized.disconnect());

  return {
    element,
    set,
    grow,
    focus,
    render,
    paintSelection,
    /** The place of the item that Tab leads to. */
    get active() {
      return active;
    },
  };
}

/** Calls `onPress(cell)` for a finger that rests on one; what the browser makes of it besides is left out. */
function listenToLongPresses(element, onPress) {
  let timer = 0;
  let isPressed = false;
  let start = null;
  const end = () => clearTimeout(timer);
  element.addEventListener("pointerdown", (event) => {
    end();
    isPressed = false;
    const cell = event.pointerType === "touch" && event.target.closest(".cell");
    if (!cell) return;
    start = event;
    timer = setTimeout(() => {
      isPressed = true;
      onPress(cell);
    }, PRESS_MS);
  });
  element.addEventListener("pointermove", (event) => {
    if (start && Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > PRESS_SLACK) end();
  });
  for (const type of ["pointerup", "pointercancel"]) element.addEventListener(type, end);
  for (const type of ["click", "contextmenu"]) {
    element.addEventListener(
      type,
      (event) => {
        if (!isPressed) return;
        event.preventDefault();
        event.stopPropagation();
        isPressed = type === "contextmenu"; // a click may still follow
      },
      { capture: true },
    );
  }
}
