/** Past and present jobs: all of them, or one. */

import { isRefusal } from "../lib/answers.js";
import { notify } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { poll } from "../lib/timing.js";
import { isFinished } from "./follow.js";
import { number, timeAgo } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { showJob } from "./job.js";
import { STATUSES, countsList, jobPath, jobTitle, statusBadge } from "./job_card.js";
import { navigate } from "../shell/router.js";

const PAGE = 50;
const REFRESH_MS = 3000;
const FILTERS = [["", "All jobs"], ...Object.entries(STATUSES)];

export async function show(container, params, signal) {
  if (params.get("id")) await showJob(container, params, signal);
  else await showList(container, params, signal);
}

async function showList(container, params, signal) {
  const status = params.get("status") ?? "";
  const rows = h("tbody", {});
  const older = h("tbody", {});
  const heads = ["Job", "Status", "Progress", "Started"].map((name) => h("th", { scope: "col" }, name));
  const table = h("table", { class: "table jobs", hidden: true }, h("thead", {}, h("tr", {}, ...heads)), rows, older);
  const message = h("p", { class: "empty", role: "status" });
  const more = h("button", { class: "button", type: "button", hidden: true, onclick: showMore }, "Show more");
  container.append(
    h("div", { class: "column" }, h("header", { class: "row between" }, h("h1", {}, "Jobs"), filter(status)), message, table, more),
  );

  const newest = new Map();
  let cursor = null;

  function page(from) {
    const query = new URLSearchParams({ limit: PAGE, ...(status && { status }), ...(from && { cursor: from }) });
    return api(`/v1/jobs?${query}`, { signal, needs: ["jobs", "next_cursor"] });
  }

  async function refresh() {
    let isRefused = false;
    try {
      const { jobs, next_cursor: next } = await page();
      if (!older.children.length) cursor = next;
      paint(jobs);
      message.replaceChildren(...(jobs.length ? [] : nothing(status)));
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
      const known = newest.get(job.job_id) ?? jobRow(job);
      if (!newest.has(job.job_id)) rows.insertBefore(known.row, rows.children[place] ?? null);
      newest.set(job.job_id, known);
      known.update(job);
    });
  }

  async function showMore() {
    try {
      const { jobs, next_cursor: next } = await page(cursor);
      older.append(...jobs.map((job) => jobRow(job).row));
      cursor = next;
      more.hidden = next === null;
    } catch (error) {
      if (!signal.aborted) notify(error.message, { kind: "error" });
    }
  }

  poll(refresh, REFRESH_MS, signal);
}

function filter(status) {
  const select = h(
    "select",
    {
      class: "field",
      id: "status",
      onchange: () => navigate(select.value ? `/jobs?${new URLSearchParams({ status: select.value })}` : "/jobs"),
    },
    ...FILTERS.map(([value, text]) => h("option", { value, selected: value === status }, text)),
  );
  return h("div", { class: "row" }, h("label", { class: "visually-hidden", for: "status" }, "Which jobs"), select);
}

function nothing(status) {
  if (status) return ["No job has this status. ", h("a", { href: "/jobs" }, "Show all")];
  return ["There are no jobs yet. ", h("a", { href: "/ingest" }, "Add pictures")];
}

function jobRow(first) {
  const link = h("a", { href: jobPath(first.job_id) });
  const [status, progress, started] = [h("td", {}), h("td", {}), h("td", { class: "muted" })];
  const row = h("tr", {}, h("td", {}, link), status, progress, started);
  let shown = "";

  function update(job) {
    started.replaceChildren(timeAgo(job.started_at ?? job.created_at));
    const text = JSON.stringify(job);
    if (text === shown) return;
    shown = text;
    link.textContent = jobTitle(job);
    status.replaceChildren(statusBadge(job.status));
    progress.replaceChildren(...(isFinished(job) ? [countsList(job)] : progressOf(job)));
  }

  update(first);
  return { row, update, createdAt: first.created_at };
}

function progressOf(job) {
  const done = job.total - job.counts.pending - job.counts.fetched;
  return [
    h("progress", { class: "bar", max: "1", value: job.progress, "aria-label": jobTitle(job) }),
    h("span", { class: "muted small numbers" }, `${number(done)} of ${number(job.total)}`),
  ];
}
