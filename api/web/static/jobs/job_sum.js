/** Several jobs as one. */

import { isFinished } from "../lib/follow.js";

/** A job that says of `jobs`, at least one and all of one kind and collection, what each says of itself. */
export function sum(jobs) {
  const open = jobs.filter((job) => !isFinished(job));
  const counts = {};
  for (const job of jobs) {
    for (const [state, count] of Object.entries(job.counts)) counts[state] = (counts[state] ?? 0) + count;
  }
  const total = jobs.reduce((all, job) => all + job.total, 0);
  const left = counts.pending + counts.fetched;
  const rate = open.reduce((all, job) => all + (job.rate_per_s ?? 0), 0);
  return {
    kind: jobs[0].kind,
    collection: jobs[0].collection,
    status: statusOf(counts, total, open.length),
    total,
    counts,
    progress: total ? 1 - left / total : 0,
    rate_per_s: rate || null,
    eta_s: rate && open.length ? left / rate : null,
    started_at: null,
    finished_at: open.length ? null : jobs.map((job) => job.finished_at).sort().at(-1),
  };
}

function statusOf(counts, total, open) {
  if (open) return "running";
  if (counts.cancelled) return "cancelled";
  if (!counts.failed) return "succeeded";
  return counts.failed === total ? "failed" : "partial";
}
