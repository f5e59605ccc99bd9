/** Changes to many pictures, one after another, with a dialog that shows how far they are and what failed. */

import { confirmDialog, notify } from "../lib/dialogs.js";
import { h } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { api } from "../lib/requests.js";
import { sourceName } from "../lib/sources.js";
import { pause } from "../lib/timing.js";
import { forgetResults } from "../search/results.js";
import { collectionPath } from "../search/query.js";

// For these a server that is busy or away is waited for; what else goes wrong is not better a moment later.
const WAITED_FOR = [0, 429, 502, 503, 504];
const WAIT_SECONDS = 5;
const FAILURES_IN_VAIN = 10; // with no success: then the rest would only fail as well
const NAMES_SHOWN = 5;

/** Asks, then deletes; gives back the ids of what is no longer there. `of` says more of what is to be deleted. */
export async function deletePictures(items, { collection }, of = "") {
  const question = `Delete ${plural(items.length, "picture")}${of} from the collection “${collection}”? This cannot be undone.`;
  if (!(await confirmDialog(question, { action: `Delete ${number(items.length)}` }))) return [];
  const { done, gone } = await changeEach(items, {
    title: `Deleting ${plural(items.length, "picture")}`,
    did: "deleted",
    change: ({ id }) => api(collectionPath(`/v1/images/${id}`, { collection }), { method: "DELETE" }),
  });
  if (done.length + gone.length) forgetResults();
  return [...done, ...gone].map(({ id }) => id);
}

/**
 * Calls `change(item, signal)` for each, one after another: all changes pass one writer, and two at once only
 * wait for each other there. Gives back `{done, gone, failed, left}` once the dialog is closed: what was changed,
 * what was no longer there, `{item, error}` for what failed, and what was not tried.
 */
export async function changeEach(items, { title, did, change }) {
  const outcome = { done: [], gone: [], failed: [], left: [...items] };
  const view = progressDialog(title, did, items.length);
  const guard = (event) => event.preventDefault();
  addEventListener("beforeunload", guard);
  try {
    for (;;) {
      const stopping = view.begin();
      await run(outcome, change, view, stopping.signal);
      const isWhole = !outcome.failed.length && !outcome.left.length;
      if (isWhole || !(await view.end(outcome))) break;
      outcome.left = [...outcome.failed.map(({ item }) => item), ...outcome.left];
      outcome.failed = [];
    }
  } finally {
    removeEventListener("beforeunload", guard);
    view.close();
  }
  if (outcome.done.length + outcome.gone.length) notify(`${summary(outcome, did)}.`, { kind: "ok" });
  return outcome;
}

async function run(outcome, change, view, signal) {
  const { done, gone, failed, left } = outcome;
  const before = done.length + gone.length;
  while (left.length && !signal.aborted) {
    view.show(outcome);
    try {
      await change(left[0], signal);
      done.push(left.shift());
    } catch (error) {
      if (signal.aborted) return;
      if (WAITED_FOR.includes(error.status)) {
        await waitFor(error, view, signal);
      } else if (error.code === "image_not_found") {
        gone.push(left.shift());
      } else {
        failed.push({ item: left.shift(), error });
        const inVain = failed.length === FAILURES_IN_VAIN && done.length + gone.length === before;
        if (meetsAll(error) || inVain) return;
      }
    }
  }
}

async function waitFor(error, view, signal) {
  const seconds = Math.max(1, error.retryAfterS || WAIT_SECONDS);
  view.say(`Waiting ${seconds} s. ${error.message}`);
  await pause(seconds * 1000, signal).catch(() => {}); // it was stopped
}

/** Whether what is wrong is not one picture's matter: the key, the collection, the request itself. */
function meetsAll({ status, code, errors }) {
  if (status === undefined) return false; // not of the server
  return !["internal", "invalid_request"].includes(code) || (errors ?? []).some(({ pointer }) => pointer.startsWith("/metadata/"));
}

function summary({ done, gone, failed, left }, did) {
  const parts = [
    `${plural(done.length, "picture")} ${did}`,
    gone.length && `${number(gone.length)} gone already`,
    failed.length && `${number(failed.length)} failed`,
    left.length && `${number(left.length)} not tried`,
  ];
  return parts.filter(Boolean).join(", ");
}

function progressDialog(title, did, total) {
  const bar = h("progress", { class: "bar", max: total, value: 0, "aria-label": title });
  const text = h("p", { class: "numbers", role: "status" });
  const failures = h("ul", { class: "failures" });
  const stop = h("button", { class: "button", type: "button", autofocus: true }, "Stop");
  const again = h("button", { class: "button primary", type: "button" });
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-label": title },
    h("h2", {}, title),
    bar,
    text,
    failures,
    h("div", { class: "row end" }, again, stop),
  );
  let stopping = null;
  let answer = null; // whether to try again
  stop.addEventListener("click", () => (answer ? answer(false) : stopping.abort()));
  again.addEventListener("click", () => answer(true));
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    stop.click();
  });
  document.body.append(dialog);
  dialog.showModal();

  return {
    begin() {
      stopping = new AbortController();
      answer = null;
      stop.textContent = "Stop";
      again.hidden = failures.hidden = true;
      return stopping;
    },
    say(words) {
      text.textContent = words;
    },
    show({ done, gone, failed }) {
      bar.value = done.length + gone.length + failed.length;
      text.textContent = `${number(bar.value)} of ${number(total)}`;
    },
    /** Says what is not done; true to try that again. */
    end(outcome) {
      this.show(outcome);
      this.say(`${summary(outcome, did)}.`);
      failures.replaceChildren(...reasons(outcome.failed).map((reason) => h("li", {}, reason)));
      failures.hidden = !outcome.failed.length;
      failures.tabIndex = 0; // it may scroll
      again.hidden = false;
      const count = number(outcome.failed.length + outcome.left.length);
      again.textContent = outcome.failed.length ? `Try ${count} again` : `Go on with ${count}`;
      stop.textContent = "Close";
      stop.focus();
      return new Promise((resolve) => {
        answer = resolve;
      });
    },
    close() {
      dialog.close(); // gives the focus back
      dialog.remove();
    },
  };
}

/** Each reason once, with the names of the first pictures that failed for it. */
function reasons(failed) {
  const items = new Map();
  for (const { item, error } of failed) {
    const said = [error.message, ...(error.errors ?? []).map(({ message }) => message)];
    const reason = [...new Set(said)].join(" ");
    items.set(reason, [...(items.get(reason) ?? []), item]);
  }
  return [...items].map(([reason, all]) => {
    const names = all.slice(0, NAMES_SHOWN).map(({ source }) => sourceName(source));
    const more = all.length - names.length;
    return `${reason} (${names.join(", ")}${more ? ` and ${number(more)} more` : ""})`;
  });
}
