/** Several jobs on one card. */

import { confirmDialog } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { poll } from "../lib/timing.js";
import { combined } from "./combined.js";
import { failureSections } from "./failures.js";
import { isFinished } from "./follow.js";
import { notesList } from "./notes.js";
import { TICK_MS, countsList, jobCard, jobTitle, originOf, paceOf, retryText, searchLink, statusBadge } from "./job_card.js";

/**
 * One card in `element` for several jobs, whose own, in `cards`, it puts behind a disclosure. `add` gives it one more;
 * `heading` is the tag of its title.
 */
export function combinedCard(element, cards, { heading = "h3" } = {}) {
  const view = {
    title: h(heading, {}),
    origin: h("p", { class: "muted small" }),
    status: h("span", {}),
    bar: h("progress", { class: "bar", max: "1", "aria-label": "All jobs of this upload" }),
    counts: h("div", {}),
    pace: h("p", { class: "muted small numbers" }),
    notes: h("div", { class: "stack" }),
    failures: h("div", { class: "stack failures" }),
    actions: h("div", { class: "row" }),
    summary: h("summary", {}),
  };
  const jobs = [];
  let shown = "";
  let said = "";
  let noted = "";

  function update() {
    const all = combined(jobs.map(({ now }) => now));
    view.title.textContent = jobTitle(all);
    view.origin.textContent = originOf(all);
    view.bar.value = all.progress;
    view.bar.hidden = isFinished(all);
    view.counts.replaceChildren(countsList(all));
    view.pace.textContent = paceOf(all);
    view.summary.textContent = plural(jobs.length, "job");
    const notes = JSON.stringify(all.notes);
    if (notes !== noted) view.notes.replaceChildren(...notesList(all.notes));
    view.notes.hidden = !all.notes.length;
    noted = notes;
    const failures = JSON.stringify([all.failures, all.errors]);
    if (failures !== said) view.failures.replaceChildren(...failureSections(all, { samples: 1 }));
    view.failures.hidden = !all.counts.failed;
    said = failures;
    const now = `${all.status} ${jobs.length}`;
    if (shown === now) return;
    shown = now;
    view.status.replaceChildren(statusBadge(all.status));
    view.actions.replaceChildren(...actions(all));
  }

  function countDown() {
    const all = combined(jobs.map(({ now }) => now));
    if (all.retrying) view.pace.textContent = paceOf(all);
  }

  function actions(all) {
    const button = (text, onclick) => h("button", { class: "button", type: "button", onclick }, text);
    if (!isFinished(all)) return [button("Cancel all", ask)];
    return [
      all.counts.indexed + all.counts.duplicate > 0 && searchLink(all.collection, jobs.map(({ now }) => now.job_id)),
      all.counts.failed > 0 && button(retryText(all, "Retry all failed"), retryAll),
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

  function add(job, signal) {
    const card = { now: job };
    const onChange = (now) => {
      card.now = now;
      update();
    };
    if (!jobs.length) {
      element.append(
        h(
          "article",
          { class: "card job" },
          h("header", { class: "row" }, h("div", {}, view.title, view.origin), view.status),
          view.bar,
          h("div", { class: "row between" }, view.counts, view.pace),
          view.notes,
          view.failures,
          view.actions,
          h("details", {}, view.summary, cards),
        ),
      );
    }
    if (!jobs.length) poll(countDown, TICK_MS, signal);
    jobs.push(card);
    Object.assign(card, jobCard(job, { signal, onChange }));
    cards.prepend(card.element);
  }

  return { add, update };
}
