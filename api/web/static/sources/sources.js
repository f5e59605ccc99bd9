/** What collections are kept in step with: each source with its last and next sync, and buttons that start one. */

import { isRefusal } from "../lib/answers.js";
import { h } from "../lib/dom.js";
import { api } from "../lib/requests.js";
import { poll } from "../lib/timing.js";
import { sourceCard } from "./source_card.js";

const REFRESH_MS = 4000;
const MOST = 1000; // sources that a server has

export function show(container, _params, signal) {
  const message = h("p", { class: "empty", role: "status" });
  const list = h("ul", { class: "sources" });
  container.append(
    h(
      "div",
      { class: "column" },
      h(
        "header",
        { class: "stack" },
        h("h1", {}, "Sources"),
        h("p", { class: "muted" }, "Buckets, folders, feeds and sitemaps that collections are kept in step with."),
      ),
      message,
      list,
    ),
  );
  const cards = new Map();

  async function refresh() {
    let isRefused = false;
    try {
      const { sources } = await api(`/v1/sources?limit=${MOST}`, { signal, needs: ["sources"] });
      paint(sources);
      message.replaceChildren(...(sources.length ? [] : nothing()));
    } catch (error) {
      if (!signal.aborted) message.textContent = error.message;
      isRefused = isRefusal(error);
    }
    message.hidden = !message.textContent;
    return !isRefused;
  }

  /** Cards stay as they are, so that the focus does; the server lists them by name. */
  function paint(sources) {
    const present = new Set(sources.map(({ name }) => name));
    for (const [name, card] of cards) {
      if (present.has(name)) continue;
      card.remove();
      cards.delete(name);
    }
    sources.forEach((source, place) => {
      const card = cards.get(source.name) ?? sourceCard(source, { signal, refresh });
      if (!cards.has(source.name)) list.insertBefore(card.element, list.children[place] ?? null);
      cards.set(source.name, card);
      card.update(source);
    });
  }

  poll(refresh, REFRESH_MS, signal);
}

function nothing() {
  return [
    "There are none yet. The command line makes one: ",
    h("code", {}, "image-search sync s3://bucket/prefix --name shop --every 1d"),
    ", and so does ",
    h("code", {}, "PUT /v1/sources/shop"),
    ".",
  ];
}
