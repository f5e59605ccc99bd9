/** What can be had of the selected pictures: a list, or the pictures as the server keeps them. */

import { notify } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { blob } from "../lib/requests.js";
import { limits } from "../lib/server.js";
import { sourceName } from "../lib/sources.js";
import { collectionPath } from "../search/query.js";
import { changeEach } from "./changes.js";
import { readRecords } from "./records.js";
import { zip } from "./zip.js";

const MOST_PICTURES = 200; // they are held in memory until all are there
const COLUMNS = ["id", "source", "key", "format", "width", "height", "bytes", "created_at", "taken_at", "lat", "lon", "tags"];
const EXTENSIONS = { "image/jpeg": "jpg", "image/webp": "webp" };
const FORMULA = /^[=+\-@\t\r]/; // what a spreadsheet would compute

export function downloadDialog(items, state) {
  const leaving = new AbortController();
  const name = `${state.collection}-${items.length}`;
  const status = h("p", { class: "numbers", role: "status" });
  const isMany = items.length > MOST_PICTURES;
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "download-title", onclose: () => { leaving.abort(); dialog.remove(); } },
    h("h2", { id: "download-title" }, `Download ${plural(items.length, "picture")}`),
    choice("List as CSV", "For a spreadsheet: ids, sources, sizes, tags and metadata.", () => list("csv", csvOf, "text/csv")),
    choice("List as JSON", "All that is known of each picture.", () => list("json", jsonOf, "application/json")),
    choice(
      items.length > 1 ? "Pictures as ZIP" : "Picture",
      isMany
        ? `For ${number(MOST_PICTURES)} pictures at most.`
        : `As large as the server keeps them: the longest side has at most ${limits.rendition_side} pixels. It keeps no originals; their URLs can be copied.`,
      pictures,
      isMany,
    ),
    status,
    h("form", { method: "dialog", class: "row end" }, h("button", { class: "button", autofocus: true }, "Cancel")),
  );

  async function list(ending, format, type) {
    try {
      const onRead = (count) => {
        status.textContent = `${number(count)} of ${number(items.length)}`;
      };
      const records = await readRecords(items, state, { signal: leaving.signal, onRead });
      save(new Blob([format(records)], { type }), `${name}.${ending}`);
      const gone = items.length - records.length;
      if (gone) notify(`${plural(gone, "picture")} of these no longer exist and are not in the list.`);
      dialog.close();
    } catch (error) {
      if (!leaving.signal.aborted) status.textContent = error.message;
    }
  }

  async function pictures() {
    dialog.close();
    const files = new Map(); // id → file
    const { done } = await changeEach(items, {
      title: `Downloading ${plural(items.length, "picture")}`,
      did: "downloaded",
      change: async (item, signal) => files.set(item.id, await kept(item, state, signal)),
    });
    if (!done.length) return;
    const taken = new Set();
    const named = done.map((item) => ({ ...files.get(item.id), name: nameOf(item, files.get(item.id).ending, taken) }));
    if (named.length === 1) save(new Blob([named[0].data]), named[0].name);
    else save(zip(named), `${name}.zip`);
  }

  document.body.append(dialog);
  dialog.showModal();
}

function choice(title, text, onclick, disabled = false) {
  return h(
    "div",
    { class: "download-choice" },
    h("button", { class: "button", type: "button", onclick, disabled }, title),
    h("p", { class: "muted small" }, text),
  );
}

/** The rendition or, where none is kept, the thumbnail. */
async function kept({ id }, state, signal) {
  const path = (kind) => collectionPath(`/v1/images/${id}/${kind}`, state);
  const found = await blob(path("rendition"), { signal }).catch((error) => {
    if (error.code !== "rendition_not_kept") throw error;
    return blob(path("thumbnail"), { signal });
  });
  return { data: new Uint8Array(await found.arrayBuffer()), ending: EXTENSIONS[found.type] ?? "bin" };
}

/** A name that no folder minds, and that none of `taken` has. */
function nameOf({ id, source }, ending, taken) {
  const stem = sourceName(source).replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N} _()-]+/gu, "_").slice(0, 80) || id.slice(0, 16);
  let name = `${stem}.${ending}`;
  for (let count = 2; taken.has(name.toLowerCase()); count++) name = `${stem} (${count}).${ending}`;
  taken.add(name.toLowerCase());
  return name;
}

const jsonOf = (records) => `${JSON.stringify(records, null, 1)}\n`;

function csvOf(records) {
  const names = [...new Set(records.flatMap(({ metadata }) => Object.keys(metadata)))].sort();
  const rows = records.map((record) => [
    ...COLUMNS.map((column) => (column === "key" ? record.keys : record[column])),
    ...names.map((name) => record.metadata[name]),
  ]);
  // The mark at the beginning tells Excel that it is UTF-8.
  return `\uFEFF${[[...COLUMNS, ...names], ...rows].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

function cell(value) {
  const text = [value ?? ""].flat().join("; ");
  // Sources and metadata are anybody's: a spreadsheet must not take them for formulas.
  const safe = typeof value !== "number" && FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n;]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function save(data, name) {
  const url = URL.createObjectURL(data);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
