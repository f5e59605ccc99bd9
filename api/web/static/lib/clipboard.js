/** What is copied for elsewhere. */

import { h, icon } from "./dom.js";

const SAID_MS = 2000;

/** Copies a text; false where the browser does not permit it. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByField(text); // without https there is no other way
  }
}

function copyByField(text) {
  const before = document.activeElement;
  const field = h("textarea", { class: "visually-hidden", "aria-hidden": "true", tabindex: -1 });
  field.value = text;
  // Where a dialog is open only what is in it can be selected.
  (before?.closest("dialog") ?? document.body).append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  before?.focus();
  return isDone;
}

/** A button that copies a text as a whole and says so itself; `what` names it: "id". */
export function copyButton(text, what) {
  const said = h("span", { class: "small", role: "status" });
  const button = h(
    "button",
    { class: "button quiet round copy", type: "button", "aria-label": `Copy the ${what}`, title: `Copy the ${what}` },
    icon("copy"),
  );
  button.addEventListener("click", async () => {
    said.textContent = (await copyText(text)) ? "Copied" : "Not copied: select it instead";
    setTimeout(() => said.replaceChildren(), SAID_MS);
  });
  return h("span", { class: "copy-line" }, button, said);
}
