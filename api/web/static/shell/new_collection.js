/** The dialog that makes a collection. */

import { h } from "../lib/dom.js";
import { api } from "../lib/requests.js";
import { inputPattern, limits } from "../lib/server.js";

/** Asks for a name and makes the collection; gives its name, or null where none is wanted after all. */
export function newCollection(proposed = "") {
  return new Promise((resolve) => {
    const { pattern, rule } = limits.collection_name;
    const name = h("input", {
      class: "field",
      id: "new-collection",
      value: proposed,
      required: true,
      pattern: inputPattern(pattern),
      title: rule,
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      "aria-describedby": "new-collection-rule",
      onchange: () => (name.value = name.value.trim()),
    });
    const fault = h("p", { class: "fault", role: "alert" });
    const submit = h("button", { class: "button primary" }, "Create");
    const cancel = h("button", { class: "button", type: "button", onclick: () => dialog.close() }, "Cancel");
    let made = null;

    async function create(event) {
      event.preventDefault();
      submit.disabled = true;
      fault.replaceChildren();
      try {
        made = (await api("/v1/collections", { method: "POST", body: { name: name.value }, needs: ["name"] })).name;
        dialog.close();
      } catch (error) {
        fault.replaceChildren(error.message);
        if (error.code === "collection_exists") fault.append(" ", goThere(name.value));
      } finally {
        submit.disabled = false;
      }
    }

    function goThere(existing) {
      const go = () => {
        made = existing;
        dialog.close();
      };
      return h("button", { class: "button", type: "button", onclick: go }, `Go to ${existing}`);
    }

    const dialog = h(
      "dialog",
      {
        class: "dialog",
        "aria-labelledby": "new-collection-title",
        onclose: () => {
          dialog.remove();
          resolve(made);
        },
      },
      h("h2", { id: "new-collection-title" }, "New collection"),
      h(
        "form",
        { class: "stack", onsubmit: create },
        h("label", { for: "new-collection" }, "Name"),
        name,
        h("p", { class: "muted small", id: "new-collection-rule" }, `${rule}.`),
        fault,
        h("div", { class: "row end" }, cancel, submit),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
