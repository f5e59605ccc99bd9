/** What is known of one list: its rows and columns, and what is done with these, which can be changed. */

import { h, icon } from "../lib/dom.js";
import { plural, quoted, size } from "../lib/format.js";
import { webURL } from "../lib/sources.js";
import { notesList } from "../jobs/notes.js";
import { cut } from "./selection.js";

const SHOWN_ROWS = 5;
const SHOWN_COLUMNS = 200;
const SHOWN_CHARS = 48; // of a URL
const SHOWN_VALUE_CHARS = 120;
const KINDS = { csv: "Table (CSV)", json: "Table (JSON)", jsonl: "Table (JSON lines)", parquet: "Table (Parquet)", list: "URLs" };
const USES = { url: "the picture’s URL", key: "the picture’s key", left_out: "left out" };

const NO_URLS = "It is not clear which column has the URLs: choose it.";

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
    columns.hidden = !list.columns.length;
    columns.replaceChildren(h("summary", {}, columnsText(list.columns)), columnsTable(list));
    if (focused) element.querySelector(`[data-control="${focused}"]`)?.focus();
  }

  update();
  return { element, update };
}

function aboutOf({ isReading, preview, error, size: bytes, rows: { count, isAll } }) {
  if (isReading) return "Reading…";
  if (error) return "";
  if (!preview) return `${size(bytes)}: too large to be looked into before it is sent`;
  const part = isAll ? "" : `at least ${plural(count, "row")}, by the first MB of ${size(bytes)}`;
  return `${KINDS[preview.kind] ?? preview.kind} · ${part || plural(count, "row")}`;
}

function bodyOf(list) {
  const { preview, error, names } = list;
  return [
    error && h("p", { class: "fault", role: "alert" }, error.columns ? NO_URLS : error.message),
    names.length > 0 && choosers(list, names),
    preview && rowsTable(preview),
    ...notesList(preview?.notes ?? []),
  ].filter(Boolean);
}

/** Which column has the URLs, and which the keys. */
function choosers(list, names) {
  const used = (use) => list.columns.find((column) => column.use === use)?.name;
  const chooser = (use, other, label, none) => {
    const chosen = used(use) ?? list.choices[`${use}_column`] ?? "";
    const element = h(
      "select",
      { class: "field", dataset: { control: use }, onchange: choose },
      ...(none && (!chosen || use === "key") ? [h("option", { value: "" }, none)] : []),
      ...[...new Set(names)].map((name) => h("option", { value: name, selected: name === chosen }, name || "(no name)")),
    );

    function choose() {
      const { choices } = list; // those of now: they may have changed since this was shown
      const name = element.value;
      // A column that is taken for the key by its name is left out where it is to be none.
      const dropped = !name && !choices.key_column ? [chosen] : [];
      list.choose({
        [`${use}_column`]: name,
        ...(choices[`${other}_column`] === name && { [`${other}_column`]: "" }),
        skip_columns: [...choices.skip_columns.filter((one) => one !== name), ...dropped],
      });
    }

    return h("label", {}, h("span", { class: "small" }, label), element);
  };
  return h("div", { class: "row choosers" }, chooser("url", "key", "Column with the URLs", "choose one"), chooser("key", "url", "Column with your keys", "none"));
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
  const fault = error ? quoted(error.replace(/^\w+: /, "")) : !isURL(url) && "no URL to fetch";
  return h("td", { class: fault ? "fault" : null }, shown, fault && h("strong", {}, fault));
}

/** Whether the server would try to fetch it. */
function isURL(text) {
  const found = webURL(text);
  return Boolean(found?.hostname) && !found.username && !found.password;
}

const cell = (value) => h("td", {}, h("bdi", {}, value === undefined || value === null ? "" : cut(String(value), SHOWN_VALUE_CHARS)));

function columnsText(columns) {
  const count = (use) => columns.filter((column) => column.use === use).length;
  const kept = count("metadata");
  const parts = [`${kept} ${kept === 1 ? "becomes" : "become"} metadata`, count("left_out") && `${count("left_out")} left out`];
  return `${plural(columns.length, "column")}: ${parts.filter(Boolean).join(", ")}`;
}

/** The type of a column; a text's may hold numbers after all, such as prices like 19.90. */
function typeChooser(list, name, type, at) {
  const chosen = list.choices.number_columns;
  const isChosen = chosen.includes(name);
  if (type !== "text" && !isChosen) return type;
  const others = chosen.filter((one) => one !== name);
  return h(
    "select",
    {
      class: "field",
      dataset: { control: `type-${at}` },
      "aria-label": `Type of ${name}`,
      onchange: () => list.choose({ number_columns: isChosen ? others : [...others, name] }),
    },
    ...["text", "number"].map((one) => h("option", { selected: (one === "number") === isChosen }, one)),
  );
}

function columnsTable(list) {
  const { columns } = list;
  const row = ({ name, use, type, metadata_name: becomes }, at) => {
    const isKept = use === "metadata";
    const keep = h("input", {
      type: "checkbox",
      checked: isKept,
      dataset: { control: `keep-${at}` },
      "aria-label": `Keep ${name || "the column without a name"}`,
      onchange: () => {
        const others = list.choices.skip_columns.filter((one) => one !== name);
        list.choose({ skip_columns: keep.checked ? others : [...others, name] });
      },
    });
    return h(
      "tr",
      {},
      h("td", {}, (isKept || list.choices.skip_columns.includes(name)) && keep),
      h("td", {}, h("bdi", {}, name || "(no name)")),
      h("td", {}, isKept ? h("code", {}, becomes) : (USES[use] ?? use)),
      h("td", { class: "muted" }, isKept ? typeChooser(list, name, type, at) : type),
    );
  };
  const heads = ["Keep", "In the file", "Becomes", "Type"].map((head) => h("th", { scope: "col" }, head));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Columns" },
    h("table", { class: "table" }, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...columns.slice(0, SHOWN_COLUMNS).map(row))),
    columns.length > SHOWN_COLUMNS && h("p", { class: "muted small" }, `and ${plural(columns.length - SHOWN_COLUMNS, "more column")}`),
  );
}
