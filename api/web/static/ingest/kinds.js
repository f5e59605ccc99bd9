/** Which files are pictures, archives and lists, by the rules of `image-search ingest`. */

import { limits } from "../lib/server.js";
import { read } from "./reading.js";

const HEAD_BYTES = 16;
const IMAGE_HEAD = new RegExp(`^(?:${limits.image_head})`, "s");
const SHOWN_KINDS = 12;
const SHOWN_CHARS = 40;
const AT_ONCE = 100; // files that are looked into

/** For the file chooser: every kind of file that is taken. */
export const ACCEPTED = [...limits.image_suffixes, ...limits.archive_suffixes, ...limits.list_suffixes].join(",");

/** `[kind, found]` of each of `{file, path}`: `image`, `archive`, `list`, or null for what is left out. */
export async function sorted(found) {
  const kinds = [];
  for (let at = 0; at < found.length; at += AT_ONCE) {
    kinds.push(...(await Promise.all(found.slice(at, at + AT_ONCE).map(kindOf))));
  }
  return found.map((one, at) => [kinds[at], one]);
}

/** By its name, or, where that says nothing, by its first bytes. Of a folder only the pictures are wanted. */
async function kindOf({ file, path }) {
  if (isHidden(path)) return null;
  const suffix = suffixOf(path);
  const isInFolder = path.includes("/");
  if (limits.image_suffixes.includes(suffix)) return "image";
  if (!isInFolder && limits.list_suffixes.includes(suffix === ".gz" ? suffixOf(path.slice(0, -3)) : suffix)) return "list";
  if (!isInFolder && limits.archive_suffixes.includes(suffix)) return "archive";
  return !(isInFolder && suffix) && (await isImage(file)) ? "image" : null;
}

async function isImage(file) {
  try {
    const bytes = new Uint8Array(await read(file.slice(0, HEAD_BYTES)));
    return IMAGE_HEAD.test(String.fromCharCode(...bytes));
  } catch {
    return false; // it cannot be read
  }
}

/** A name's suffix with its dot, in small letters; empty where it has none, or a strange one. */
export function suffixOf(path) {
  const [, suffix] = /[^/]\.([\p{L}\p{N}]{1,10})$/u.exec(path) ?? [];
  return suffix && !/^\p{Nd}+$/u.test(suffix) ? `.${suffix.toLowerCase()}` : "";
}

const isHidden = (path) => path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX");

/** What was left out by its paths, as a `Map` of kinds, those with the most first: "3 .json", "2 Thumbs.db". */
export function leftOutByKind(paths) {
  const kinds = Map.groupBy(paths, (path) => (isHidden(path) ? "hidden" : suffixOf(path) || "without a suffix"));
  return new Map([...kinds].sort(([, some], [, others]) => others.length - some.length));
}

/** "3 .json, 2 Thumbs.db": files of one suffix that all have the same name are told of by that. */
export function leftOutText(kinds) {
  const counted = [...kinds].map(([kind, paths]) => {
    const [name, ...others] = new Set(paths.map((path) => path.split("/").at(-1)));
    const isTold = !others.length && [...name].length <= SHOWN_CHARS && !limits.image_suffixes.includes(suffixOf(name));
    return [paths.length, isTold ? name : kind];
  });
  const rest = counted.splice(SHOWN_KINDS).reduce((sum, [count]) => sum + count, 0);
  if (rest) counted.push([rest, "of other kinds"]);
  return counted.map(([count, name]) => `${count} ${name}`).join(", ");
}
