/** The collections as the system view shows them: each can be searched, exported and deleted, and new ones made. */

import { collectionOf, withCollection } from "../lib/collection.js";
import { confirmDialog, notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { hindrance } from "../lib/models.js";
import { api } from "../lib/requests.js";
import { limits } from "../lib/server.js";
import { jobPath } from "../jobs/job_card.js";
import { forgetResults } from "../search/results.js";
import { newCollection } from "../shell/new_collection.js";
import { navigate } from "../shell/router.js";
import { table } from "./table.js";

/** Their table; `refresh()` has the view ask the server again. */
export function collectionTable({ collections, models, open }, refresh) {
  const create = async () => {
    const name = await newCollection();
    if (name === null) return;
    notify(`The collection “${name}” is there.`, { kind: "ok" });
    refresh();
  };
  const make = button(`make-collection`, "plus", "New collection…", create);
  if (!collections.length) return [h("p", { class: "empty" }, "There are none yet."), h("div", {}, make)];
  const rows = collections.map((one) => [
    h("a", { href: withCollection("/", one.name) }, one.name),
    number(one.count),
    [h("bdi", {}, one.model), hindranceOf(models.find(({ name }) => name === one.model))],
    h(
      "div",
      { class: "row" },
      button(`export-${one.name}`, "download", "Export", () => exportAll(one), { "aria-label": `Export ${one.name}`, disabled: !one.count, title: one.count ? "" : "It is empty" }),
      button(`delete-${one.name}`, "trash", "Delete…", () => remove(one, open, refresh), { "aria-label": `Delete ${one.name}` }),
    ),
  ]);
  return [table(["Name", "Pictures", "Model", "Actions"], rows), h("div", {}, make)];
}

function hindranceOf(model) {
  const text = hindrance(model);
  return text && h("span", { class: model.detail ? "warn small" : "muted small" }, ` ${text}`);
}

/** `id` is for the focus, which stays where it is when the table is made anew. */
function button(id, name, text, onclick, properties = {}) {
  return h("button", { class: "button", type: "button", id, onclick, ...properties }, icon(name), text);
}

async function exportAll({ name }) {
  try {
    const job = await api(`/v1/collections/${encodeURIComponent(name)}/export`, { method: "POST", needs: ["job_id"] });
    navigate(withCollection(jobPath(job.job_id), name));
  } catch (error) {
    notify(error.message, { kind: "error" });
  }
}

async function remove({ name, count }, open, refresh) {
  const what = count ? `with its ${plural(count, "picture")}` : "which is empty";
  const remade = open ? " A job that still adds to it makes it anew." : "";
  const question = `Delete the collection “${name}”, ${what}? This cannot be undone.${remade}`;
  if (!(await confirmDialog(question, { action: count ? `Delete ${plural(count, "picture")}` : "Delete" }))) return;
  try {
    await api(`/v1/collections/${encodeURIComponent(name)}`, { method: "DELETE" });
    notify(`The collection “${name}” is deleted.`, { kind: "ok" });
    forgetResults();
    if (name === collectionOf()) navigate(withCollection("/system", limits.default_collection), { replace: true });
  } catch (error) {
    notify(error.message, { kind: "error" });
  }
  document.getElementById("make-collection")?.focus(); // this one's button is about to go
  refresh();
}
