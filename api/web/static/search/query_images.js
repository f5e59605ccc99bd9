/** Images as a query: dropped, pasted or picked, as files or by their addresses. */

import { notify } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { limits } from "../lib/server.js";
import { webURL } from "../lib/sources.js";
import { isView } from "../shell/router.js";
import { fileOf, keepFile } from "./query.js";

/**
 * Takes what is dropped or pasted on the window. `state()` is the query, `change(patch)` asks for another,
 * `like(id)` for more like an image of the index; `searchInput` is the field for words.
 */
export function acceptImages({ state, change, like, searchInput, signal }) {
  const overlay = h("div", { class: "drop-overlay", hidden: true }, h("p", {}, "Drop to search with this picture"));
  document.body.append(overlay);
  signal.addEventListener("abort", () => overlay.remove());

  function add(files) {
    const images = files.filter((file) => file.type.startsWith("image/"));
    if (!images.length) {
      notify("That is no picture. To add folders or archives to the collection, use Add.", { kind: "error" });
      return;
    }
    const { files: all, urls } = state();
    const kept = all.filter(fileOf); // others take the place of those that are lost
    const room = limits.query_images - kept.length - urls.length;
    if (images.length > room) notify(`A query takes at most ${limits.query_images} pictures: the rest was left out.`);
    if (room > 0) change({ files: [...kept, ...images.slice(0, room).map(keepFile)] });
  }

  /** Whether `text` is the address of an image, which then is asked for. */
  function takeURL(text) {
    const url = /\s/.test(text) ? null : webURL(text);
    if (!url) return false;
    const own = isView(url) && url.searchParams.get("image");
    if (own) like(own);
    else change({ urls: [...state().urls, url.href] });
    return true;
  }

  const bringsImage = (event) =>
    !document.querySelector("dialog.dialog[open]") &&
    event.dataTransfer.types.some((type) => type === "Files" || type === "text/uri-list");

  addEventListener(
    "dragover",
    (event) => {
      if (!bringsImage(event)) return;
      event.preventDefault();
      overlay.hidden = false;
    },
    { signal },
  );
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) overlay.hidden = true;
  }, { signal });
  addEventListener("drop", (event) => {
    overlay.hidden = true;
    if (!bringsImage(event)) return;
    event.preventDefault();
    const { files } = event.dataTransfer;
    if (files.length) add([...files]);
    else takeURL(event.dataTransfer.getData("text/uri-list").split(/[\r\n]+/).find((line) => !line.startsWith("#")) ?? "");
  }, { signal });
  addEventListener("paste", (event) => {
    const images = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
    const isField = event.target.closest?.("input, textarea");
    const isFree = !isField || (event.target === searchInput && !searchInput.value);
    if (images.length) add(images);
    else if (!isFree || !takeURL(event.clipboardData.getData("text/plain").trim())) return;
    event.preventDefault();
  }, { signal });

  return { add, takeURL };
}
