/** What is known of one list: its rows and columns, and what is done with these, which can be changed. */

import { h, icon } from "../lib/dom.js";
import { plural, quoted, size } from "../lib/format.js";
import { notesList } from "../jobs/notes.js";
import { cut } from "./selection.js";

const SHOWN_ROWS = 5;
const SHOWN_CHARS = 48; // of a URL
const KINDS = { csv: "Table (CSV)", json: "Table (JSON)", jsonl: "Table (JSON lines)", parquet: "Table (Parquet)", list: "URLs" };
const USES = { url: "the picture’s URL", key: "the picture’s key", left_out: "left out" };

/** `element` shows `list`; `update` has it show what is known now. */
export function listView(list, { onRemove }) {
  const name = list.isTyped ? "What you pasted" : list.path;
  const about = h("p", { class: "muted small numbers", role: "status" });
  const remove = h(
    "button",
    { class: "button quiet round", type: "button", "aria-label": `Remove ${name}`, onclick: () => onRemove(list) },
    icon("close"),
  );
  const body = h("div", { class: "stack" });
  const columns = h("details", { hidden: true }, h("summary", {}));
  const element = h(
    "section",
    { class: "list stack", "aria-label": name },
    h("header", { class: "row between" }, h("div", {}, h("h3", {}, h("bdi", {}, name)), about), !list.isTyped && remove),
    body,
    columns,
  );
  let shown = null;

  function update() {
    about.textContent = aboutOf(list);
    element.setAttribute("aria-busy", list.isReading);
    if (list.isReading || shown === (list.preview ?? list.error)) return;
    shown = list.preview ?? list.error;
    const focused = element.contains(document.activeElement) && document.activeElement.dataset.control;
    body.replaceChildren(...bodyOf(list));
    const known = list.preview?.columns ?? [];
    columns.hidden = !known.length;
    columns.replaceChildren(h("summary", {}, columnsText(known)), columnsTable(list, known));
    if (focused) element.querySelector(`[data-control="${focused}"]`)?.focus();
  }

  update();
  return { element, update };
}

function aboutOf({ isReading, preview, error, file, rows: { count, isAll } }) {
  if (isReading) return "Reading…";
  if (error) return "";
  if (!preview) return `${size(file.size)}: too large to be looked into before it is sent`;
  const part = isAll ? "" : `at least ${plural(count, "row")}, by its first MB of ${size(file.size)}; what its columns are may change`;
  return `${KINDS[preview.kind] ?? preview.kind} · ${part || plural(count, "row")}`;
}

function bodyOf(list) {
  const { preview, error } = list;
  const names = preview ? preview.columns.map((column) => column.name) : (error?.columns ?? []);
  return [
    error && h("p", { class: "fault", role: "alert" }, error.message),
    names.length > 0 && choosers(list, names),
    preview && rowsTable(preview),
    ...notesList(preview?.notes ?? []),
  ].filter(Boolean);
}

/** Which column has the URLs, and which the keys. */
function choosers(list, names) {
  const used = (use) => list.preview?.columns.find((column) => column.use === use)?.name ?? "";
  const select = (use, label, none) => {
    const chosen = used(use);
    const options = [!chosen || none ? ["", none ?? "choose one"] : null, ...[...new Set(names)].map((name) => [name, name || "(no name)"])];
    const element = h(
      "select",
      { class: "field", dataset: { control: use }, onchange: () => list.choose({ [`${use}_column`]: element.value }) },
      ...options.filter(Boolean).map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
    );
    return h("label", {}, h("span", { class: "small" }, label), element);
  };
  return h("div", { class: "row choosers" }, select("url", "Column with the URLs"), list.preview && select("key", "Column with your keys", "none"));
}

function rowsTable({ rows, columns, total }) {
  const shown = rows.slice(0, SHOWN_ROWS);
  const names = columns.length
    ? columns.filter(({ use }) => use === "metadata").map(({ metadata_name: name }) => name)
    : [...new Set(shown.flatMap(({ metadata }) => Object.keys(metadata)))];
  const hasKeys = rows.some(({ key }) => key !== null);
  const heads = ["URL", ...(hasKeys ? ["key"] : []), ...names];
  const line = ({ url, key, metadata, error }) =>
    h("tr", {}, urlCell(url, error), hasKeys && cell(key), ...names.map((name) => cell(metadata[name])));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "First rows" },
    h(
      "table",
      { class: "table" },
      h("thead", {}, h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, h("bdi", {}, name))))),
      h("tbody", {}, ...shown.map(line)),
    ),
    total > shown.length && h("p", { class: "muted small" }, `and ${plural(total - shown.length, "more row")}`),
  );
}

function urlCell(url, error) {
  const shown = h("bdi", { title: url }, cut(url, SHOWN_CHARS));
  if (!error) return h("td", {}, shown);
  return h("td", { class: "fault" }, shown, h("strong", {}, ` ${quoted(error.replace(/^\w+: /, ""))}`));
}

const cell = (value) => h("td", {}, h("bdi", {}, value === undefined || value === null ? "" : String(value)));

function columnsText(columns) {
  const count = (use) => columns.filter((column) => column.use === use).length;
  const parts = [`${count("metadata")} become metadata`, count("left_out") && `${count("left_out")} left out`];
  return `${plural(columns.length, "column")}: ${parts.filter(Boolean).join(", ")}`;
}

function columnsTable(list, columns) {
  const { skip_columns: skipped } = list.choices;
  const row = (column, at) => {
    const isKept = column.use === "metadata";
    const keep = h("input", {
      type: "checkbox",
      checked: isKept,
      disabled: !isKept && !skipped.includes(column.name),
      dataset: { control: `keep-${at}` },
      "aria-label": `Keep ${column.name}`,
      onchange: () => list.choose({ skip_columns: keep.checked ? skipped.filter((name) => name !== column.name) : [...skipped, column.name] }),
    });
    return h(
      "tr",
      {},
      h("td", {}, keep),
      h("td", {}, h("bdi", {}, column.name || "(no name)")),
      h("td", {}, isKept ? h("code", {}, column.metadata_name) : (USES[column.use] ?? column.use)),
      h("td", { class: "muted" }, column.type ?? ""),
    );
  };
  const heads = ["Keep", "In the file", "Becomes", "Type"].map((head) => h("th", { scope: "col" }, head));
  return h("div", { class: "scroll" }, h("table", { class: "table" }, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...columns.map(row))));
}
