/** One upload as it goes, and the jobs that it has made. */

import { isRefusal } from "../lib/answers.js";
import { h } from "../lib/dom.js";
import { duration, plural, quoted, size } from "../lib/format.js";
import { combinedCard } from "../jobs/combined_card.js";
import { jobCard } from "../jobs/job_card.js";
import { listed } from "./preview.js";

const MAX_CARDS = 3; // that are shown without being asked for

const TITLES = {
  sending: "Uploading",
  waiting: "Uploading",
  stopped: "Not uploaded",
  cancelled: "Cancelled",
  sent: "Uploaded",
  lost: "Not uploaded",
};

/** Shows `transfer` in `list` until the signal, or until it is dismissed; `edit` takes what it was made of back. */
export function showTransfer(list, transfer, { signal, edit }) {
  const view = {
    title: h("h3", {}),
    bar: h("progress", { class: "bar", max: "1", "aria-label": `Upload of ${transfer.label}` }),
    pace: h("p", { class: "muted small numbers" }),
    error: h("div", { class: "fault", role: "alert" }),
    lost: h("div", {}),
    actions: h("div", { class: "row" }),
    jobs: h("div", { class: "stack" }),
    combined: h("div", {}),
  };
  const upload = h("article", { class: "card upload" }, view.title, view.bar, view.pace, view.error, view.lost, view.actions);
  const element = h("section", { class: "stack", "aria-label": transfer.label }, upload, view.combined, view.jobs);
  const isLarge = transfer.parts > MAX_CARDS;
  const overall = isLarge ? combinedCard(view.combined, view.jobs) : null;
  const shown = { state: null, jobs: 0, lost: 0 };

  function update() {
    const { state, bytes, sent, jobs, lost } = transfer;
    for (; shown.jobs < jobs.length; shown.jobs++) addJob(jobs[shown.jobs]);
    upload.hidden = state === "sent" && !lost.length;
    view.bar.value = bytes ? sent / bytes : 0;
    view.bar.hidden = !transfer.isOpen;
    view.pace.textContent = uploadPace(transfer);
    if (shown.lost !== lost.length) view.lost.replaceChildren(lostLine(lost));
    shown.lost = lost.length;
    if (shown.state !== state) {
      view.title.textContent = `${TITLES[state]}: ${transfer.label}`;
      view.error.replaceChildren(...errorLines(transfer));
      view.actions.replaceChildren(...actionsOf(transfer, dismiss, edit));
      shown.state = state;
    }
  }

  function addJob(job) {
    if (overall) overall.add(job, signal);
    else view.jobs.prepend(jobCard(job, { signal }).element);
  }

  function dismiss() {
    transfer.dismiss();
    element.remove();
  }

  list.prepend(element);
  transfer.addEventListener("change", update, { signal });
  update();
}

function uploadPace({ isOpen, bytes, sent, startedAt, partsLeft }) {
  if (!isOpen) return "";
  const seconds = (Date.now() - startedAt) / 1000;
  const rate = sent / seconds;
  const left = rate && seconds > 1 ? `about ${duration((bytes - sent) / rate)} left` : "";
  const parts = partsLeft > 1 ? `${plural(partsLeft, "part")} left` : "";
  return [`${size(sent)} of ${size(bytes)}`, parts, left].filter(Boolean).join(" · ");
}

function errorLines({ state, error }) {
  if (state !== "waiting" && state !== "stopped") return [];
  const isNew = ({ pointer, message }) => /^\/\d/.test(pointer) || quoted(message) !== error.message;
  const where = [...Map.groupBy((error.errors ?? []).filter(isNew), ({ message }) => message).values()].map(placesOfError);
  const again = state === "waiting" ? " It is tried again." : "";
  return [
    h("p", {}, `${error.message}${again}`),
    where.length > 0 && h("ul", {}, ...where.map((line) => h("li", {}, line))),
  ].filter(Boolean);
}

function lostLine(lost) {
  const text = `${plural(lost.length, "file")} left out, which cannot be read any more (moved, changed or deleted): `;
  return h("p", { class: "fault", role: "alert" }, text, h("bdi", {}, listed(lost)));
}

/** Where one error is, by the item's number as its job counts (a line's less one): a table has the same one in each of its rows. */
function placesOfError([{ pointer, message }, ...others]) {
  const [first, ...path] = pointer.split("/").slice(1);
  const place = [/^\d+$/.test(first) ? `item ${first - 1}` : first, ...path].join(", ");
  return `${place}${others.length ? ` and ${plural(others.length, "other place")}` : ""}: ${message}`;
}

function actionsOf(transfer, dismiss, edit) {
  const button = (text, onclick, kind = "") => h("button", { class: `button ${kind}`, type: "button", onclick }, text);
  if (transfer.isOpen) return [button("Cancel the upload", () => transfer.cancel())];
  if (["sent", "lost", "cancelled"].includes(transfer.state)) return [button("Dismiss", dismiss, "quiet")];
  const change = () => {
    dismiss();
    edit({ ...transfer.formState, left: transfer.left, error: transfer.error });
  };
  const { status } = transfer.error;
  const isFaulty = status >= 400 && status < 500 && !isRefusal(transfer.error);
  return [
    isFaulty ? button("Change it", change, "primary") : button("Try again", () => transfer.run(), "primary"),
    transfer.partsLeft > 1 && button("Leave this part out", () => transfer.skip()),
    button("Dismiss", dismiss, "quiet"),
  ].filter(Boolean);
}
