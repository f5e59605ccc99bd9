/** One source: what it is, how its last sync went, when the next one is, and what can be done with it. */

import { withCollection } from "../lib/collection.js";
import { confirmDialog } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { number, plural, timeAgo } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { dryRunSections, isDryRun } from "../jobs/dry_run.js";
import { JOB, isFinished } from "../jobs/follow.js";
import { jobCard } from "../jobs/job_card.js";
import { sourceOf } from "../jobs/source.js";
import { earlierRuns, runSummary } from "./runs.js";

const KINDS = { "s3:": "Bucket", "file:": "Folder on the server" };
const FEED = "Feed or sitemap";
const UNITS = { m: "minute", h: "hour", d: "day" };

/** `update(source)` shows it as it is now; `refresh()` has the view ask the server again. */
export function sourceCard({ name }, { signal, refresh }) {
  const path = `/v1/sources/${encodeURIComponent(name)}`;
  const titleId = `source-${name}`;
  const kind = h("span", { class: "muted small" });
  const place = h("p", { class: "place" });
  const facts = h("dl", { class: "facts" });
  const fault = h("p", { class: "fault", role: "alert" });
  const dryRun = button("search", "Dry run", () => start({ dry_run: true }), name);
  const sync = button("retry", "Sync now", () => start({}), name);
  const running = h("div", { class: "running stack", hidden: true });
  const runs = earlierRuns(path, signal);
  const element = h(
    "li",
    { class: "card source-card", "aria-labelledby": titleId },
    h("header", { class: "row between" }, h("h2", { id: titleId }, h("bdi", {}, name)), kind),
    place,
    facts,
    h("div", { class: "row" }, sync, dryRun),
    fault,
    running,
    runs.element,
  );
  const leaving = new AbortController();
  const ends = AbortSignal.any([signal, leaving.signal]);
  let shown = "";
  let followed = null; // the id of the job that is shown
  let isStarting = false; // a second click on what was asked for already is none

  function update(source) {
    if (source.running_job && source.running_job !== followed) join(source.running_job);
    const text = JSON.stringify(source);
    if (text !== shown) {
      shown = text;
      kind.textContent = kindOf(source.from);
      place.replaceChildren(sourceOf(source.from));
      runs.refresh();
    }
    facts.replaceChildren(...factsOf(source)); // how long ago things were
  }

  async function join(id) {
    try {
      const job = await api(`/v1/jobs/${encodeURIComponent(id)}`, { signal: ends, needs: JOB });
      if (id !== followed) follow(job);
    } catch {
      // It is asked for again with the next look at the sources.
    }
  }

  async function start(body) {
    if (isStarting) return;
    isStarting = true;
    fault.replaceChildren();
    try {
      follow(await api(`${path}/sync`, { method: "POST", body, signal: ends, needs: JOB }));
    } catch (error) {
      if (!ends.aborted) fault.textContent = error.message;
    } finally {
      isStarting = false;
    }
    refresh();
  }

  function follow(job) {
    followed = job.job_id;
    const found = h("div", { class: "stack" });
    const card = jobCard(job, {
      signal: ends,
      onChange: (now) => {
        if (!isFinished(now) || found.children.length) return;
        found.replaceChildren(...(isDryRun(now) ? foundOf(now) : []));
        refresh();
      },
    });
    running.hidden = false;
    running.replaceChildren(card.element, found);
  }

  function foundOf(job) {
    const { withheld } = job.result.counts;
    const anyway = withheld > 0 && button("trash", `Sync, and remove all ${number(withheld)}…`, () => removeAnyway(withheld), name);
    return [...dryRunSections(job), anyway && h("div", {}, anyway)].filter(Boolean);
  }

  async function removeAnyway(count) {
    const question = `Sync ${name}, and remove the ${number(count)} that its listing has no longer? Pictures that nothing else has brought go with them. This cannot be undone.`;
    if (await confirmDialog(question, { action: "Sync and remove" })) await start({ max_delete_share: 1 });
  }

  function remove() {
    leaving.abort();
    element.remove();
  }

  return { element, update, remove };
}

/** The name of the source is said to screen readers, for which the buttons of all are alike. */
function button(symbol, text, onclick, name) {
  return h("button", { class: "button", type: "button", onclick }, icon(symbol), text, h("span", { class: "visually-hidden" }, ` ${name}`));
}

function factsOf(source) {
  const fact = (title, ...value) => h("div", {}, h("dt", {}, title), h("dd", {}, ...value));
  const { collection, last_run: last, next_run_at: next } = source;
  return [
    fact("Collection", h("a", { href: withCollection("/", collection) }, collection)),
    fact("Schedule", everyText(source.every)),
    fact("Next sync", source.removing ? "None: it is being deleted with its pictures" : next ? timeAgo(next) : "When it is asked for"),
    fact("What is missing", deletionText(source)),
    fact("Last sync", ...(last ? runSummary(last, collection) : ["Not yet"])),
  ];
}

function kindOf(location) {
  return KINDS[/^[a-z0-9]+:/i.exec(location)?.[0].toLowerCase()] ?? FEED;
}

/** "1d" is "every day", "90m" "every 90 minutes". */
function everyText(every) {
  const [, count, unit] = /^(\d+)([mhd])$/.exec(every ?? "") ?? [];
  if (!unit) return every ?? "None";
  return count === "1" ? `Every ${UNITS[unit]}` : `Every ${plural(Number(count), UNITS[unit])}`;
}

function deletionText({ delete_missing: goes, max_delete_share: share }) {
  return goes ? `Is removed, at most ${Number((100 * share).toPrecision(3))}\u00a0% at once` : "Stays";
}
