/** One job: its card, its times, its items. */

import { collectionOf, withCollection } from "../lib/collection.js";
import { notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { notice } from "../lib/notice.js";
import { poll } from "../lib/timing.js";
import { JOB, isFinished } from "./follow.js";
import { number, timeAgo, timeExact } from "../lib/format.js";
import { imageURL } from "../lib/image_urls.js";
import { api } from "../lib/requests.js";
import { navigate } from "../shell/router.js";
import { dryRunSections, isDryRun } from "./dry_run.js";
import { groupPath, jobCard, originOf } from "./job_card.js";
import { sourceOf } from "./source.js";

const PAGE = 50;
const FACTS_MS = 5000; // how long ago things were
const HEADS = ["#", "Source", "Status", "Reason", "Tries"];

export async function showJob(container, params, signal) {
  const id = params.get("id");
  const column = h("div", { class: "column" }, h("p", {}, h("a", { href: withCollection("/jobs") }, "All jobs")));
  container.append(column);
  let job;
  try {
    job = await api(`/v1/jobs/${encodeURIComponent(id)}`, { signal, needs: JOB });
  } catch (error) {
    if (!signal.aborted) column.replaceChildren(notThere(error));
    return;
  }
  if (job.collection !== collectionOf()) {
    await navigate(withCollection(location.pathname + location.search, job.collection), { replace: true }); // where one is
    return;
  }
  const facts = h("dl", { class: "facts" });
  const dryRun = h("section", { class: "stack", hidden: true, "aria-label": "What a sync would do" });
  const items = itemsSection(job, params.get("status"), signal);
  let before = null;
  const card = jobCard(job, {
    signal,
    heading: "h1",
    isPage: true,
    onChange: (now) => {
      const isOther = before && before.status !== now.status;
      before = now;
      if (!isOther) return;
      facts.replaceChildren(...factsOf(now));
      showDryRun(now);
      items.refresh(now);
    },
  });

  function showDryRun(now) {
    dryRun.hidden = !isDryRun(now);
    items.element.hidden = isDryRun(now); // it has none
    if (isDryRun(now)) dryRun.replaceChildren(...dryRunSections(now));
  }

  column.append(card.element, facts, dryRun, items.element);
  showDryRun(job);
  poll(() => facts.replaceChildren(...factsOf(before)), FACTS_MS, signal);
  await items.refresh(job);
}

function notThere(error) {
  const again = () => navigate(location.href, { replace: true });
  const title = error.status === 404 ? "There is no such job" : "That did not work";
  const actions = [
    error.status !== 404 && h("button", { class: "button primary", type: "button", onclick: again }, "Try again"),
    h("a", { class: "button", href: withCollection("/jobs") }, "All jobs"),
  ];
  return notice(title, error.message, actions, { level: "h1", role: "alert" });
}

function factsOf(job) {
  const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  const when = (text) => [timeAgo(text), ", ", timeExact(text)];
  return [
    fact("Job", h("code", {}, job.job_id)),
    fact("Collection", h("bdi", {}, job.collection)),
    originOf(job) && fact("Origin", job.kind === "sync" ? h("a", { href: withCollection("/sources") }, originOf(job)) : originOf(job)),
    job.group && fact("Part of", h("a", { href: groupPath(job) }, "one upload")),
    fact("Created", ...when(job.created_at)),
    job.started_at && fact("Started", ...when(job.started_at)),
    job.finished_at && fact("Finished", ...when(job.finished_at)),
    job.kind === "export" && ["succeeded", "partial"].includes(job.status) && fact("File", download(job)),
  ].filter(Boolean);
}

function download(job) {
  const name = `${job.collection}.parquet`;
  const link = h("a", { class: "button", href: "#", download: name }, icon("download"), name);
  link.addEventListener("click", async (event) => {
    if (link.dataset.ready) return;
    event.preventDefault();
    try {
      link.href = await imageURL(`/v1/jobs/${encodeURIComponent(job.job_id)}/export`);
      link.dataset.ready = "yes";
      link.click();
    } catch (error) {
      notify(error.message, { kind: "error" });
    }
  });
  return link;
}

function itemsSection(first, wanted, signal) {
  const select = h("select", { class: "field", id: "item-status" });
  const rows = h("tbody", {});
  const table = h(
    "table",
    { class: "table items" },
    h("thead", {}, h("tr", {}, ...HEADS.map((name) => h("th", { scope: "col" }, name)))),
    rows,
  );
  const empty = h("p", { class: "empty" }, "None.");
  const more = h("button", { class: "button", type: "button" }, "Show more");
  const element = h(
    "section",
    { class: "stack", "aria-labelledby": "items-title" },
    h(
      "header",
      { class: "row between" },
      h("h2", { id: "items-title" }, "Items"),
      h("div", { class: "row" }, h("label", { class: "visually-hidden", for: "item-status" }, "Which items"), select),
    ),
    table,
    empty,
    more,
  );
  let shown = first;
  let status = Object.hasOwn(first.counts, wanted) ? wanted : first.counts.failed ? "failed" : "";
  let cursor = null;
  let asked = 0;

  async function load(from) {
    const mine = ++asked;
    const query = new URLSearchParams({ limit: PAGE, ...(status && { status }), ...(from && { cursor: from }) });
    try {
      const page = await api(`/v1/jobs/${encodeURIComponent(shown.job_id)}/items?${query}`, { signal, needs: ["items", "next_cursor"] });
      if (mine !== asked) return;
      if (!from) rows.replaceChildren();
      rows.append(...page.items.map((item) => itemRow(item, shown)));
      cursor = page.next_cursor;
    } catch (error) {
      if (!signal.aborted) notify(error.message, { kind: "error" });
    }
    table.hidden = !rows.children.length;
    empty.hidden = !table.hidden;
    more.hidden = cursor === null;
  }

  async function refresh(job) {
    shown = job;
    if (isFinished(job) && status === "failed" && !job.counts.failed) status = "";
    const options = Object.keys(job.counts).filter((state) => job.counts[state] || state === status);
    select.replaceChildren(
      h("option", { value: "", selected: !status }, `All (${number(job.total)})`),
      ...options.map((state) =>
        h("option", { value: state, selected: state === status }, `${state} (${number(job.counts[state])})`),
      ),
    );
    await load();
  }

  select.addEventListener("change", () => {
    status = select.value;
    load();
  });
  more.addEventListener("click", () => load(cursor));
  return { element, refresh };
}

function itemRow(item, job) {
  return h(
    "tr",
    {},
    h("td", { class: "muted numbers" }, number(item.index)),
    h("td", {}, item.image_id && thumbnail(item, job), sourceOf(item.source)),
    h("td", {}, item.status),
    h("td", {}, item.code && h("code", {}, item.code), item.detail && ` ${item.detail}`),
    h("td", { class: "numbers" }, number(item.attempts)),
  );
}

function thumbnail({ image_id: id, status }, { kind, collection }) {
  if (kind === "export" || kind === "delete" || status === "removed") return null;
  const image = h("img", { class: "thumb", alt: "", width: "40", height: "40", loading: "lazy" });
  imageURL(`/v1/images/${id}/thumbnail?${new URLSearchParams({ collection })}`).then(
    (url) => (image.src = url),
    () => image.remove(),
  );
  image.addEventListener("error", () => image.remove());
  return image;
}
