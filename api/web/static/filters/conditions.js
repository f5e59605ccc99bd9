/** The conditions of a query's filters: how one is changed, and how each is said in words. */

export const OPERATORS = { eq: "=", ne: "≠", gte: "≥", lte: "≤", gt: ">", lt: "<", in: "one of", nin: "none of" };
const DAY_MS = 86_400_000;

/** `filters` with a field's condition changed; `undefined` takes it away. */
export function withCondition(filters, field, condition) {
  const { [field]: _, ...others } = filters;
  return condition === undefined ? others : { ...others, [field]: condition };
}

/** Each condition as `{field, text}`, for people. */
export function describeConditions(filters) {
  return Object.entries(filters).map(([field, condition]) => ({ field, text: sentence(field, condition) }));
}

/** What keywords ask for, for people: "boot or shoe in title". */
export function describeKeywords({ any, all, in: names }) {
  const words = [any ?? all ?? []].flat().join(any ? " or " : " and ");
  return names ? `${words} in ${[names].flat().join(", ")}` : words;
}

function sentence(field, condition) {
  const isObject = condition !== null && typeof condition === "object" && !Array.isArray(condition);
  if (field === "near" && isObject) {
    return `within ${condition.radius_km} km of ${condition.lat}, ${condition.lon}`;
  }
  if (field === "taken_at" && isObject && (condition.gte || condition.lt)) {
    const to = condition.lt && lastDay(condition.lt);
    return `taken ${[condition.gte && `from ${condition.gte}`, to && `until ${to}`].filter(Boolean).join(" ")}`;
  }
  if (["tags", "colors"].includes(field) && Array.isArray(condition?.in)) {
    return `${field === "tags" ? "tag" : "colour"} ${condition.in.join(" or ")}`;
  }
  if (!isObject || ["and", "or", "not"].includes(field)) {
    return isObject || Array.isArray(condition) ? `${field} ${JSON.stringify(condition)}` : `${field} = ${condition}`;
  }
  return Object.entries(condition)
    .map(([operator, value]) => `${field} ${sign(operator, value)} ${[value].flat().join(", ")}`)
    .join(", ");
}

function sign(operator, value) {
  const isOne = Array.isArray(value) && value.length === 1;
  return OPERATORS[(isOne && { in: "eq", nin: "ne" }[operator]) || operator] ?? operator;
}

/** A date so many days later. */
export const shiftDate = (date, days) => new Date(Date.parse(date) + days * DAY_MS).toISOString().slice(0, 10);

/** The last whole day before `lt`; as it is where that is not a date alone. */
export const lastDay = (lt) => (/^\d{4}-\d\d-\d\d$/.test(lt) ? shiftDate(lt, -1) : lt);
