/** One job as it goes: bar, counts, rate, what failed, and what can be done about it. */

import { confirmDialog, notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { JOB, follow, isFinished } from "./follow.js";
import { duration, number, plural, rate } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { forgetResults } from "../search/results.js";
import { withCollection } from "../lib/collection.js";
import { poll } from "../lib/timing.js";
import { failureSections, worthRetrying } from "./failures.js";
import { notesList } from "./notes.js";
import { waitOf } from "./waiting.js";

export const STATUSES = {
  queued: "Queued",
  running: "Running",
  succeeded: "Succeeded",
  partial: "Partial",
  failed: "Failed",
  cancelled: "Cancelled",
};
const OPEN_STATES = ["pending", "fetched"]; // as all states, by the API's names: a newer server may know more
const ORIGINS = {
  page: "on the page",
  command_line: "from the command line",
  client: "from the Python client",
  api: "over the API",
};
// What becomes of the rest of a job that is cancelled, by its kind.
const CANCELLED = {
  delete: "What is not yet done stays as it is.",
  update: "What is not yet done stays as it is.",
  sync: "What is done stays; the next sync takes the rest.",
};
const MADE_OF = { files: "files", folder: "a folder", archive: "an archive", list: "a list", urls: "URLs" };
const MAX_SEARCHED_JOBS = 100; // in an address
const SAMPLES = 3;
/** Between two looks at what is counted down. */
export const TICK_MS = 1000;
const ANNOUNCED_STEP = 0.1; // of the progress, to screen readers

/** The page of a job, in its collection. */
export const jobPath = (id, { collection, ...params } = {}) =>
  withCollection(`/jobs/${encodeURIComponent(id)}?${new URLSearchParams(params)}`, collection);

/** The page of all jobs of one upload or command, of which `job` is one. */
export const groupPath = ({ group, collection }) => withCollection(`/jobs?${new URLSearchParams({ group })}`, collection);

/** "holiday · 312 pictures into images", "Deletion of 12 pictures of images", "Export of images". */
export function jobTitle(job) {
  return [job.name, whatOf(job)].filter(Boolean).join(" · ");
}

function whatOf(job) {
  if (job.kind === "ingest") return `${plural(job.total, "picture")} into ${job.collection}`;
  if (job.kind === "import") return `Import into ${job.collection}`;
  if (job.kind === "sync") return `Sync into ${job.collection}`;
  if (isChange(job)) return `${job.kind === "delete" ? "Deletion" : "Update"} of ${plural(job.total, "picture")} of ${job.collection}`;
  return `${job.kind.charAt(0).toUpperCase()}${job.kind.slice(1)} of ${job.collection}`;
}

const isChange = (job) => job.kind === "delete" || job.kind === "update";

/** "A folder, from the command line", "By the source “shop”"; empty where it is not known. */
export function originOf(job) {
  const { made_of: of, origin } = job;
  if (job.kind === "sync" && of) return `By the source “${of}”`;
  const text = [MADE_OF[of] ?? of, ORIGINS[origin] ?? origin].filter(Boolean).join(", ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Leads to a search among what jobs, by their ids, brought into a collection; among all of it where they are very many. */
export function searchLink(collection, ids) {
  const job = ids.length === 1 ? ids[0] : { in: ids };
  const filter = ids.length <= MAX_SEARCHED_JOBS ? { f: JSON.stringify({ job }) } : {};
  const href = withCollection(`/?${new URLSearchParams(filter)}`, collection);
  return h("a", { class: "button", href }, icon("search"), "Search these");
}

/** "Retry failed (3 of 10 are worth it)" */
export function retryText(job, text = "Retry failed") {
  const worth = worthRetrying(job);
  if (worth === null || worth === job.counts.failed) return text;
  return `${text} (${worth ? number(worth) : "none"} of ${number(job.counts.failed)} ${worth > 1 ? "are" : "is"} worth it)`;
}

export function statusBadge(status) {
  return h("span", { class: "status", dataset: { status } }, STATUSES[status] ?? status);
}

/** The counts of what is done that are not zero: `[["indexed", 240], …]`. */
function countsOf(job) {
  return Object.entries(job.counts).filter(([state, count]) => count && !OPEN_STATES.includes(state));
}

/** The counts of a job, or of what `combined` makes of several, as a list. */
export function countsList(job) {
  const counts = countsOf(job).map(([state, count]) =>
    h("li", { dataset: { state } }, h("strong", {}, number(count)), ` ${state}`),
  );
  return h("ul", { class: "counts numbers" }, ...counts);
}

/** "240 of 312 · 85 per second · about 12 s left" */
export function paceOf(job) {
  return pace(job).filter(Boolean).join(" · ");
}

function pace(job) {
  if (isFinished(job)) {
    const took = job.started_at ? (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000 : 0;
    return [took >= 1 && `took ${duration(took)}`, job.rate_per_s && rate(job.rate_per_s)];
  }
  if (job.kind === "sync" && !job.total) return ["reading the listing"];
  return [
    `${number(job.total - job.counts.pending - job.counts.fetched)} of ${number(job.total)}`,
    job.rate_per_s && rate(job.rate_per_s),
    job.retrying ? waitOf(job.retrying) : job.eta_s !== null && `about ${duration(job.eta_s)} left`,
  ];
}

/**
 * The card of a job, which follows it until the signal. `onChange` is called with the job as it is now, also
 * before this returns; `retry` and `cancel` do what its buttons do, unasked;
 * `heading` is the tag of its title, `isPage` leaves out the link to the job's own page.
 */
export function jobCard(first, { signal, onChange = () => {}, heading = "h3", isPage = false }) {
  const view = {
    title: h(heading, {}),
    status: h("span", {}),
    bar: h("progress", { class: "bar", max: "1" }),
    pace: h("p", { class: "muted small numbers" }),
    counts: h("div", {}),
    note: h("p", { class: "note" }),
    notes: h("div", { class: "stack" }),
    origin: h("p", { class: "muted small" }),
    errors: h("div", { class: "stack failures" }),
    actions: h("div", { class: "row" }),
    live: h("p", { class: "visually-hidden", role: "status" }),
  };
  const element = h(
    "article",
    { class: "card job" },
    h("header", { class: "row" }, h("div", {}, view.title, view.origin), view.status),
    view.bar,
    h("div", { class: "row between" }, view.counts, view.pace),
    view.note,
    view.notes,
    view.errors,
    view.actions,
    view.live,
  );
  let shown = null;
  let announced = 0;
  let isChanging = false; // a second click on what was asked for already is none

  function update(job) {
    const title = jobTitle(job);
    if (shown?.total !== job.total || !shown) {
      view.title.replaceChildren(isPage ? title : h("a", { href: jobPath(job.job_id, { collection: job.collection }) }, title));
      view.bar.setAttribute("aria-label", title);
      view.origin.textContent = originOf(job);
    }
    if (shown?.status !== job.status) {
      view.status.replaceChildren(statusBadge(job.status));
      view.actions.replaceChildren(...actions(job));
      element.dataset.status = job.status;
    }
    view.bar.value = job.progress;
    view.bar.hidden = isFinished(job);
    view.pace.textContent = paceOf(job);
    view.counts.replaceChildren(countsList(job));
    view.note.textContent = noteOf(job);
    view.note.hidden = !view.note.textContent;
    if (notesText(shown) !== notesText(job)) view.notes.replaceChildren(...notesList(job.notes));
    view.notes.hidden = !job.notes?.length;
    if (failuresText(shown) !== failuresText(job)) {
      view.errors.replaceChildren(...failureSections(job, { samples: isPage ? 0 : SAMPLES }), ...moreErrors(job, isPage));
    }
    view.errors.hidden = !job.counts.failed;
    announce(job, title);
    shown = job;
    onChange(job);
  }

  function countDown() {
    if (shown.retrying) view.pace.textContent = paceOf(shown);
  }

  function announce(job, title) {
    const ended = isFinished(job) && shown && !isFinished(shown);
    if (ended) forgetResults();
    if (!ended && (isFinished(job) || job.progress < announced + ANNOUNCED_STEP)) return;
    announced = job.progress;
    const counts = countsOf(job).map(([state, count]) => `${number(count)} ${state}`);
    view.live.textContent = ended
      ? `${title}: ${STATUSES[job.status]}, ${counts.join(", ")}`
      : `${title}: ${Math.round(100 * job.progress)} %`;
  }

  function actions(job) {
    const failed = job.counts.failed > 0 && isFinished(job) && job.kind !== "sync"; // the next sync tries those again
    const into = ["ingest", "import", "sync"].includes(job.kind);
    const found = isFinished(job) && into && job.counts.indexed + job.counts.duplicate > 0;
    return [
      found && searchLink(job.collection, [job.job_id]),
      failed && h("button", { class: "button", type: "button", onclick: () => retry().then(focusCard) }, icon("retry"), retryText(job)),
      !isFinished(job) && h("button", { class: "button", type: "button", onclick: askToCancel }, "Cancel"),
    ].filter(Boolean);
  }

  async function retry() {
    await apply(() => api(`/v1/jobs/${encodeURIComponent(shown.job_id)}/retry`, { method: "POST", needs: JOB }));
  }

  async function askToCancel() {
    const question = `Cancel this job? ${CANCELLED[shown.kind] ?? "What is not yet indexed is left out."}`;
    if (await confirmDialog(question, { action: "Cancel the job" })) await cancel().then(focusCard);
  }

  // The button that had the focus is gone.
  function focusCard() {
    element.tabIndex = -1;
    element.focus();
  }

  async function cancel() {
    await apply(() => api(`/v1/jobs/${encodeURIComponent(shown.job_id)}`, { method: "DELETE", needs: JOB }));
  }

  async function apply(change) {
    if (isChanging) return;
    isChanging = true;
    try {
      const wasFinished = isFinished(shown);
      update(await change());
      if (wasFinished) watch();
    } catch (error) {
      notify(error.message, { kind: "error" });
    } finally {
      isChanging = false;
    }
  }

  async function watch() {
    announced = shown.progress;
    try {
      if (!isFinished(shown)) await follow(shown.job_id, update, signal);
    } catch (error) {
      if (!signal.aborted) notify(error.message, { kind: "error" });
    }
  }

  update(first);
  watch();
  poll(countDown, TICK_MS, signal);
  return { element, retry, cancel };
}

const notesText = (job) => JSON.stringify(job?.notes);
const failuresText = (job) => JSON.stringify([job?.failures, job?.errors]);

function moreErrors(job, isPage) {
  if (isPage || !job.counts.failed) return [];
  return [h("p", {}, h("a", { href: jobPath(job.job_id, { collection: job.collection, status: "failed" }) }, "Every failed item"))];
}

function noteOf(job) {
  if (job.result?.detail) return job.result.detail;
  return job.truncated ? "The upload broke off: this is what arrived of it." : "";
}
