/** What a visitor chose to add: pictures, archives and lists, and what of it is left out. */

import { limits } from "../lib/server.js";
import { middleCut } from "../lib/sources.js";
import { sorted } from "./kinds.js";
import { List } from "./lists.js";

/**
 * `images` and `archives` are `{file, path}`, `lists` are List, `leftOut` has the paths of what is neither.
 */
export class Selection {
  constructor(chosen = {}) {
    Object.assign(this, { images: [], archives: [], lists: [], leftOut: [] }, chosen);
  }

  get isEmpty() {
    return !this.images.length && !this.archives.length && !this.sendable.length;
  }

  /** The lists that the server takes, as far as is known. */
  get sendable() {
    return this.lists.filter((list) => list.isSendable);
  }

  get isReading() {
    return this.lists.some((list) => list.isReading);
  }

  /** What to call a job of all this, and what it is made of. */
  get label() {
    const of = (kind, some) => some.map(({ path }) => (path.includes("/") ? ["folder", path.split("/")[0]] : [kind, path]));
    const sources = [
      ...of("files", this.images),
      ...of("archive", this.archives),
      ...of("list", this.sendable.filter((list) => !list.isTyped)),
    ];
    const names = [...new Set(sources.map(([, name]) => name))];
    const kinds = new Set(sources.map(([kind]) => kind));
    if (this.sendable.some((list) => list.isTyped)) kinds.add("urls");
    const more = names.length > 1 ? ` and ${names.length - 1} more` : "";
    return {
      ...(names.length && { name: cut(names[0], limits.name_chars - more.length) + more }),
      ...(kinds.size === 1 && { made_of: [...kinds][0] }),
    };
  }

  get bytes() {
    const sizes = [...[...this.images, ...this.archives].map(({ file }) => file.size), ...this.lists.map(({ size }) => size)];
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  /** Takes in what was found; the lists among it, which are not read yet, are returned. */
  async add(found) {
    const lists = [];
    const leftOut = [];
    for (const [kind, one] of await sorted(found)) {
      if (kind === "image") this.images.push(one);
      else if (kind === "archive") this.archives.push(one);
      else if (kind === "list") lists.push(new List(one.file, one.path));
      else leftOut.push(one.path);
    }
    this.lists = [...this.lists, ...lists];
    this.leftOut = [...this.leftOut, ...leftOut];
    return lists;
  }

  /** What of it is among `some`, each a list or `{file, path}`. */
  only(some) {
    const kept = new Set(some);
    const of = (all) => all.filter((one) => kept.has(one));
    return new Selection({ images: of(this.images), archives: of(this.archives), lists: of(this.lists) });
  }
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
