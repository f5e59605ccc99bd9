/** What a visitor chose to add: pictures, archives and lists, and what of it is left out. */

import { limits } from "../lib/server.js";
import { middleCut, webURL } from "../lib/sources.js";
import { LIST_SUFFIXES, itemsOfFile, suffixOf } from "./lists.js";

/** For the file chooser: every kind of file that `Selection.add` takes. */
export const ACCEPTED = [...limits.image_suffixes, ...limits.archive_suffixes, ...LIST_SUFFIXES].join(",");

/**
 * `images` and `archives` are `{file, path}`, `items` those of the lists, `lists` what these are called and how many
 * they have, `leftOut` maps a reason to paths,
 * `faults` are sentences about lists that cannot be read.
 */
export class Selection {
  constructor() {
    this.clear();
  }

  clear() {
    this.images = [];
    this.archives = [];
    this.items = [];
    this.lists = [];
    this.leftOut = new Map();
    this.faults = [];
  }

  get isEmpty() {
    return !this.images.length && !this.archives.length && !this.urls.length;
  }

  /** The items that can be fetched; of the others the server could only say that they are no URLs. */
  get urls() {
    return this.items.filter(isURL);
  }

  /** What to call a job of all this, and what it is made of. */
  get label() {
    const of = (kind, paths) => paths.map((path) => (path.includes("/") ? ["folder", path.split("/")[0]] : [kind, path]));
    const paths = (some) => some.map(({ path }) => path);
    const sources = [
      ...of("files", paths(this.images)),
      ...of("archive", paths(this.archives)),
      ...of("list", paths(this.lists)),
    ];
    const names = [...new Set(sources.map(([, name]) => name))];
    const kinds = new Set(sources.map(([kind]) => kind));
    if (this.items.length > this.lists.reduce((sum, { count }) => sum + count, 0)) kinds.add("urls");
    const more = names.length > 1 ? ` and ${names.length - 1} more` : "";
    return {
      ...(names.length && { name: cut(names[0], limits.name_chars - more.length) + more }),
      ...(kinds.size === 1 && { made_of: [...kinds][0] }),
    };
  }

  get bytes() {
    return [...this.images, ...this.archives].reduce((sum, { file }) => sum + file.size, 0);
  }

  async add(found) {
    for (const one of found) {
      const name = one.path.split("/").at(-1);
      const suffix = suffixOf(name);
      if (one.path.split("/").some((part) => part.startsWith("."))) this.#leaveOut("hidden", one.path);
      else if (LIST_SUFFIXES.includes(suffix)) await this.#addList(one);
      else if (limits.archive_suffixes.includes(suffix)) this.archives.push(one);
      else if (limits.image_suffixes.includes(suffix)) this.images.push(one);
      else this.#leaveOut("not pictures by their names", one.path);
    }
  }

  async #addList({ file, path }) {
    try {
      const items = await itemsOfFile(file);
      if (!items.length) throw new Error("it is empty");
      for (const item of items) this.items.push(item);
      this.lists.push({ path, count: items.length });
    } catch (error) {
      this.faults.push(`${path}: ${error.message}.`);
    }
  }

  #leaveOut(reason, path) {
    if (!this.leftOut.has(reason)) this.leftOut.set(reason, []);
    this.leftOut.get(reason).push(path);
  }
}

/** Whether the server would try to fetch an item. */
export function isURL({ url }) {
  const found = webURL(url);
  return Boolean(found?.hostname) && !found.username && !found.password;
}

/** A text of at most `most` characters, with … for its middle. */
export function cut(text, most) {
  const [start, middle, end] = middleCut(text, most);
  return middle ? `${start}…${end}` : text;
}

/** The files that a file chooser gave. */
export function filesOfInput(input) {
  return [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

/** The files of a drop or paste, those in folders too. */
export async function filesOfTransfer(transfer) {
  // The transfer is empty once the event is over, so all is asked for before the first wait.
  const asked = [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = await Promise.all(
    asked.map(({ entry, file }) => (entry ? filesOfEntry(entry) : file ? [{ file, path: file.name }] : [])),
  );
  return found.flat();
}

async function filesOfEntry(entry) {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) return [{ file: await asPromise(entry, "file"), path }];
  const reader = entry.createReader();
  const inner = [];
  // A reader gives some entries at a time, and none at the end.
  for (let some = await readEntries(reader); some.length; some = await readEntries(reader)) {
    inner.push(...(await Promise.all(some.map(filesOfEntry))));
  }
  return inner.flat();
}

const asPromise = (entry, method) => new Promise((resolve, reject) => entry[method](resolve, reject));
const readEntries = (reader) => asPromise(reader, "readEntries");
