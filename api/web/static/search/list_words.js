/** How a list of results is ordered, grouped and varied, in words. */

import { NEAR_DUPLICATES, hasTerms } from "./query.js";

const ORDERS = {
  "-created_at": "newest first",
  created_at: "oldest first",
  "-taken_at": "last taken first",
  taken_at: "first taken first",
};

/** What an `order_by` means: "price, largest first". */
export function orderWords(orderBy) {
  const isDown = orderBy.startsWith("-");
  return ORDERS[orderBy] ?? `${isDown ? orderBy.slice(1) : orderBy}, ${isDown ? "largest" : "smallest"} first`;
}

export const groupWords = (groupBy) => (groupBy === NEAR_DUPLICATES ? "one of near-duplicates" : `one of each ${groupBy}`);

/** The parts of a state that say how its results are listed, as `{part, text}`: those that mean something for it. */
export function listedBy(state) {
  const { orderBy, groupBy, diversity, stack } = state;
  if (!hasTerms(state)) return [];
  return [
    orderBy && { part: { orderBy: "" }, text: orderWords(orderBy) },
    groupBy && !stack && { part: { groupBy: "" }, text: groupWords(groupBy) },
    diversity && !orderBy && { part: { diversity: 0 }, text: `variety ${diversity}` },
  ].filter(Boolean);
}
