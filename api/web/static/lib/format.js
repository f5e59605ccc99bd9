/** Numbers and times as people read them. */

import { h } from "./dom.js";

const LOCALE = "en"; // as the page's words
const whole = new Intl.NumberFormat(LOCALE);
const short = new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 3 });
const exact = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto" });
const UNITS = [
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];
const SIZES = ["B", "kB", "MB", "GB", "TB"];

export const number = (value) => whole.format(value);

/** `plural(1, "picture")` is "1 picture", `plural(2, "picture")` "2 pictures". */
export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/** A text of the server's in which names stand in backticks. */
export const quoted = (text) => text.replaceAll(/`([^`]+)`/g, "“$1”");

export function size(bytes) {
  const power = Math.min(SIZES.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${short.format(bytes / 1000 ** power)} ${SIZES[power]}`;
}

export const rate = (perSecond) => `${short.format(perSecond)} per second`;

/** Of seconds: "12 s", "3 min 20 s", "2 h 5 min". */
export function duration(seconds) {
  const rest = Math.max(0, Math.round(seconds));
  if (rest < 60) return `${rest} s`;
  const [hours, minutes] = [Math.floor(rest / 3600), Math.floor((rest % 3600) / 60)];
  if (hours) return minutes ? `${hours} h ${minutes} min` : `${hours} h`;
  return rest % 60 && minutes < 10 ? `${minutes} min ${rest % 60} s` : `${minutes} min`;
}

function ago(date) {
  const seconds = (date - Date.now()) / 1000;
  const [unit, length] = UNITS.find(([, least]) => Math.abs(seconds) >= least) ?? UNITS.at(-1);
  return relative.format(Math.round(seconds / length), unit);
}

/** A time (RFC 3339), as how long ago it was; pointing at it shows when exactly. */
export function timeAgo(text) {
  const date = new Date(text);
  return h("time", { datetime: text, title: exact.format(date) }, ago(date));
}

export const timeExact = (text) => h("time", { datetime: text }, exact.format(new Date(text)));
