/** Lists of URLs as the items of a job, by the rules of `image-search ingest`. */

import { parseCSV } from "./csv.js";

const MAX_LIST_BYTES = 64 * 2 ** 20; // what this page reads into its memory
const NUMBER = /^-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?$/;
const TABLES = [".csv", ".tsv"];
const JSON_LINES = [".jsonl", ".ndjson"];

export const LIST_SUFFIXES = [".txt", ...TABLES, ...JSON_LINES];

/** The end of a file's name from its last dot on, in small letters; empty where it has none. */
export const suffixOf = (name) => (name.includes(".") ? `.${name.split(".").at(-1).toLowerCase()}` : "");

/** The items of a file. Throws an Error whose message says what is wrong with it. */
export async function itemsOfFile(file) {
  if (file.size > MAX_LIST_BYTES) {
    throw new Error("too long a list for the page: use `image-search ingest` on the command line");
  }
  const suffix = suffixOf(file.name);
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text;
  try {
    text = decoder.decode(await file.arrayBuffer());
  } catch {
    throw new Error("it is not UTF-8: save it as such");
  }
  if (TABLES.includes(suffix)) return itemsOfTable(text);
  return JSON_LINES.includes(suffix) ? itemsOfJSONLines(text) : itemsOfLines(text);
}

/** The items of what somebody typed or pasted: a table if its head has a `url`, JSON lines, or URLs. */
export function itemsOfText(text) {
  if (text.trimStart().startsWith("{")) return itemsOfJSONLines(text);
  const [head] = text.trimStart().split(/[\r\n]/, 1);
  const isTable = /[,;\t]/.test(head) && !head.includes("://") && /(^|[,;\t])"?url"?\s*([,;\t]|$)/i.test(head);
  return isTable ? itemsOfTable(text.trimStart()) : itemsOfLines(text);
}

function itemsOfLines(text) {
  return text
    .split(/\r\n|\n|\r/)
    .map((line) => line.replace(/^\uFEFF/, "").trim())
    .filter((line) => line && !line.startsWith("#"))
    .map((url) => ({ url, metadata: {} }));
}

function itemsOfTable(text) {
  const [head = [], ...rows] = parseCSV(text);
  const names = head.map((name) => name.trim());
  const at = names.findIndex((name) => name.toLowerCase() === "url");
  if (at < 0) throw new Error("it has no column `url`");
  return rows.map((row) => {
    const metadata = {};
    let key = "";
    names.forEach((name, column) => {
      const cell = row[column] ?? "";
      if (column === at || !name || !cell) return;
      if (name === "key") key = cell.trim();
      else metadata[name] = valueOfText(cell);
    });
    return { url: (row[at] ?? "").trim(), ...(key && { key }), metadata };
  });
}

function itemsOfJSONLines(text) {
  return text
    .replace(/^\uFEFF/, "")
    .split(/\r\n|\n|\r/)
    .flatMap((line, at) => (line.trim() ? [itemOfJSON(line, at + 1)] : []));
}

function itemOfJSON(line, lineNumber) {
  let row;
  try {
    row = JSON.parse(line);
  } catch {
    throw new Error(`line ${lineNumber} is not JSON`);
  }
  if (typeof row?.url !== "string") throw new Error(`line ${lineNumber} is no object with a \`url\``);
  const { url, key, metadata: nested, ...rest } = row;
  const own = nested !== null && typeof nested === "object" && !Array.isArray(nested) ? nested : {};
  const metadata = {};
  for (const [name, value] of Object.entries({ ...rest, ...own })) {
    if (value !== null) metadata[name] = plain(value);
  }
  return { url, ...(key != null && key !== "" && { key: String(key) }), metadata };
}

function plain(value) {
  if (Array.isArray(value)) return value.map(String);
  return typeof value === "object" ? JSON.stringify(value) : value;
}

/**
 * A cell's or field's value: numbers, true and false become such; "quoted" stays text, and so does what a
 * number's spelling would not survive, such as a leading zero.
 */
export function valueOfText(text) {
  if (text.length > 1 && text.startsWith('"') && text.endsWith('"')) return text.slice(1, -1);
  if (text === "true" || text === "false") return text === "true";
  const isNumber = NUMBER.test(text) && Math.abs(Number(text)) <= Number.MAX_SAFE_INTEGER;
  return isNumber ? Number(text) : text;
}
