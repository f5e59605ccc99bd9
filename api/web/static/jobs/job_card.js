/** One job as it goes: bar, counts, rate, what failed, and what can be done about it. */

import { confirmDialog, notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { JOB, follow, isFinished } from "./follow.js";
import { duration, number, plural, rate } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { forgetResults } from "../search/results.js";
import { webURL } from "../lib/sources.js";

export const STATUSES = {
  queued: "Queued",
  running: "Running",
  succeeded: "Succeeded",
  partial: "Partial",
  failed: "Failed",
  cancelled: "Cancelled",
};
const OPEN_STATES = ["pending", "fetched"]; // as all states, by the API's names: a newer server may know more
const SHOWN_ERRORS = 5;
const ANNOUNCED_STEP = 0.1; // of the progress, to screen readers

export const jobPath = (id) => `/jobs/${encodeURIComponent(id)}`;

/** "312 pictures into images", "Export of images". */
export function jobTitle(job) {
  if (job.kind === "ingest") return `${plural(job.total, "picture")} into ${job.collection}`;
  if (job.kind === "import") return `Import into ${job.collection}`;
  return `${job.kind.charAt(0).toUpperCase()}${job.kind.slice(1)} of ${job.collection}`;
}

export function searchLink(collection) {
  const href = `/?${new URLSearchParams({ collection })}`;
  return h("a", { class: "button", href }, icon("search"), "Search these");
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

/** A source is shown as a link only where it is a web address. */
export function sourceOf(source) {
  if (!webURL(source)) return h("bdi", { class: "source" }, source);
  return h("a", { class: "source", href: source, target: "_blank", rel: "noopener noreferrer" }, source);
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
  return [
    `${number(job.total - job.counts.pending - job.counts.fetched)} of ${number(job.total)}`,
    job.rate_per_s && rate(job.rate_per_s),
    job.eta_s !== null && `about ${duration(job.eta_s)} left`,
  ];
}

function errorList(job) {
  const shown = job.errors.slice(0, SHOWN_ERRORS);
  const rest = job.counts.failed - shown.length;
  return [
    ...shown.map((error) => h("li", {}, sourceOf(error.source), h("span", { class: "reason" }, error.detail))),
    rest > 0 && h("li", {}, h("a", { href: `${jobPath(job.job_id)}?status=failed` }, `and ${number(rest)} more`)),
  ].filter(Boolean);
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
    errors: h("ul", { class: "errors" }),
    actions: h("div", { class: "row" }),
    live: h("p", { class: "visually-hidden", role: "status" }),
  };
  const element = h(
    "article",
    { class: "card job" },
    h("header", { class: "row" }, view.title, view.status),
    view.bar,
    h("div", { class: "row between" }, view.counts, view.pace),
    view.note,
    view.errors,
    view.actions,
    view.live,
  );
  let shown = null;
  let announced = 0;

  function update(job) {
    const title = jobTitle(job);
    if (shown?.total !== job.total || !shown) {
      view.title.replaceChildren(isPage ? title : h("a", { href: jobPath(job.job_id) }, title));
      view.bar.setAttribute("aria-label", title);
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
    if (JSON.stringify(shown?.errors) !== JSON.stringify(job.errors)) view.errors.replaceChildren(...errorList(job));
    view.errors.hidden = isPage || !job.errors.length;
    announce(job, title);
    shown = job;
    onChange(job);
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
    const failed = job.counts.failed > 0 && isFinished(job);
    const into = job.kind === "ingest" || job.kind === "import";
    const found = isFinished(job) && into && job.counts.indexed + job.counts.duplicate > 0;
    return [
      found && searchLink(job.collection),
      failed && h("button", { class: "button", type: "button", onclick: () => retry().then(focusCard) }, icon("retry"), "Retry failed"),
      !isFinished(job) && h("button", { class: "button", type: "button", onclick: askToCancel }, "Cancel"),
    ].filter(Boolean);
  }

  async function retry() {
    await apply(() => api(`/v1/jobs/${encodeURIComponent(shown.job_id)}/retry`, { method: "POST", needs: JOB }));
  }

  async function askToCancel() {
    const question = "Cancel this job? What is not yet indexed is left out.";
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
    try {
      const wasFinished = isFinished(shown);
      update(await change());
      if (wasFinished) watch();
    } catch (error) {
      notify(error.message, { kind: "error" });
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
  return { element, retry, cancel };
}

function noteOf(job) {
  if (job.result?.detail) return job.result.detail;
  return job.truncated ? "The upload broke off: this is what arrived of it." : "";
}
