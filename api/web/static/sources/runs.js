/** How syncs of a source went. */

import { notify } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { plural, timeAgo } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { countsList, jobPath, statusBadge } from "../jobs/job_card.js";

/** One run as elements: when, how it ended, what changed and what did not work; it leads to its job. */
export function runSummary(run, collection) {
  return [
    h("div", { class: "row" }, statusBadge(run.status), run.dry_run && h("span", { class: "muted" }, "Dry run"), h("a", { href: jobPath(run.job_id, { collection }) }, timeAgo(run.finished_at))),
    countsList(run),
    run.withheld > 0 && h("p", { class: "withheld" }, `${plural(run.withheld, "removal")} withheld`),
    run.detail && h("p", { class: run.status === "failed" ? "fault" : "small" }, run.detail),
  ].filter(Boolean);
}

/** The last runs behind a disclosure, asked for while it is open. */
export function earlierRuns(path, signal) {
  const list = h("ol", { class: "runs" });
  const element = h("details", { ontoggle: refresh }, h("summary", {}, "Earlier syncs"), list);

  async function refresh() {
    if (!element.open) return;
    try {
      const { runs, collection } = await api(path, { signal, needs: ["runs", "collection"] });
      list.replaceChildren(...runs.map((run) => h("li", {}, ...runSummary(run, collection))));
      if (!runs.length) list.append(h("li", { class: "muted" }, "None yet."));
    } catch (error) {
      if (!signal.aborted) notify(error.message, { kind: "error" });
    }
  }

  return { element, refresh };
}
