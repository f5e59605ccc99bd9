/** Why items of a job failed: what is worth retrying apart from the rest, each code with its cause and what to do. */

import { h } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { limits } from "../lib/server.js";
import { sourceOf } from "./source.js";

const GROUPS = [
  ["Worth retrying", (failure) => failure.worth_retrying, true],
  ["Permanent", (failure) => failure.count - failure.worth_retrying, false],
];

/** How many of a job's failed items may succeed when they are tried again; null where that is not known. */
export function worthRetrying(job) {
  const known = sum(job.failures.map(({ count }) => count)) === job.counts.failed;
  return known ? sum(job.failures.map((failure) => failure.worth_retrying)) : null;
}

/** A job's failures as elements, with up to `samples` sources for each code. */
export function failureSections(job, { samples }) {
  const failures = worthRetrying(job) === null ? tallied(job.errors) : job.failures;
  return GROUPS.flatMap(([title, countOf, isWorth]) => {
    const some = failures.map((failure) => ({ ...failure, count: countOf(failure) })).filter(({ count }) => count);
    if (!some.length) return [];
    const errors = job.errors.filter((error) => error.worth_retrying === isWorth);
    return [
      h("p", {}, h("strong", {}, `${title}: ${number(sum(some.map(({ count }) => count)))}`)),
      h("ul", { class: "errors" }, ...some.map((failure) => line(failure, errors, samples))),
    ];
  });
}

function line({ code, count }, errors, samples) {
  const known = limits.error_codes[code];
  const shown = errors.filter((error) => error.code === code).slice(0, samples);
  return h(
    "li",
    {},
    h("p", {}, h("code", {}, code), ` ${number(count)}`, known && h("span", {}, ` · ${known.cause} `, h("em", {}, known.next_step))),
    ...shown.map((error) => h("p", { class: "sample" }, sourceOf(error.source), h("span", { class: "reason" }, error.detail))),
    samples > 0 && count > shown.length && h("p", { class: "muted" }, `and ${number(count - shown.length)} more`),
  );
}

/** Of a job that an earlier version of the server has counted: what its first errors say. */
function tallied(errors) {
  return [...Map.groupBy(errors, ({ code }) => code)].map(([code, some]) => ({
    code,
    count: some.length,
    worth_retrying: some.filter((error) => error.worth_retrying).length,
  }));
}

const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
