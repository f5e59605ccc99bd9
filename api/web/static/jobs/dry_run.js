/** What a dry run of a sync has found: what would go, with thumbnails, what would be added and what changed. */

import { withCollection } from "../lib/collection.js";
import { h } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { imageURL } from "../lib/image_urls.js";
import { sourceName } from "../lib/sources.js";
import { sourceOf } from "./source.js";

/** Whether a job is a sync's dry run that has its result. */
export const isDryRun = (job) => job.kind === "sync" && Boolean(job.result?.dry_run && job.result.counts);

/** As elements: the counts in a sentence, then the first entries that would be removed, added and changed. */
export function dryRunSections({ result, collection }) {
  const { counts, added, changed, removed } = result;
  const pictures = (some) => h("ul", { class: "going" }, ...some.map((one) => missing(one, collection)));
  return [
    h("p", {}, sentence(counts)),
    counts.withheld > 0 && h("p", { class: "note" }, `${plural(counts.withheld, "removal")} would be withheld: that is more than this source may remove at once.`),
    section(counts.withheld ? "Missing, but kept" : "Would be removed", counts.removed || counts.withheld, removed, pictures, { open: true }),
    section("Would be added", counts.added, added, entries),
    section("Would be changed", counts.changed, changed, entries),
  ].filter(Boolean);
}

function sentence({ added, changed, removed, unchanged }) {
  return `A sync would add ${number(added)}, change ${number(changed)} and remove ${number(removed)}; ${number(unchanged)} unchanged.`;
}

function section(title, count, some, shown, properties = {}) {
  if (!count) return null;
  const more = count - some.length;
  return h(
    "details",
    properties,
    h("summary", {}, `${title}: ${number(count)}`),
    h("div", { class: "stack" }, shown(some), more > 0 && h("p", { class: "muted small" }, `and ${number(more)} more`)),
  );
}

function entries(some) {
  const line = ({ key, source }) => h("li", {}, key && h("bdi", { class: "muted" }, `${key} `), sourceOf(source));
  return h("ul", { class: "entries small" }, ...some.map(line));
}

/** An entry that the listing has no longer, as the picture that it brought. */
function missing({ source, key, image_id: id }, collection) {
  const name = key || sourceName(source);
  const label = h("p", { class: "small ellipsis", title: source }, h("bdi", {}, name));
  if (!id) return h("li", {}, label);
  const href = withCollection(`/?${new URLSearchParams({ image: id })}`, collection);
  return h("li", {}, h("a", { class: "going-picture", href, "aria-label": `Open ${name}` }, thumbnail(id, collection)), label);
}

function thumbnail(id, collection) {
  const image = h("img", { alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.remove());
  imageURL(`/v1/images/${id}/thumbnail?${new URLSearchParams({ collection })}`).then(
    (url) => (image.src = url),
    () => image.remove(),
  );
  return image;
}
