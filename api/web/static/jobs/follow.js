/** Jobs as they change. */

import { api } from "../lib/requests.js";
import { events } from "../lib/event_stream.js";
import { limits } from "../lib/server.js";
import { pause } from "../lib/timing.js";

// A browser opens six connections to a server over HTTP/1.1, and the page needs some for all else.
const MAX_STREAMS = 2;
const POLL_MS = 2000;
let streams = 0;
let polledJobs = 0;
let listing = null;

/** What an answer that is a job has. */
export const JOB = ["job_id", "kind", "status", "counts", "total", "errors", "finished_at"];

export const isFinished = (job) => job.finished_at !== null;

/**
 * Calls `onJob` with a job whenever it changed, until it has finished, also across an outage. Throws ApiError for
 * what waiting does not mend, and the signal's reason.
 */
export async function follow(id, onJob, signal) {
  for (let finished = false; !finished; ) {
    try {
      finished = streams < MAX_STREAMS ? await stream(id, onJob, signal) : await look(id, onJob, signal);
    } catch (error) {
      if (!error.isPassing) throw error;
    }
  }
}

async function stream(id, onJob, signal) {
  streams++;
  try {
    for await (const { event, data } of events(`/v1/jobs/${encodeURIComponent(id)}/events`, { signal })) {
      onJob(JSON.parse(data));
      if (event === "end") return true;
    }
    return false;
  } finally {
    streams--;
  }
}

async function look(id, onJob, signal) {
  polledJobs++;
  try {
    const jobs = await (listing ??= listNewest());
    const job = jobs.get(id) ?? (await api(`/v1/jobs/${encodeURIComponent(id)}`, { signal, needs: JOB }));
    signal.throwIfAborted();
    onJob(job);
    return isFinished(job);
  } finally {
    polledJobs--;
  }
}

/** The newest jobs by id, in a moment: one request for all that are polled. */
async function listNewest() {
  await pause(POLL_MS);
  listing = null;
  const { jobs } = await api(`/v1/jobs?limit=${Math.min(limits.jobs_listed, 2 * polledJobs)}`, { needs: ["jobs"] });
  return new Map(jobs.map((job) => [job.job_id, job]));
}
