/** RFC 4180, and what spreadsheets write besides: a byte order mark, `;` or tabs between fields, any line end. */

const DELIMITERS = [",", ";", "\t"];
const SNIFFED = 65_536;

/** The rows, each an array of its fields as text; empty lines are left out. Throws an Error that names the line. */
export function parseCSV(text) {
  const source = text.replace(/^\uFEFF/, "");
  return [...rows(source, delimiterOf(source))];
}

function delimiterOf(text) {
  const [head] = text.slice(0, SNIFFED).replace(/"[^"]*"/g, "").split(/[\r\n]/, 1);
  const times = (delimiter) => head.split(delimiter).length;
  return DELIMITERS.reduce((best, one) => (times(one) > times(best) ? one : best));
}

function* rows(text, delimiter) {
  const field = new RegExp(
    `(?:"([^"]*(?:""[^"]*)*)"|([^"${delimiter}\\r\\n][^${delimiter}\\r\\n]*)?)(${delimiter}|\\r\\n|\\n|\\r|$)`,
    "y",
  );
  let row = [];
  while (field.lastIndex < text.length || row.length) {
    const start = field.lastIndex;
    const found = field.exec(text);
    if (!found) throw new Error(`line ${lineAt(text, start)}: a quoted field does not end with a quote`);
    const [, quoted, plain = "", end] = found;
    row.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === delimiter) continue;
    if (row.length > 1 || row[0]) yield row;
    row = [];
  }
}

const lineAt = (text, offset) => text.slice(0, offset).split(/\r\n|\n|\r/).length;
