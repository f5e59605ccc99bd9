/** The view in which pictures are added: choose, look it over, send, watch. */

import { collectionOf, isCollectionName, withCollection } from "../lib/collection.js";
import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { api } from "../lib/requests.js";
import { byHand } from "../lib/notice.js";
import { limits } from "../lib/server.js";
import { navigate } from "../shell/router.js";
import { ACCEPTED } from "./kinds.js";
import { List } from "./lists.js";
import { optionFields } from "./options.js";
import { kindsOf, previewOf } from "./preview.js";
import { Selection, filesOfInput, filesOfTransfer } from "./selection.js";
import { showTransfer } from "./transfer_card.js";
import { start, transfers } from "./transfers.js";

const TYPING_MS = 250;

/** Shows the view until the signal. Another collection that is chosen changes only where what is here goes. */
export function show(container, params, signal) {
  let selection = new Selection();
  let pasted = newList();
  let timer;
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
  const preview = previewOf({ onClear: clear, onRemove: remove });
  const sent = h("section", { class: "stack sent", "aria-label": "Uploads and their jobs" });
  let busy = 0;

  /** What is chosen, with what is typed. */
  const everything = () => new Selection({ ...selection, ...(pasted.text.trim() && { lists: [...selection.lists, pasted] }) });

  function refresh() {
    const all = everything();
    options.element.hidden = all.isEmpty;
    preview.update(all, { collection, busy: busy > 0 });
  }

  function watch(list) {
    list.addEventListener("change", refresh, { signal });
    return list;
  }

  function newList() {
    return watch(new List(null, "pasted.txt"));
  }

  /** Puts a selection in the place of what is there. */
  function fill(chosen = new Selection()) {
    clearTimeout(timer);
    for (const list of [...selection.lists, pasted]) list.stop();
    for (const list of chosen.lists) watch(list);
    pasted = chosen.lists.find((list) => list.isTyped) ?? newList();
    selection = new Selection({ ...chosen, lists: chosen.lists.filter((list) => !list.isTyped) });
    typed.value = pasted.text;
    options.fill();
    refresh();
  }

  function clear() {
    fill();
    container.querySelector(".drop button").focus();
  }

  function remove(list) {
    list.stop();
    selection.lists = selection.lists.filter((one) => one !== list);
    refresh();
    (preview.element.querySelector("button:enabled") ?? container.querySelector(".drop button")).focus();
  }

  async function add(finding) {
    busy++;
    refresh();
    try {
      const lists = await selection.add(await finding);
      refresh();
      // One after the other: a folder's worth of tables is no reason to ask the server for all at once.
      for (const list of lists) if (selection.lists.includes(list)) await watch(list).read();
    } catch (error) {
      notify(`This cannot be read: ${error.message}`, { kind: "error" });
    } finally {
      busy--;
      refresh();
    }
  }

  /** What was typed is looked into as soon as nothing more is. */
  function type(afterMs) {
    clearTimeout(timer);
    pasted.type(typed.value);
    if (pasted.text.trim()) timer = setTimeout(() => pasted.read(), afterMs);
    refresh();
  }

  function send(event) {
    event.preventDefault();
    const all = everything();
    if (all.isEmpty || all.isReading || busy) return;
    const formState = { all, collection, options: options.read() };
    const transfer = start(kindsOf(all).join(", "), all, { ...options.read(), collection }, formState);
    fill(all.only(all.lists.filter((list) => !list.isSendable)));
    showTransfer(sent, transfer, { signal, edit });
    sent.tabIndex = -1;
    sent.focus();
    sent.scrollIntoView({ block: "nearest" });
  }

  /** Takes back what was not sent: `left`, of whose first the server says `error`. */
  function edit({ all, collection: name, options: given, left, error }) {
    fill(all.only(left));
    if (left[0] instanceof List && !left[0].preview) left[0].refuse(error);
    options.fill(given);
    if (name !== collection) navigate(withCollection("/ingest", name));
    (pasted.text ? typed : zone.querySelector("button")).focus();
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

  typed.addEventListener("input", () => type(TYPING_MS));
  const zone = dropZone(add);
  listenForDrops(zone, { add, signal, paste: (text) => insert(typed, text, () => type(0)) });

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
            "One per line. A table works too: one of its columns has the URLs, ",
            h("code", {}, "key"),
            " your own names for the pictures, and the others become metadata.",
          ),
        ),
        options.element,
        preview.element,
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
      "JPEG, PNG, WebP, GIF, AVIF, HEIC, TIFF or BMP; zip and tar archives; lists of URLs as .txt, .csv, .json, .jsonl or .parquet.",
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

function insert(typed, text, onInsert) {
  if (!text) return;
  typed.value = typed.value ? `${typed.value.trimEnd()}\n${text}` : text;
  typed.focus();
  onInsert();
}
