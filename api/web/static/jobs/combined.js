/** Several jobs as one, by the rules that the command line and the client have for it, too. */

import { limits } from "../lib/server.js";
import { isFinished } from "./follow.js";
import { combinedWait } from "./waiting.js";

/** What `jobs`, at least one and all of one kind and collection, say together. */
export function combined(jobs) {
  if (jobs.length === 1) return jobs[0];
  const counts = {};
  for (const job of jobs) {
    for (const [state, count] of Object.entries(job.counts)) counts[state] = (counts[state] ?? 0) + count;
  }
  const total = sum(jobs.map((job) => job.total));
  const open = counts.pending + counts.fetched;
  const known = (field) => jobs.map((job) => job[field]).filter((value) => value !== null);
  return {
    ...jobs[0],
    job_id: jobs.map((job) => job.job_id).join(", "),
    status: statusOf(jobs),
    total,
    counts,
    progress: total ? Number((1 - open / total).toFixed(4)) : 0,
    rate_per_s: sum(known("rate_per_s")) || null,
    eta_s: known("eta_s").length ? Math.max(...known("eta_s")) : null,
    parts: sum(jobs.map((job) => job.parts)),
    retrying: combinedWait(known("retrying")),
    notes: notesOf(jobs.flatMap((job) => job.notes ?? [])),
    failures: failuresOf(jobs.flatMap((job) => job.failures)),
    truncated: jobs.some((job) => job.truncated),
    started_at: known("started_at").sort()[0] ?? null,
    finished_at: jobs.every(isFinished) ? known("finished_at").sort().at(-1) : null,
    errors: jobs.flatMap((job) => job.errors).slice(0, limits.job_errors),
  };
}

/** While one is at work they are running; then what all of them are; else some of it failed. */
function statusOf(jobs) {
  if (!jobs.every(isFinished)) return "running";
  return new Set(jobs.map((job) => job.status)).size === 1 ? jobs[0].status : "partial";
}

function failuresOf(parts) {
  return [...Map.groupBy(parts, ({ code }) => code)]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([code, some]) => ({
      code,
      count: sum(some.map(({ count }) => count)),
      worth_retrying: sum(some.map((one) => one.worth_retrying)),
    }));
}

function notesOf(parts) {
  const { most, code: more, detail } = limits.job_notes;
  const notes = [...Map.groupBy(parts, ({ code, detail }) => JSON.stringify([code, detail])).values()].map(
    (some) => ({ ...some[0], count: sum(some.map(({ count }) => count)) }),
  );
  if (notes.length <= most) return notes;
  const kept = notes.filter(({ code }) => code !== more).slice(0, most - 1);
  const all = sum(notes.map(({ code, count }) => (code === more ? count : 1)));
  return [...kept, { code: more, detail, count: all - kept.length }];
}

const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
