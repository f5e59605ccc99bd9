/** The state of the system: what works, what waits, who works on it, what failed last. */

import { isRefusal } from "../lib/answers.js";
import { withCollection } from "../lib/collection.js";
import { h, icon } from "../lib/dom.js";
import { poll } from "../lib/timing.js";
import { duration, number, plural, timeExact } from "../lib/format.js";
import { loadModels, stateText } from "../lib/models.js";
import { api } from "../lib/requests.js";
import { limits } from "../lib/server.js";
import { jobPath } from "../jobs/job_card.js";
import { sourceOf } from "../jobs/source.js";
import { collectionTable } from "./collections.js";
import { table } from "./table.js";

const REFRESH_MS = 4000;
const NEEDS = ["readiness", "jobs", "ingestion", "collections", "model", "errors", "versions", "missing"];
const ALL_WELL = "Everything works";
const DEPENDENCIES = [
  ["chroma", "Index", "Chroma", "Nothing can be searched; new pictures wait. Start Chroma, or set IMAGE_SEARCH_CHROMA_URL."],
  ["model", "Model", "Encoder", "Collections of the default model cannot be searched by words. If it is not just loading, IMAGE_SEARCH_MODEL names it."],
  ["redis", "Jobs", "Redis", "Search works; no job is taken, and those that run wait. Start Redis, or set IMAGE_SEARCH_REDIS_URL."],
  ["blobs", "Files", "Blob store", "Search works, without thumbnails; no job is taken. Look at IMAGE_SEARCH_BLOB_URL."],
];
const STAGES = {
  fetch: "Download, decode, thumbnail",
  encode: "Pictures to vectors",
  index: "Write into the index",
};

export function show(container, _params, signal) {
  const verdict = h("p", { class: "verdict", role: "status" });
  const sections = Object.fromEntries(
    Object.entries(PARTS).map(([name, [title]]) => [name, sectionOf(name, title, refresh)]),
  );
  container.append(
    h(
      "div",
      { class: "column system" },
      h("header", { class: "row between" }, h("h1", {}, "System"), verdict),
      ...Object.values(sections).map(({ element }) => element),
    ),
  );

  let isShown = false;

  async function refresh() {
    try {
      const found = await api("/v1/system", { signal, needs: NEEDS });
      found.models = await loadModels(signal).catch((error) => {
        found.missing.models = error.message;
        return [];
      });
      say(verdictOf(found.readiness));
      for (const [name, section] of Object.entries(sections)) section.show(found);
      if (!isShown) document.getElementById(location.hash.slice(1))?.scrollIntoView();
      isShown = true;
    } catch (error) {
      if (!signal.aborted) say(error.message);
      if (isRefusal(error)) return false;
    }
    return true;
  }

  function say(text) {
    if (verdict.textContent !== text) verdict.textContent = text;
    verdict.dataset.state = text === ALL_WELL ? "ok" : "down";
  }

  poll(refresh, REFRESH_MS, signal);
}

function verdictOf({ ready, redis, blobs }) {
  if (!ready) return "Search does not work";
  return redis.ok && blobs.ok ? ALL_WELL : "Search works, new jobs cannot be taken";
}

/** A section that is painted anew only where what it shows has changed; focus, and what is unfolded, stay. */
function sectionOf(name, title, refresh) {
  const body = h("div", {});
  const element = h("section", { class: "part", id: name, dataset: { part: name }, "aria-labelledby": `${name}-title`, hidden: true });
  element.append(h("h2", { id: `${name}-title` }, title), body);
  const [, reads, paint] = PARTS[name];
  let shown = null;
  function show(found) {
    element.hidden = false;
    const reason = whyMissing(found, name === "queues" ? "jobs" : name);
    const read = reads(found);
    const text = JSON.stringify([read, reason]);
    if (text === shown) return;
    shown = text;
    const focused = body.contains(document.activeElement) ? document.activeElement.id : "";
    const unfolded = [...body.querySelectorAll("details[open]")].map(({ id }) => id);
    body.replaceChildren(...(reason ? [h("p", { class: "empty" }, reason)] : [paint(read, refresh)].flat()));
    for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
    document.getElementById(focused)?.focus();
  }
  return { element, show };
}

/** Why a part is missing; null where it is not. What the tile of a dependency says is not said again. */
function whyMissing({ readiness, missing }, name) {
  const reason = missing[name];
  const down = reason && DEPENDENCIES.find(([key]) => !readiness[key].ok && readiness[key].detail === reason);
  if (down) return `This cannot be told until ${down[1]} (${down[2]}) works again.`;
  return reason ? `This cannot be told now: ${reason}` : null;
}

