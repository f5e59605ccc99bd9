/** All that is known of many pictures, which search results leave out. */

import { api } from "../lib/requests.js";
import { collectionPath } from "../search/query.js";

const AT_ONCE = 50; // ids: an address of 4,000 characters passes every proxy

/** The records of those of `items` that are still there, in their order. `onRead(count)` is told how far it is. */
export async function readRecords(items, { collection }, { signal, onRead = () => {} } = {}) {
  const records = [];
  for (let start = 0; start < items.length; start += AT_ONCE) {
    onRead(start);
    const ids = items.slice(start, start + AT_ONCE).map(({ id }) => id);
    // With any condition on `nsfw`, those are listed too that are else hidden: they were selected.
    const params = { limit: AT_ONCE, filters: JSON.stringify({ id: { in: ids }, nsfw: { ne: -1 } }) };
    const { images } = await api(collectionPath("/v1/images", { collection }, params), { signal, needs: ["images"] });
    const known = new Map(images.map((image) => [image.id, image]));
    records.push(...ids.map((id) => known.get(id)).filter(Boolean));
  }
  return records;
}
