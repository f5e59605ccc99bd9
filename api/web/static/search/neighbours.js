/** The images nearest to one: near-duplicates apart from those that are only similar. */

import { h } from "../lib/dom.js";
import { imageURL } from "../lib/image_urls.js";
import { api } from "../lib/requests.js";
import { limits } from "../lib/server.js";
import { sourceName } from "../lib/sources.js";
import { section } from "./image_facts.js";
import { collectionPath } from "./query.js";

const SIMILAR_SHOWN = 24;

/** Shows them in `facts` of `view`, which is what `openDetail` made. */
export async function showNeighbours({ id, state, actions, facts, signal }, image) {
  const { results } = await api(collectionPath(`/v1/images/${id}/similar`, state, { limit: SIMILAR_SHOWN }), { signal, needs: ["results"] });
  const near = await nearDuplicates(image, results, state, signal);
  const nearIds = new Set(near.map((result) => result.id));
  facts.querySelector(".neighbours").replaceChildren(
    ...[
      section("Near-duplicates", near.length && strip(near, actions)),
      near.length && h("a", { href: collectionPath("/duplicates", state) }, "All near-duplicates of the collection"),
      section("Similar", strip(results.filter((result) => !nearIds.has(result.id)), actions)),
    ].filter(Boolean),
  );
}

function strip(results, actions) {
  if (!results.length) return null;
  return h(
    "div",
    { class: "strip" },
    ...results.map((result) => {
      const thumb = h("img", { alt: "", loading: "lazy" });
      imageURL(result.thumbnail_url).then((url) => {
        thumb.src = url;
      }, () => {});
      const name = `${sourceName(result.source)}, ${result.score.toFixed(2)}`;
      return h("a", { href: actions.hrefOf(result.id), "aria-label": name, title: name }, thumb);
    }),
  );
}

/** Of the most similar pictures those whose perceptual hashes are near, too. */
async function nearDuplicates(image, results, state, signal) {
  if (!image.phash) return [];
  const alike = results.filter((result) => result.score >= limits.near_duplicates.cosine);
  const hashes = await Promise.all(
    alike.map(async (result) => (await api(collectionPath(`/v1/images/${result.id}`, state), { signal, needs: ["phash"] })).phash),
  );
  return alike.filter((_, place) => hashes[place] && differentBits(hashes[place], image.phash) <= limits.near_duplicates.hash_bits);
}

function differentBits(a, b) {
  const bits = (BigInt(`0x${a}`) ^ BigInt(`0x${b}`)).toString(2);
  return bits.replaceAll("0", "").length;
}
