/** What a visitor chose to add: pictures, archives and lists, and what of it is left out. */

import { LIST_SUFFIXES, itemsOfFile } from "./lists.js";

const PICTURES = "jpg jpeg jpe jfif png webp gif bmp tif tiff avif heic heif".split(" ");
const ARCHIVES = ["zip", "tar", "tgz", "gz"];

/** For the file chooser: every kind of file that `Selection.add` takes. */
export const ACCEPTED = [...PICTURES, ...ARCHIVES, ...LIST_SUFFIXES].map((suffix) => `.${suffix}`).join(",");

/**
 * `pictures` and `archives` are `{file, path}`, `items` those of the lists, `leftOut` maps a reason to paths,
 * `faults` are sentences about lists that cannot be read.
 */
export class Selection {
  constructor() {
    this.clear();
  }

  clear() {
    this.pictures = [];
    this.archives = [];
    this.items = [];
    this.leftOut = new Map();
    this.faults = [];
  }

  get isEmpty() {
    return !this.pictures.length && !this.archives.length && !this.items.length;
  }

  get bytes() {
    return [...this.pictures, ...this.archives].reduce((sum, { file }) => sum + file.size, 0);
  }

  async add(found) {
    for (const one of found) {
      const name = one.path.split("/").at(-1);
      const suffix = name.includes(".") ? name.split(".").at(-1).toLowerCase() : "";
      if (one.path.split("/").some((part) => part.startsWith("."))) this.#leaveOut("hidden", one.path);
      else if (LIST_SUFFIXES.includes(suffix)) await this.#addList(one);
      else if (ARCHIVES.includes(suffix)) this.archives.push(one);
      else if (PICTURES.includes(suffix)) this.pictures.push(one);
      else this.#leaveOut("not pictures by their names", one.path);
    }
  }

  async #addList({ file, path }) {
    try {
      const items = await itemsOfFile(file);
      if (!items.length) throw new Error("it is empty");
      for (const item of items) this.items.push(item);
    } catch (error) {
      this.faults.push(`${path}: ${error.message}.`);
    }
  }

  #leaveOut(reason, path) {
    if (!this.leftOut.has(reason)) this.leftOut.set(reason, []);
    this.leftOut.get(reason).push(path);
  }
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
