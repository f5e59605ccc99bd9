/** Why an image has its score: what each term of the query adds to it, or takes from it. */

import { h } from "../lib/dom.js";
import { hasTerms, lostFiles, unlisted } from "./query.js";
import { search } from "./request.js";

/**
 * Fills `section`, which stays hidden where nothing was asked for or the image passes no filter. Gives back the
 * image as a result of the query, undefined where it is none.
 */
export async function explainScore(section, state, id, signal) {
  if (!hasTerms(state) || lostFiles(state).length) return undefined;
  const asked = { ...unlisted(state), filters: { and: [state.filters, { id }].filter((part) => Object.keys(part).length) } };
  const page = { limit: 1, include: ["contributions", "confidence"] };
  const { answer, nameOf } = await search(asked, page, { signal, needs: ["results"] });
  // An image that was itself asked for leads the results of its own query.
  const found = answer.results.find((result) => result.id === id);
  if (!found?.contributions) return found;
  section.append(
    h("h3", {}, [`Score ${found.score.toFixed(2)}`, found.strength && `${found.strength} match`].filter(Boolean).join(", ")),
    h("dl", { class: "shares" }, ...found.contributions.map((term) => shareRow(term, nameOf(term.pointer)))),
  );
  section.hidden = false;
  return found;
}

/** The bar is from 0 to 1, for all terms and images alike; a share that is larger, as negatives can make it, fills it. */
function shareRow({ cosine, share }, text) {
  const title = `${text}: cosine similarity ${cosine.toFixed(3)}, ${share.toFixed(3)} of the score`;
  return h(
    "div",
    { title, class: share < 0 ? "negative" : "" },
    h("dt", { dir: "auto" }, text),
    h("meter", { min: 0, max: 1, value: Math.abs(share), "aria-hidden": "true" }),
    h("dd", { class: "numbers" }, `${share < 0 ? "−" : "+"}${Math.abs(share).toFixed(2)}`),
  );
}
