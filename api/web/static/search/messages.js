/** What the search view says in the place of results. */

import { h, icon } from "../lib/dom.js";

const addPictures = () => h("a", { class: "button primary", href: "/ingest" }, icon("plus"), "Add pictures");

function message(title, texts, action, properties = {}) {
  const lines = [texts].flat().map((text) => h("p", { class: "muted" }, text));
  return h("div", { class: "nothing", ...properties }, h("h2", {}, title), ...lines, action);
}

/** `clear` takes the filters away; null where there are none. */
export function nothingFits(clear) {
  return clear
    ? message("Nothing fits", "No picture passes the filters.", h("button", { class: "button", type: "button", onclick: clear }, "Clear the filters"))
    : message("Nothing fits", "This collection is empty.", addPictures());
}

export function noPictures() {
  const text = "Drop a folder, or paste addresses of pictures: a minute later they can be searched.";
  return message("No pictures yet", text, addPictures());
}

export function failed(error, retry) {
  const button = h("button", { class: "button", type: "button", onclick: retry }, "Try again");
  return message("That did not work", linesOf(error), button, { role: "alert" });
}

/** What is wrong, without the places in the request, which the server names for programs. */
function linesOf({ message: text, errors }) {
  return errors?.length ? [...new Set(errors.map((fault) => fault.message))] : [text];
}
