/** Past and present jobs: all of them, or one. */

import { collectionOf, withCollection } from "../lib/collection.js";
import { isRefusal } from "../lib/answers.js";
import { notify } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { poll } from "../lib/timing.js";
import { isFinished } from "./follow.js";
import { plural, timeAgo } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { jobsOfGroup, showGroup } from "./group.js";
import { showJob } from "./job.js";
import { STATUSES, countsList, groupPath, jobPath, jobTitle, originOf, paceOf, statusBadge } from "./job_card.js";
import { navigate } from "../shell/router.js";

const PAGE = 50;
const REFRESH_MS = 3000;
const FILTERS = [["", "All jobs"], ...Object.entries(STATUSES)];

export async function show(container, params, signal) {
  if (params.get("id")) await showJob(container, params, signal);
  else if (params.get("group")) await showGroup(container, params, signal);
  else await showList(container, params, signal);
}

async function showList(container, params, signal) {
  const wanted = { status: params.get("status") ?? "", all: params.has("all"), collection: collectionOf(params) };
  const { status } = wanted;
  const rows = h("tbody", {});
  const older = h("tbody", {});
  const heads = ["Job", "Status", "Progress", "Started"].map((name) => h("th", { scope: "col" }, name));
  const table = h("table", { class: "table jobs", hidden: true }, h("thead", {}, h("tr", {}, ...heads)), rows, older);
  const message = h("p", { class: "empty", role: "status" });
  const more = h("button", { class: "button", type: "button", hidden: true, onclick: showMore }, "Show more");
  container.append(
    h("div", { class: "column" }, h("header", { class: "row between" }, h("h1", {}, "Jobs"), filters(wanted)), message, table, more),
  );

  const newest = new Map();
  let cursor = null;

  function page(from) {
    const query = new URLSearchParams({
      grouped: true,
      limit: PAGE,
      ...(!wanted.all && { collection: wanted.collection }),
      ...(status && { status }),
      ...(from && { cursor: from }),
    });
    return api(`/v1/jobs?${query}`, { signal, needs: ["jobs", "next_cursor"] });
  }

  async function refresh() {
    let isRefused = false;
    try {
      const { jobs, next_cursor: next } = await page();
      if (!older.children.length) cursor = next;
      paint(jobs);
      message.replaceChildren(...(jobs.length ? [] : nothing(wanted)));
    } catch (error) {
      isRefused = isRefusal(error);
      if (!signal.aborted) message.textContent = error.message;
    }
    message.hidden = !message.textContent;
    table.hidden = !newest.size;
    more.hidden = cursor === null;
    return !isRefused;
  }

  /** The first page, which is kept up to date: rows stay where they are, so that focus does. */
  function paint(jobs) {
    const present = new Set(jobs.map((job) => job.job_id));
    for (const [id, { row, createdAt }] of newest) {
      if (present.has(id)) continue;
      newest.delete(id);
      const isPushedOut = older.children.length && createdAt < jobs.at(-1)?.created_at;
      if (isPushedOut) older.prepend(row);
      else row.remove();
    }
    jobs.forEach((job, place) => {
      const known = newest.get(job.job_id) ?? jobRow(job, signal);
      if (!newest.has(job.job_id)) rows.insertBefore(known.row, rows.children[place] ?? null);
      newest.set(job.job_id, known);
      known.update(job);
    });
  }

  async function showMore() {
    try {
      const { jobs, next_cursor: next } = await page(cursor);
      older.append(...jobs.map((job) => jobRow(job, signal).row));
      cursor = next;
      more.hidden = next === null;
    } catch (error) {
      if (!signal.aborted) notify(error.message, { kind: "error" });
    }
  }

  poll(refresh, REFRESH_MS, signal);
}

function filters(wanted) {
  const select = (id, label, options, chosen, change) => {
    const element = h(
      "select",
      { class: "field", id, onchange: () => navigate(listPath({ ...wanted, ...change(element.value) })) },
      ...options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
    );
    return [h("label", { class: "visually-hidden", for: id }, label), element];
  };
  const collections = [["", `Of ${wanted.collection}`], ["all", "Of all collections"]];
  return h(
    "div",
    { class: "row" },
    ...select("of", "Of which collection", collections, wanted.all ? "all" : "", (value) => ({ all: value === "all" })),
    ...select("status", "Which jobs", FILTERS, wanted.status, (value) => ({ status: value })),
  );
}

const listPath = ({ status, all, collection }) =>
  withCollection(`/jobs?${new URLSearchParams({ ...(status && { status }), ...(all && { all: 1 }) })}`, collection);

function nothing(wanted) {
  const { status, all, collection } = wanted;
  if (status) return ["No job has this status. ", h("a", { href: listPath({ ...wanted, status: "" }) }, "Show all")];
  const add = h("a", { href: withCollection("/ingest", collection) }, "Add pictures");
  if (all) return ["There are no jobs yet. ", add];
  return [`There are no jobs of ${collection} yet. `, add, " or ", h("a", { href: listPath({ ...wanted, all: true }) }, "show those of all collections")];
}

const pathOf = ({ job_id: id, collection }) => jobPath(id, { collection });

function jobRow(first, signal) {
  const isGroup = first.parts > 1;
  const link = h("a", { href: isGroup ? groupPath(first) : pathOf(first) });
  const about = h("p", { class: "muted small" });
  const parts = isGroup ? partsOf(first, signal) : null;
  const [status, progress, started] = [h("td", {}), h("td", {}), h("td", { class: "muted" })];
  const row = h("tr", {}, h("td", {}, link, about, parts?.element), status, progress, started);
  let shown = "";

  function update(job) {
    started.replaceChildren(timeAgo(job.started_at ?? job.created_at));
    const text = JSON.stringify(job);
    if (text === shown) return;
    shown = text;
    link.textContent = jobTitle(job);
    about.textContent = originOf(job);
    parts?.update(job);
    status.replaceChildren(statusBadge(job.status));
    progress.replaceChildren(...(isFinished(job) ? [countsList(job)] : progressOf(job)));
  }

  update(first);
  return { row, update, createdAt: first.created_at };
}

/** The jobs of an upload behind a disclosure, asked for while it is open. */
function partsOf(group, signal) {
  const summary = h("summary", {});
  const list = h("ol", { class: "parts" });
  const element = h("details", { ontoggle: load }, summary, list);

  async function load() {
    if (!element.open) return;
    try {
      const jobs = await jobsOfGroup(group.group, group.collection, signal);
      list.replaceChildren(...jobs.reverse().map(partLine));
    } catch (error) {
      if (!signal.aborted) notify(error.message, { kind: "error" });
    }
  }

  function update(job) {
    summary.textContent = plural(job.parts, "job");
    load();
  }

  return { element, update };
}

function partLine(job) {
  return h("li", {}, h("a", { href: pathOf(job) }, plural(job.total, "picture")), " ", statusBadge(job.status), countsList(job));
}

function progressOf(job) {
  return [
    h("progress", { class: "bar", max: "1", value: job.progress, "aria-label": jobTitle(job) }),
    countsList(job),
    h("span", { class: "muted small numbers" }, paceOf(job)),
  ];
}
