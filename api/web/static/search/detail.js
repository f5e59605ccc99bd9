/** One image, large, with all that is known of it. */

import { h, icon } from "../lib/dom.js";
import { api } from "../lib/requests.js";
import { sourceName } from "../lib/sources.js";
import { showFacts } from "./image_facts.js";
import { showElsewhere } from "./messages.js";
import { markMatched } from "./matched.js";
import { showLargeImage } from "./large_image.js";
import { showNeighbours } from "./neighbours.js";
import { addressOf, collectionPath } from "./query.js";
import { explainScore } from "./score.js";

const NEEDS = ["id", "source", "sources", "format", "tags", "colors", "metadata", "keys"];

/**
 * Opens the image `id`. `actions`: `close()`, `step(by)` to a neighbour, `like(name, id)` for "more", "less",
 * "similar" and "part", `filter(field, condition)`, `hrefOf(id)`, `deleted(id)`, `can(by)` whether there is a
 * neighbour. Gives back the dialog, whose `dismiss()` closes it without `close()`.
 */
export function openDetail(id, state, actions) {
  const leaving = new AbortController();
  const frame = h("div", { class: "large-image" });
  const facts = h("div", { class: "image-facts" }, h("p", { class: "muted loading" }, "Loading…"));
  const dialog = h(
    "dialog",
    { class: "detail", "aria-label": "Picture" },
    frame,
    facts,
    h("div", { class: "detail-top" }, button("close", "Close (Esc)", actions.close)),
    actions.can(-1) && stepButton("previous", "Previous picture (←)", () => actions.step(-1)),
    actions.can(1) && stepButton("next", "Next picture (→)", () => actions.step(1)),
  );
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    actions.close();
  });
  dialog.addEventListener("keydown", (event) => onKey(event, id, actions));
  dialog.dismiss = () => {
    leaving.abort();
    dialog.remove();
  };
  document.body.append(dialog);
  dialog.showModal();
  load({ id, state, actions, frame, facts, dialog, signal: leaving.signal });
  return dialog;
}

function button(name, label, onclick) {
  return h("button", { class: "button round solid", type: "button", "aria-label": label, title: label, onclick }, icon(name));
}

function stepButton(name, label, onclick) {
  const made = button(name, label, onclick);
  made.classList.add("step", name);
  return made;
}

function onKey(event, id, actions) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const keys = {
    ArrowLeft: () => actions.can(-1) && actions.step(-1),
    ArrowRight: () => actions.can(1) && actions.step(1),
    m: () => actions.like("more", id),
    l: () => actions.like("less", id),
    s: () => actions.like("similar", id),
    p: () => actions.like("part", id),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

async function load(view) {
  const { id, state, facts, dialog, signal } = view;
  try {
    const image = await api(collectionPath(`/v1/images/${encodeURIComponent(id)}`, state), { signal, needs: NEEDS });
    dialog.setAttribute("aria-label", sourceName(image.source));
    showLargeImage(view, image);
    showFacts(view, image);
    const explained = explainScore(facts.querySelector(".score-terms"), state, id, signal);
    await Promise.all([explained.then((found) => markMatched(facts, found?.matched)), showNeighbours(view, image)]);
  } catch (error) {
    if (signal.aborted) return;
    facts.querySelector(".loading")?.remove();
    const isGone = error.code === "image_not_found";
    const gone = `The collection “${state.collection}” does not have this picture: it was deleted, or is another one's.`;
    facts.append(h("p", { role: "alert" }, isGone ? gone : error.message));
    const hrefIn = (collection) => addressOf({ ...state, more: [], less: [], collection, image: id });
    if (isGone) showElsewhere(facts, id, state.collection, { hrefIn, signal });
  }
}
