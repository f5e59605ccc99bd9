/** A picture on which somebody draws a rectangle: with a finger, a mouse or the keyboard. */

import { h } from "../lib/dom.js";
import { blob } from "../lib/requests.js";
import { collectionPath } from "./query.js";

const STEP = 0.02; // of a side
const LEAST = 0.01;
const MIDDLE = [0.25, 0.25, 0.75, 0.75];
const HELP = "Draw a rectangle, or use the arrow keys: they move it, with Shift they change its size. Enter searches, Esc leaves.";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Asks for a part of a `file`, or of the image `id` of the state's collection, beginning with `box`; null when
 * nobody wants one. Throws ApiError where its pixels cannot be had.
 */
export async function choosePart({ file, id, box }, state) {
  const name = file ? file.name || "your picture" : `picture ${id.slice(0, 8)}`;
  const load = (size) => blob(collectionPath(`/v1/images/${id}/${size}`, state));
  const url = URL.createObjectURL(file ?? (await load("rendition").catch(() => load("thumbnail"))));
  const chosen = await drawnPart({ url, name, box });
  URL.revokeObjectURL(url);
  return chosen;
}

function drawnPart({ url, name, box }) {
  return new Promise((resolve) => {
    const area = partArea({ url, name, box: box ?? MIDDLE, onEnter: () => dialog.close("search") });
    const dialog = h(
      "dialog",
      {
        class: "dialog part-dialog",
        "aria-label": `Search for a part of ${name}`,
        onclose: () => {
          dialog.remove();
          resolve(dialog.returnValue === "search" ? area.box() : null);
        },
      },
      area.element,
      h("p", { class: "muted small", id: "part-help" }, HELP),
      area.status,
      h(
        "form",
        { method: "dialog", class: "row end" },
        h("button", { class: "button", value: "" }, "Cancel"),
        h("button", { class: "button primary", value: "search" }, "Search for this part"),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
    area.focus();
  });
}

/** The picture with the rectangle: its `element`, a `status` that says where it is, and `box()`. */
function partArea({ url, name, box, onEnter }) {
  const frame = h("div", {
    class: "part",
    role: "application",
    tabindex: 0,
    "aria-label": `Part of ${name}`,
    "aria-describedby": "part-help",
  });
  const status = h("p", { class: "small numbers", role: "status" });
  const element = h("div", { class: "part-picture" }, h("img", { src: url, alt: "", draggable: "false" }), frame);

  function set(next) {
    box = next;
    const [left, top, right, bottom] = box.map((side) => `${(side * 100).toFixed(1)}%`);
    Object.assign(frame.style, { left, top, width: `calc(${right} - ${left})`, height: `calc(${bottom} - ${top})` });
    const [l, t, r, b] = box.map((side) => Math.round(side * 100));
    status.textContent = `${l} to ${r} % across, ${t} to ${b} % down`;
  }

  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") onEnter();
    else if (ARROWS[event.key]) set((event.shiftKey ? resized : moved)(box, ...ARROWS[event.key].map((way) => way * STEP)));
    else return;
    event.preventDefault();
  });
  listenToDrawing(element, frame, { box: () => box, set });
  set(box);
  return { element, status, box: () => box, focus: () => frame.focus() };
}

/** A press inside the rectangle moves it, outside of it begins another. */
function listenToDrawing(element, frame, { box, set }) {
  let start = null; // where the pointer went down, and the rectangle that it moves, null for a new one

  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    start = { at: placeOf(event, element), moving: event.target === frame && box() };
    frame.focus();
  });
  element.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x, y] = placeOf(event, element);
    const [startX, startY] = start.at;
    if (start.moving) set(moved(start.moving, x - startX, y - startY));
    else if (Math.abs(x - startX) >= LEAST && Math.abs(y - startY) >= LEAST) {
      set([Math.min(x, startX), Math.min(y, startY), Math.max(x, startX), Math.max(y, startY)]);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => (start = null));
}

const within = (value, least, most) => Math.min(Math.max(value, least), most);

/** Where a pointer is, as shares of the picture's sides. */
function placeOf({ clientX, clientY }, element) {
  const { left, top, width, height } = element.getBoundingClientRect();
  return [within((clientX - left) / width, 0, 1), within((clientY - top) / height, 0, 1)];
}

function moved([left, top, right, bottom], x, y) {
  const [byX, byY] = [within(x, -left, 1 - right), within(y, -top, 1 - bottom)];
  return [left + byX, top + byY, right + byX, bottom + byY];
}

/** With its right and lower sides elsewhere. */
function resized([left, top, right, bottom], x, y) {
  return [left, top, within(right + x, left + STEP, 1), within(bottom + y, top + STEP, 1)];
}
