/** The view in which pictures are added: choose, look it over, send, watch. */

import { collectionOf, isCollectionName, withCollection } from "../lib/collection.js";
import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { api } from "../lib/requests.js";
import { byHand } from "../lib/notice.js";
import { limits } from "../lib/server.js";
import { navigate } from "../shell/router.js";
import { itemsOfText } from "./lists.js";
import { optionFields } from "./options.js";
import { kindsOf, showPreview } from "./preview.js";
import { ACCEPTED, Selection, filesOfInput, filesOfTransfer } from "./selection.js";
import { showTransfer } from "./transfer_card.js";
import { start, transfers } from "./transfers.js";

const TYPING_MS = 250;

/** Shows the view until the signal. Another collection that is chosen changes only where what is here goes. */
export function show(container, params, signal) {
  const selection = new Selection();
  const options = optionFields();
  let collection = collectionOf(params);
  const typed = h("textarea", {
    class: "field",
    id: "urls",
    rows: "4",
    spellcheck: "false",
    placeholder: "https://example.com/a.jpg\nhttps://example.com/b.jpg",
    "aria-describedby": "urls-hint",
  });
  const place = h("p", { class: "muted", role: "status" });
  const shown = h("section", { class: "card preview", "aria-label": "What will be added", hidden: true });
  const sent = h("section", { class: "stack sent", "aria-label": "Uploads and their jobs" });
  let busy = 0;

  /** What is chosen, with what is typed. */
  function everything() {
    const all = Object.assign(new Selection(), selection);
    try {
      all.items = selection.items.concat(itemsOfText(typed.value));
    } catch (error) {
      all.faults = [...selection.faults, `What you pasted: ${error.message}.`];
    }
    return all;
  }

  function refresh() {
    const all = everything();
    options.element.hidden = all.isEmpty;
    showPreview(shown, all, { collection, busy: busy > 0, onClear: clear });
  }

  /** What the form is filled with; its options go with what they were made for. */
  const formState = () => ({ ...selection, text: typed.value, collection, options: options.read() });

  function empty() {
    selection.clear();
    typed.value = "";
    options.fill();
    refresh();
  }

  function clear() {
    empty();
    container.querySelector(".drop button").focus();
  }

  async function add(finding) {
    busy++;
    refresh();
    try {
      await selection.add(await finding);
    } catch (error) {
      notify(`This cannot be read: ${error.message}`, { kind: "error" });
    } finally {
      busy--;
      refresh();
    }
  }

  function send(event) {
    event.preventDefault();
    const all = everything();
    if (all.isEmpty || busy) return;
    const transfer = start(kindsOf(all).join(", "), all, { ...options.read(), collection }, formState());
    empty();
    showTransfer(sent, transfer, { signal, edit });
    sent.tabIndex = -1;
    sent.focus();
    sent.scrollIntoView({ block: "nearest" });
  }

  function edit({ text, collection: name, options: given, ...chosen }) {
    Object.assign(selection, chosen);
    typed.value = text;
    options.fill(given);
    if (name !== collection) navigate(withCollection("/ingest", name));
    refresh();
    (text ? typed : zone.querySelector("button")).focus();
  }

  /** Says where pictures will go, and whether that is a new place. */
  async function showPlace() {
    const name = collection;
    place.textContent = `To the collection “${name}”.`;
    if (!isCollectionName(name)) {
      place.textContent = `“${name}” cannot be a collection's name (${limits.collection_name.rule}): choose another one in the header.`;
      return;
    }
    const answer = api("/v1/collections", { signal, isOptional: true, needs: ["collections"] });
    const { collections } = await answer.catch(() => ({ collections: null })); // a key that may only add cannot list them
    const isNew = collections && !collections.some((one) => one.name === name);
    if (isNew && name === collection) place.textContent = `To the collection “${name}”, which is made with its first pictures.`;
  }

  function update(addressed) {
    collection = collectionOf(addressed);
    showPlace();
    refresh();
  }

  let timer;
  typed.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, TYPING_MS);
  });
  const zone = dropZone(add);
  listenForDrops(zone, { add, signal, paste: (text) => insert(typed, text, refresh) });

  container.append(
    h(
      "div",
      { class: "column" },
      h("header", {}, h("h1", {}, "Add pictures"), place),
      h(
        "form",
        { class: "ingest", onsubmit: send },
        zone,
        h(
          "div",
          { class: "stack urls" },
          h("label", { for: "urls" }, "Or paste URLs of pictures"),
          typed,
          h(
            "p",
            { class: "muted small", id: "urls-hint" },
            "One per line. A table with a column ",
            h("code", {}, "url"),
            " works too: its other columns become metadata, ",
            h("code", {}, "key"),
            " your own name for the picture.",
          ),
        ),
        options.element,
        shown,
      ),
      sent,
    ),
  );
  for (const transfer of transfers) showTransfer(sent, transfer, { signal, edit });
  showPlace();
  refresh();
  return { update };
}

function dropZone(add) {
  const chooser = (properties) => {
    const input = h("input", {
      type: "file",
      multiple: true,
      hidden: true,
      onchange: () => {
        add(filesOfInput(input));
        input.value = "";
      },
      ...properties,
    });
    return input;
  };
  const files = chooser({ accept: ACCEPTED, "data-choose": "files" });
  const folder = chooser({ webkitdirectory: true, "data-choose": "folder" });
  const button = (text, name, input, kind) =>
    h("button", { class: `button ${kind}`, type: "button", onclick: () => input.click() }, icon(name), text);
  return h(
    "div",
    { class: "drop" },
    icon("upload"),
    h("p", { class: "lead" }, ...byHand("Drop pictures or folders here", "Choose pictures from this device")),
    h("div", { class: "row" }, button("Choose files", "image", files, "primary"), button("Choose a folder", "folder", folder, "")),
    h(
      "p",
      { class: "muted small" },
      "JPEG, PNG, WebP, GIF, AVIF, HEIC, TIFF or BMP; zip and tar archives; .txt, .csv or .jsonl lists of URLs.",
    ),
    files,
    folder,
  );
}

/** Files may be dropped or pasted anywhere in the view. */
function listenForDrops(zone, { add, paste, signal }) {
  let depth = 0;
  const over = (change) => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle("over", depth > 0);
  };
  const bringsFiles = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/uri-list");
  addEventListener("dragenter", (event) => bringsFiles(event) && over(1), { signal });
  addEventListener("dragleave", (event) => bringsFiles(event) && over(-1), { signal });
  addEventListener("dragover", (event) => bringsFiles(event) && event.preventDefault(), { signal });
  addEventListener(
    "drop",
    (event) => {
      if (!bringsFiles(event)) return;
      event.preventDefault();
      over(-depth);
      if (event.dataTransfer.types.includes("Files")) add(filesOfTransfer(event.dataTransfer));
      else paste(event.dataTransfer.getData("text/uri-list"));
    },
    { signal },
  );
  addEventListener(
    "paste",
    (event) => {
      if (event.target.closest?.("input, dialog")) return;
      if (event.clipboardData.files.length) {
        event.preventDefault();
        add(filesOfTransfer(event.clipboardData));
      } else if (!event.target.closest?.("textarea")) {
        paste(event.clipboardData.getData("text/plain"));
      }
    },
    { signal },
  );
}

function insert(typed, text, refresh) {
  if (!text) return;
  typed.value = typed.value ? `${typed.value.trimEnd()}\n${text}` : text;
  typed.focus();
  refresh();
}
