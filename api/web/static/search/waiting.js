/** What the search view says while a collection's model is on its way; the search itself goes on asking for it. */

import { h } from "../lib/dom.js";
import { loadModels, stateText } from "../lib/models.js";
import { notice } from "../lib/notice.js";
import { api } from "../lib/requests.js";
import { poll } from "../lib/timing.js";

const REFRESH_MS = 2000;

/** `error` is the server's refusal; follows the model of the collection until the signal, or until it is gone. */
export function modelOnItsWay(error, collection, signal) {
  const state = h("p", { class: "small numbers" });
  const bar = h("progress", { class: "bar", max: "1", hidden: true, "aria-label": "Download of the model" });
  const element = h(
    "div",
    {},
    notice("The model is not ready yet", [error.message, "The pictures are shown here as soon as it is."], [], { role: "status" }),
    h("div", { class: "model-state" }, state, bar),
  );

  async function look() {
    try {
      const { model } = await api(`/v1/collections/${encodeURIComponent(collection)}`, { signal, needs: ["model"] });
      const found = (await loadModels(signal)).find(({ name }) => name === model);
      state.textContent = found ? `${model}: ${stateText(found)}` : model;
      bar.hidden = typeof found?.progress !== "number";
      if (!bar.hidden) bar.value = found.progress;
    } catch {
      // The search, which goes on, says what is wrong.
    }
    return element.isConnected;
  }

  poll(look, REFRESH_MS, signal);
  return element;
}
