const FOLLOW_MS = 5 * 60_000;
const POLL_MS = 1000;

/** What the server answers at `path`, to a POST where there is a `body`; throws an Error that says why not. */
export async function ask({ server, key }, path, body) {
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
  const request = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), credentials: "omit" };
  let response;
  try {
    response = await fetch(server + path, request);
  } catch {
    throw new Error(`${server} does not answer. Is it up, and saved in this extension's options?`);
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? `${server} answered ${response.status}.`);
  return answer;
}

/** The job once it has ended. `onPoll` is called before each further look. */
export async function finished(settings, jobId, onPoll) {
  for (const deadline = Date.now() + FOLLOW_MS; Date.now() < deadline; ) {
    const job = await ask(settings, `/v1/jobs/${jobId}`);
    if (job.finished_at) return job;
    await onPoll();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Error("The server has not got to it yet: the job's page says more.");
}
