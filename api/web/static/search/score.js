/** Why an image has its score: what each term of the query adds to it, or takes from it. */

import { h } from "../lib/dom.js";
import { api } from "../lib/requests.js";
import { hasTerms, lostFiles, searchBody, splitWords } from "./query.js";

/** Fills `section`, which stays hidden where nothing was asked for or the image passes no filter. */
export async function explainScore(section, state, id, signal) {
  if (!hasTerms(state) || lostFiles(state).length) return;
  const asked = { ...state, filters: { and: [state.filters, { id }].filter((part) => Object.keys(part).length) } };
  const page = { limit: 1, include: ["contributions", "confidence"] };
  const { results } = await api("/v1/search", { method: "POST", body: searchBody(asked, page), signal, needs: ["results"] });
  // An image that was itself asked for leads the results of its own query.
  const found = results.find((result) => result.id === id);
  if (!found?.contributions) return;
  section.append(
    h("h3", {}, [`Score ${found.score.toFixed(2)}`, found.strength && `${found.strength} match`].filter(Boolean).join(", ")),
    h("dl", { class: "shares" }, ...found.contributions.map((term) => shareRow(term, state))),
  );
  section.hidden = false;
}

/** The bar is from 0 to 1, for all terms and images alike; a share that is larger, as negatives can make it, fills it. */
function shareRow({ pointer, cosine, share }, state) {
  const text = termName(pointer, state);
  const title = `${text}: cosine similarity ${cosine.toFixed(3)}, ${share.toFixed(3)} of the score`;
  return h(
    "div",
    { title, class: share < 0 ? "negative" : "" },
    h("dt", { dir: "auto" }, text),
    h("meter", { min: 0, max: 1, value: Math.abs(share), "aria-hidden": "true" }),
    h("dd", { class: "numbers" }, `${share < 0 ? "−" : "+"}${Math.abs(share).toFixed(2)}`),
  );
}

/** What a pointer into the request stands for on the page; see `searchBody` in query.js for the order of terms. */
function termName(pointer, state) {
  const { words, not } = splitWords(state.q);
  const [, list, place] = pointer.split("/");
  const number = Number(place);
  if (list === "text") return words;
  if (list === "image") return "your picture";
  if (list === "positive") return number < state.urls.length ? "picture by address" : "more like";
  return number < not.length ? `not ${not[number]}` : "less like";
}
