/** The jobs of one upload or command, on one page. */

import { collectionOf, withCollection } from "../lib/collection.js";
import { h } from "../lib/dom.js";
import { api } from "../lib/requests.js";
import { limits } from "../lib/server.js";
import { combinedCard } from "./combined_card.js";

export async function showGroup(container, params, signal) {
  const all = h("div", {});
  const cards = h("div", { class: "stack" });
  const column = h("div", { class: "column" }, h("p", {}, h("a", { href: withCollection("/jobs") }, "All jobs")), all);
  container.append(column);
  try {
    const jobs = await jobsOfGroup(params.get("group"), collectionOf(params), signal);
    const card = combinedCard(all, cards, { heading: "h1" });
    for (const job of jobs.reverse()) card.add(job, signal);
    if (!jobs.length) throw new Error("There are no such jobs; finished ones expire.");
  } catch (error) {
    if (!signal.aborted) column.append(h("h1", {}, "Jobs"), h("p", { class: "empty", role: "alert" }, error.message));
  }
}

/** All jobs of a group in a collection, newest first. */
export async function jobsOfGroup(group, collection, signal) {
  const query = new URLSearchParams({ group, collection, limit: limits.group_jobs });
  return (await api(`/v1/jobs?${query}`, { signal, needs: ["jobs"] })).jobs;
}
