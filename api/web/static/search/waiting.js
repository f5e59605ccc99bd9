/** What the search view says while a collection's model is on its way; the search itself goes on asking for it. */

import { h } from "../lib/dom.js";
import { hindrance, loadModels } from "../lib/models.js";
import { notice } from "../lib/notice.js";
import { api } from "../lib/requests.js";
import { poll } from "../lib/timing.js";

const REFRESH_MS = 2000;

/** In the place of results; `error` is the server's refusal. */
export function modelOnItsWay(error, collection, signal) {
  const texts = [error.message, "The pictures are shown here as soon as it is."];
  return h("div", {}, notice("The model is not ready yet", texts, [], { role: "status" }), modelState(collection, signal));
}

/** How far the model of a collection is, until the signal or until this is taken away; nothing while it can be used. */
export function modelState(collection, signal) {
  const text = h("p", { class: "small numbers" });
  const bar = h("progress", { class: "bar", max: "1", hidden: true, "aria-label": "Download of the model" });
  const element = h("div", { class: "model-state" }, text, bar);

  async function look() {
    try {
      const { model } = await api(`/v1/collections/${encodeURIComponent(collection)}`, { signal, needs: ["model"] });
      const found = (await loadModels(signal)).find(({ name }) => name === model);
      const why = hindrance(found);
      text.textContent = why ? `${model}: ${why}` : "";
      bar.hidden = typeof found?.progress !== "number";
      if (!bar.hidden) bar.value = found.progress;
    } catch {
      // The search, which needs the same, says what is wrong.
    }
    return element.isConnected;
  }

  poll(look, REFRESH_MS, signal);
  return element;
}
