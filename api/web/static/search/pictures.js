/** Pictures as a query: dropped, pasted or picked, as files or by their addresses. */

import { h, notify } from "../lib/dom.js";
import { keepPicture } from "./query.js";
import { isView } from "../lib/router.js";
import { webURL } from "../lib/sources.js";

const MOST = 8; // of one query, the server's

/**
 * Takes what is dropped or pasted on the window. `state()` is the query, `change(patch)` asks for another,
 * `like(id)` for more like a picture of the index; `box` is the field for words.
 */
export function acceptPictures({ state, change, like, box, signal }) {
  const veil = h("div", { class: "veil", hidden: true }, h("p", {}, "Drop to search with this picture"));
  document.body.append(veil);
  signal.addEventListener("abort", () => veil.remove());

  function add(files) {
    const images = files.filter((file) => file.type.startsWith("image/"));
    if (!images.length) {
      notify("That is no picture. To add folders or archives to the collection, use Add.", { kind: "error" });
      return;
    }
    const { pictures, urls } = state();
    const room = MOST - pictures.length - urls.length;
    if (images.length > room) notify(`A query takes at most ${MOST} pictures: the rest was left out.`);
    if (room > 0) change({ pictures: [...pictures, ...images.slice(0, room).map(keepPicture)] });
  }

  /** Whether `text` is the address of a picture, which then is asked for. */
  function takeURL(text) {
    const url = /\s/.test(text) ? null : webURL(text);
    if (!url) return false;
    const own = isView(url) && url.searchParams.get("image");
    if (own) like(own);
    else change({ urls: [...state().urls, url.href] });
    return true;
  }

  const holdsPicture = (event) =>
    !document.querySelector("dialog.dialog[open]") &&
    event.dataTransfer.types.some((type) => type === "Files" || type === "text/uri-list");

  addEventListener(
    "dragover",
    (event) => {
      if (!holdsPicture(event)) return;
      event.preventDefault();
      veil.hidden = false;
    },
    { signal },
  );
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  }, { signal });
  addEventListener("drop", (event) => {
    veil.hidden = true;
    if (!holdsPicture(event)) return;
    event.preventDefault();
    const { files } = event.dataTransfer;
    if (files.length) add([...files]);
    else takeURL(event.dataTransfer.getData("text/uri-list").split(/[\r\n]+/).find((line) => !line.startsWith("#")) ?? "");
  }, { signal });
  addEventListener("paste", (event) => {
    const images = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
    const isField = event.target.closest?.("input, textarea");
    const isFree = !isField || (event.target === box && !box.value);
    if (images.length) add(images);
    else if (!isFree || !takeURL(event.clipboardData.getData("text/plain").trim())) return;
    event.preventDefault();
  }, { signal });

  return { add, takeURL };
}