// Name of the part: its title, what it reads, and how that is shown.
const PARTS = {
  dependencies: ["Dependencies", ({ readiness }) => readiness, dependencies],
  queues: ["Queues and workers", ({ jobs, ingestion }) => ({ ...jobs, ingestion }), queues],
  collections: ["Collections", ({ collections, models, jobs }) => ({ collections, models, open: jobs?.open }), collectionTable],
  models: ["Models", ({ models }) => models, modelTable],
  model: ["Default model", ({ model }) => model, modelFacts],
  errors: ["Last errors", ({ errors }) => errors, errorTable],
  versions: ["Versions", ({ versions }) => versions, (versions) => facts(Object.entries(versions))],
};

function dependencies(readiness) {
  const tiles = DEPENDENCIES.map(([name, title, kind, remedy]) => {
    const { ok, detail } = readiness[name];
    return h(
      "li",
      { class: "card tile", dataset: { state: ok ? "ok" : "down" } },
      h("h3", {}, title, h("span", { class: "muted small" }, kind)),
      h("p", { class: "state" }, ok ? "Works" : "Does not work"),
      !ok && h("p", { class: "small" }, detail),
      !ok && h("p", { class: "small muted" }, remedy),
    );
  });
  return h("ul", { class: "tiles" }, ...tiles);
}

function queues({ open, queues: all, workers, ingestion }) {
  const most = Math.max(1, ...all.map(({ waiting, running }) => waiting + running));
  const rows = all.map(({ stage, waiting, running, items, oldest_wait_s: oldest }) => {
    const serving = workers.filter(({ queues: served }) => served.includes(stage));
    const slots = serving.reduce((sum, worker) => sum + worker.slots, 0);
    return h(
      "li",
      {},
      h("h3", {}, stage, h("span", { class: "muted small" }, STAGES[stage])),
      gauge(running / most, waiting / most),
      h("p", { class: "numbers small" }, `${number(running)} at work, ${plural(waiting, "chunk")} waiting`),
      h("p", { class: "numbers small" }, `${plural(items, "item")} waiting${oldest === null ? "" : `, the oldest chunk for ${duration(oldest)}`}`),
      slots
        ? h("p", { class: "muted small" }, `${plural(serving.length, "worker")}, ${plural(slots, "slot")}`)
        : h("p", { class: "warn small" }, icon("warning"), "No worker: start ", h("code", {}, `image-search worker --queues ${stage}`)),
    );
  });
  return [
    h("p", { class: "limit" }, ingestion.detail),
    h("ul", { class: "card stages" }, ...rows),
    h("p", { class: "muted small" }, open ? h("a", { href: withCollection("/jobs?status=running") }, `${plural(open, "job")} not finished`) : "No job is open."),
    workerTable(workers),
  ];
}

function gauge(running, waiting) {
  const part = (kind, share) => h("span", { class: kind, style: { width: `${100 * share}%` } });
  return h("div", { class: "gauge", "aria-hidden": "true" }, part("running", running), part("waiting", waiting));
}

function workerTable(workers) {
  if (!workers.length) return h("p", { class: "empty" }, `No worker was seen in the last ${limits.worker_seen_s} seconds.`);
  return h(
    "details",
    { id: "workers" },
    h("summary", { id: "workers-summary" }, plural(workers.length, "worker")),
    table(
      ["Worker", "Machine", "Queues", "Slots"],
      workers.map(({ id, host, queues: served, slots }) => [id, host, served.join(", "), number(slots)]),
    ),
  );
}

function modelTable(models) {
  const rows = models.map((one) => [
    h("bdi", {}, one.name),
    one.kind ?? "–",
    one.dimension === null ? "–" : number(one.dimension),
    one.languages ?? "–",
    [stateText(one), one.detail && h("span", { class: "warn small" }, ` ${one.detail}`)],
  ]);
  return table(["Name", "Kind", "Vector", "Languages", "State"], rows);
}

function modelFacts(model) {
  return facts([
    ["Name", model.name],
    ["Kind", model.kind],
    ["Device", `${model.device} (${model.device_name})`],
    ["Precision", model.precision],
    ["Dimension", number(model.dimension)],
    ["Longest text", `${number(model.max_tokens)} tokens`],
    ["Fingerprint", h("code", {}, model.fingerprint)],
  ]);
}

function errorTable(errors) {
  if (!errors.length) return h("p", { class: "empty" }, "None in the newest jobs.");
  return table(
    ["Source", "Reason", "Job"],
    errors.map((error) => [
      sourceOf(error.source),
      [h("code", {}, error.code), ` ${error.detail}`],
      h("a", { href: jobPath(error.job_id, { status: "failed" }) }, timeExact(error.created_at)),
    ]),
  );
}

function facts(pairs) {
  return h("dl", { class: "facts" }, ...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
