/** What lies over the page: passing notices, and questions before what cannot be undone. */

import { h, icon } from "./dom.js";

/** Says something in passing, also to screen readers. `kind`: "info", "ok" or "error", which stays longer. */
export function notify(text, { kind = "info" } = {}) {
  const box = document.getElementById("toasts");
  const toast = h("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status" });
  const close = h(
    "button",
    { class: "button quiet round", type: "button", "aria-label": "Dismiss", onclick: () => toast.remove() },
    icon("close"),
  );
  box.append(toast);
  // Into an element that is there already: screen readers speak of what changes.
  toast.append(h("p", {}, text), close);
  setTimeout(() => toast.remove(), kind === "error" ? 12_000 : 5_000);
}

/** Asks before what cannot be undone. False when dismissed. */
export function confirmDialog(text, { action = "Yes" } = {}) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      {
        class: "dialog",
        "aria-label": "Please confirm",
        onclose: () => {
          dialog.remove();
          resolve(dialog.returnValue === "yes");
        },
      },
      h("p", {}, text),
      h(
        "form",
        { method: "dialog", class: "row end" },
        h("button", { class: "button", value: "no", autofocus: true }, "Cancel"),
        h("button", { class: "button primary danger", value: "yes" }, action),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
