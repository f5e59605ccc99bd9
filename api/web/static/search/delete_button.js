/** The button that deletes an image from its collection, once it has asked. */

import { confirmDialog, notify } from "../lib/dialogs.js";
import { h, icon } from "../lib/dom.js";
import { api } from "../lib/requests.js";
import { sourceName } from "../lib/sources.js";
import { collectionPath } from "./query.js";

export function deleteButton(view, image) {
  return h(
    "button",
    { class: "button quiet danger", type: "button", onclick: () => deleteImage(view, image) },
    icon("trash"),
    "Delete this picture",
  );
}

async function deleteImage({ state, actions }, image) {
  const name = sourceName(image.source);
  if (!(await confirmDialog(`Delete ${name} from the collection “${state.collection}”? This cannot be undone.`, { action: "Delete" }))) return;
  try {
    await api(collectionPath(`/v1/images/${image.id}`, state), { method: "DELETE" });
    notify(`${name} is deleted.`, { kind: "ok" });
    actions.deleted(image.id);
  } catch (error) {
    notify(error.message, { kind: "error" });
  }
}
