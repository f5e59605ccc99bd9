/** Jobs and other things as they change. */

import { api, events, pause } from "./http.js";

// A browser opens six connections to a server over HTTP/1.1, and the page needs some for all else.
const MOST_STREAMS = 2;
const POLL_MS = 2000;
const MOST_LISTED = 1000; // the server's
let streams = 0;
let polled = 0;
let listing = null;

export const isFinished = (job) => job.finished_at !== null;

/** Calls `onJob` with a job whenever it changed, until it has finished. Throws ApiError, and the signal's reason. */
export async function follow(id, onJob, signal) {
  for (let finished = false; !finished; ) {
    finished = streams < MOST_STREAMS ? await stream(id, onJob, signal) : await look(id, onJob, signal);
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
  polled++;
  try {
    const jobs = await (listing ??= list());
    const job = jobs.get(id) ?? (await api(`/v1/jobs/${encodeURIComponent(id)}`, { signal }));
    signal.throwIfAborted();
    onJob(job);
    return isFinished(job);
  } finally {
    polled--;
  }
}

/** The newest jobs by id, in a moment: one request for all that are polled. */
async function list() {
  await pause(POLL_MS);
  listing = null;
  const { jobs } = await api(`/v1/jobs?limit=${Math.min(MOST_LISTED, 2 * polled)}`);
  return new Map(jobs.map((job) => [job.job_id, job]));
}

/** Calls `look` again and again, `everyMs` after it has returned, while the page is visible, until the signal. */
export async function poll(look, everyMs, signal) {
  while (!signal.aborted) {
    if (document.visibilityState === "visible") await look();
    await pause(everyMs, signal).catch(() => {});
  }
}
