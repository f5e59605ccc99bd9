/** One upload as it goes, and the jobs that it has made. */

import { isRefusal } from "../lib/answers.js";
import { confirmDialog } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { isFinished } from "../jobs/follow.js";
import { duration, plural, size } from "../lib/format.js";
import { countsList, jobCard, jobTitle, paceOf, searchLink, statusBadge } from "../jobs/job_card.js";
import { combined } from "../jobs/combined.js";

const MAX_CARDS = 3; // that are shown without being asked for

const TITLES = {
  sending: "Uploading",
  waiting: "Uploading",
  stopped: "Not uploaded",
  cancelled: "Cancelled",
  sent: "Uploaded",
};

/** Shows `transfer` in `list` until the signal, or until it is dismissed; `edit` takes what it was made of back. */
export function showTransfer(list, transfer, { signal, edit }) {
  const view = {
    title: h("h3", {}),
    bar: h("progress", { class: "bar", max: "1", "aria-label": `Upload of ${transfer.label}` }),
    pace: h("p", { class: "muted small numbers" }),
    error: h("div", { class: "fault", role: "alert" }),
    actions: h("div", { class: "row" }),
    jobs: h("div", { class: "stack" }),
    combined: h("div", {}),
  };
  const upload = h("article", { class: "card upload" }, view.title, view.bar, view.pace, view.error, view.actions);
  const element = h("section", { class: "stack", "aria-label": transfer.label }, upload, view.combined, view.jobs);
  const isLarge = transfer.parts > MAX_CARDS;
  const overall = isLarge ? combinedCard(view.combined, view.jobs) : null;
  const shown = { state: null, jobs: 0 };

  function update() {
    const { state, bytes, sent, jobs } = transfer;
    for (; shown.jobs < jobs.length; shown.jobs++) addJob(jobs[shown.jobs]);
    upload.hidden = state === "sent";
    view.bar.value = bytes ? sent / bytes : 0;
    view.bar.hidden = !transfer.isOpen;
    view.pace.textContent = uploadPace(transfer);
    if (shown.state !== state) {
      view.title.textContent = `${TITLES[state]}: ${transfer.label}`;
      view.error.replaceChildren(...errorLines(transfer));
      view.actions.replaceChildren(...actionsOf(transfer, dismiss, edit));
      shown.state = state;
    }
  }

  function addJob(job) {
    const card = { now: job };
    const onChange = (now) => {
      card.now = now;
      overall?.update();
    };
    overall?.add(card);
    Object.assign(card, jobCard(job, { signal, onChange }));
    view.jobs.prepend(card.element);
  }

  function dismiss() {
    transfer.dismiss();
    element.remove();
  }

  list.prepend(element);
  transfer.addEventListener("change", update, { signal });
  update();
}

/** One card in `element` for many jobs, whose own, `cards`, it puts behind a disclosure. */
function combinedCard(element, cards) {
  const view = {
    title: h("h3", {}),
    status: h("span", {}),
    bar: h("progress", { class: "bar", max: "1", "aria-label": "All jobs of this upload" }),
    counts: h("div", {}),
    pace: h("p", { class: "muted small numbers" }),
    actions: h("div", { class: "row" }),
    summary: h("summary", {}),
  };
  const jobs = [];
  let shown = "";

  function update() {
    const all = combined(jobs.map(({ now }) => now));
    view.title.textContent = jobTitle(all);
    view.bar.value = all.progress;
    view.bar.hidden = isFinished(all);
    view.counts.replaceChildren(countsList(all));
    view.pace.textContent = paceOf(all);
    view.summary.textContent = plural(jobs.length, "job");
    if (shown === all.status) return;
    shown = all.status;
    view.status.replaceChildren(statusBadge(all.status));
    view.actions.replaceChildren(...actions(all));
  }

  function actions(all) {
    const button = (text, onclick) => h("button", { class: "button", type: "button", onclick }, text);
    if (!isFinished(all)) return [button("Cancel all", ask)];
    return [
      all.counts.indexed + all.counts.duplicate > 0 && searchLink(all.collection),
      all.counts.failed > 0 && button("Retry all failed", retryAll),
    ].filter(Boolean);
  }

  function retryAll() {
    for (const job of jobs) if (job.now.counts.failed) job.retry();
  }

  async function ask() {
    const question = "Cancel all of these jobs? What is not yet indexed is left out.";
    if (!(await confirmDialog(question, { action: "Cancel the jobs" }))) return;
    for (const job of jobs) if (!isFinished(job.now)) job.cancel();
  }

  function add(card) {
    if (!jobs.length) {
      element.append(
        h(
          "article",
          { class: "card job" },
          h("header", { class: "row" }, view.title, view.status),
          view.bar,
          h("div", { class: "row between" }, view.counts, view.pace),
          view.actions,
          h("details", {}, view.summary, cards),
        ),
      );
    }
    jobs.push(card);
    update();
  }

  return { add, update };
}

function uploadPace({ isOpen, bytes, sent, startedAt, partsLeft }) {
  if (!isOpen) return "";
  const seconds = (Date.now() - startedAt) / 1000;
  const rate = sent / seconds;
  const left = rate && seconds > 1 ? `about ${duration((bytes - sent) / rate)} left` : "";
  const parts = partsLeft > 1 ? `${plural(partsLeft, "part")} left` : "";
  return [`${size(sent)} of ${size(bytes)}`, parts, left].filter(Boolean).join(" · ");
}

function errorLines({ state, error }) {
  if (state !== "waiting" && state !== "stopped") return [];
  const where = [...Map.groupBy(error.errors ?? [], ({ message }) => message).values()].map(placesOfError);
  const again = state === "waiting" ? " It is tried again." : "";
  return [
    h("p", {}, `${error.message}${again}`),
    where.length > 0 && h("ul", {}, ...where.map((line) => h("li", {}, line))),
  ].filter(Boolean);
}

/** Where one error is: a table has the same one in each of its rows. */
function placesOfError([{ pointer, message }, ...others]) {
  const [first, ...path] = pointer.split("/").slice(1);
  const place = [/^\d+$/.test(first) ? `row ${first}` : first, ...path].join(", ");
  return `${place}${others.length ? ` and ${plural(others.length, "other place")}` : ""}: ${message}`;
}

function actionsOf(transfer, dismiss, edit) {
  const button = (text, onclick, kind = "") => h("button", { class: `button ${kind}`, type: "button", onclick }, text);
  if (transfer.isOpen) return [button("Cancel the upload", () => transfer.cancel())];
  if (transfer.state === "sent") return [];
  if (transfer.state === "cancelled") return [button("Dismiss", dismiss, "quiet")];
  const change = () => {
    dismiss();
    edit(transfer.formState);
  };
  const { status } = transfer.error;
  const isFaulty = status >= 400 && status < 500 && !isRefusal(transfer.error);
  return [
    isFaulty ? button("Change it", change, "primary") : button("Try again", () => transfer.run(), "primary"),
    transfer.partsLeft > 1 && button("Leave this part out", () => transfer.skip()),
    button("Dismiss", dismiss, "quiet"),
  ].filter(Boolean);
}
