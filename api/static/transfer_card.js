/** One upload as it goes, and the jobs that it has made. */

import { h } from "./dom.js";
import { duration, plural, size } from "./format.js";
import { jobCard } from "./job_card.js";

const TITLES = {
  sending: "Uploading",
  waiting: "Uploading",
  stopped: "Not uploaded",
  cancelled: "Cancelled",
  sent: "Uploaded",
};

/** Shows `transfer` in `list` until the signal, or until it is dismissed; `edit` takes what it was made of back. */
export function showTransfer(list, transfer, { signal, edit }) {
  const view = {
    title: h("h3", {}),
    bar: h("progress", { class: "bar", max: "1", "aria-label": `Upload of ${transfer.label}` }),
    pace: h("p", { class: "muted small numbers" }),
    fault: h("div", { class: "fault", role: "alert" }),
    actions: h("div", { class: "row" }),
    jobs: h("div", { class: "stack" }),
  };
  const upload = h("article", { class: "card upload" }, view.title, view.bar, view.pace, view.fault, view.actions);
  const element = h("section", { class: "stack", "aria-label": transfer.label }, upload, view.jobs);
  const shown = { state: null, jobs: 0 };

  function update() {
    const { state, bytes, sent, jobs } = transfer;
    for (; shown.jobs < jobs.length; shown.jobs++) {
      view.jobs.prepend(jobCard(jobs[shown.jobs], { signal }).element);
    }
    upload.hidden = state === "sent";
    view.bar.value = bytes ? sent / bytes : 0;
    view.bar.hidden = !transfer.isOpen;
    view.pace.textContent = paceOf(transfer);
    if (shown.state !== state) {
      view.title.textContent = `${TITLES[state]}: ${transfer.label}`;
      view.fault.replaceChildren(...faultOf(transfer));
      view.actions.replaceChildren(...actionsOf(transfer, dismiss, edit));
      shown.state = state;
    }
  }

  function dismiss() {
    transfer.dismiss();
    element.remove();
  }

  list.prepend(element);
  transfer.addEventListener("change", update, { signal });
  update();
}

function paceOf({ isOpen, bytes, sent, startedAt, partsLeft }) {
  if (!isOpen) return "";
  const seconds = (Date.now() - startedAt) / 1000;
  const rate = sent / seconds;
  const left = rate && seconds > 1 ? `about ${duration((bytes - sent) / rate)} left` : "";
  const parts = partsLeft > 1 ? `${plural(partsLeft, "part")} left` : "";
  return [`${size(sent)} of ${size(bytes)}`, parts, left].filter(Boolean).join(" · ");
}

function faultOf({ state, error }) {
  if (state !== "waiting" && state !== "stopped") return [];
  const where = [...Map.groupBy(error.errors ?? [], ({ message }) => message).values()].map(placesOf);
  const again = state === "waiting" ? " It is tried again." : "";
  return [
    h("p", {}, `${error.detail ?? error.message}${again}`),
    where.length > 0 && h("ul", {}, ...where.map((line) => h("li", {}, line))),
  ].filter(Boolean);
}

/** Where one fault is: a table has the same one in each of its rows. */
function placesOf([{ pointer, message }, ...others]) {
  const [first, ...path] = pointer.split("/").slice(1);
  const place = [/^\d+$/.test(first) ? `row ${first}` : first, ...path].join(", ");
  return `${place}${others.length ? ` and ${plural(others.length, "other place")}` : ""}: ${message}`;
}

function actionsOf(transfer, dismiss, edit) {
  const button = (text, onclick, kind = "") => h("button", { class: `button ${kind}`, type: "button", onclick }, text);
  if (transfer.isOpen) return [button("Cancel the upload", () => transfer.cancel())];
  if (transfer.state === "sent") return [];
  if (transfer.state === "cancelled") return [button("Dismiss", dismiss, "quiet")];
  const change = () => {
    dismiss();
    edit(transfer.draft);
  };
  const isRefused = transfer.error.status >= 400 && transfer.error.status < 500;
  return [
    isRefused ? button("Change it", change, "primary") : button("Try again", () => transfer.run(), "primary"),
    transfer.partsLeft > 1 && button("Leave this part out", () => transfer.skip()),
    button("Dismiss", dismiss, "quiet"),
  ].filter(Boolean);
}
