/** The chip of a filter by job, which says the job's name. */

import { api } from "../lib/requests.js";

const names = new Map();

/** "from job 4f0c2b7d", and to `rename` later with the job's name, where it has one and the visitor may know it. */
export function jobText(condition, rename) {
  const ids = [condition?.in ?? condition?.eq ?? condition].flat();
  const of = ids.length > 1 ? ` (${ids.length} jobs)` : "";
  const [id] = ids;
  if (typeof id !== "string") return `job ${JSON.stringify(condition)}`;
  if (!names.has(id)) names.set(id, nameOf(id));
  names.get(id).then((name) => name && rename(`from job ${name}${of}`));
  return `from job ${id.slice(0, 8)}${of}`;
}

async function nameOf(id) {
  try {
    return (await api(`/v1/jobs/${encodeURIComponent(id)}`, { isOptional: true, needs: ["job_id"] })).name;
  } catch {
    return null; // forgotten, or of a server that this key may only search
  }
}
