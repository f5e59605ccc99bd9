/** The dialog that makes a collection. */

import { h } from "../lib/dom.js";
import { loadModels, stateText } from "../lib/models.js";
import { api } from "../lib/requests.js";
import { inputPattern, limits } from "../lib/server.js";

/** Asks for a name and a model and makes the collection; gives its name, or null where none is wanted after all. */
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
    const model = h("input", {
      class: "field",
      id: "new-collection-model",
      list: "new-collection-models",
      maxlength: "1024",
      placeholder: "The server's default",
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      "aria-describedby": "new-collection-model-rule",
      onchange: () => (model.value = model.value.trim()),
    });
    const known = h("datalist", { id: "new-collection-models" });
    const leaving = new AbortController();
    const fault = h("p", { class: "fault", role: "alert" });
    const submit = h("button", { class: "button primary" }, "Create");
    const cancel = h("button", { class: "button", type: "button", onclick: () => dialog.close() }, "Cancel");
    let made = null;

    async function create(event) {
      event.preventDefault();
      submit.disabled = true;
      fault.replaceChildren();
      const body = { name: name.value, ...(model.value && { model: model.value }) };
      try {
        made = (await api("/v1/collections", { method: "POST", body, needs: ["name"] })).name;
        dialog.close();
      } catch (error) {
        fault.replaceChildren(error.message);
        if (error.code === "collection_exists") fault.append(" ", goThere(name.value));
      } finally {
        submit.disabled = false;
      }
    }

    async function proposeModels() {
      const models = await loadModels(leaving.signal).catch(() => []); // any can be typed
      known.append(...models.map((one) => h("option", { value: one.name }, [one.languages, stateText(one)].filter(Boolean).join(", "))));
      if (models.length) model.placeholder = `The server's default: ${models[0].name}`;
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
          leaving.abort();
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
        h("label", { for: "new-collection-model" }, "Model"),
        model,
        known,
        h(
          "p",
          { class: "muted small", id: "new-collection-model-rule" },
          "What encodes its pictures. Another than the default one needs a key with the scope “admin”: a Hugging Face id, “starter”, or a folder below the server’s IMAGE_SEARCH_MODELS_FOLDER. What the server does not have is downloaded.",
        ),
        fault,
        h("div", { class: "row end" }, cancel, submit),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
    proposeModels();
  });
}
