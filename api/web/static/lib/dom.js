/** Elements: made without markup, so that no text from the index is ever parsed as such. */

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  search: "M11 4.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M16 16l4.5 4.5",
  image: "M4 5.5h16v13H4zM4 16l4.5-4.5 4 4 2.5-2.5 5 4.5M15.5 9.5h.01",
  filter: "M4 6.5h16M7 12h10M10 17.5h4",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
  similar: "M8 8h11.5v11.5H8zM4.5 16V4.5H16",
  previous: "M14.5 5.5 8 12l6.5 6.5",
  next: "M9.5 5.5 16 12l-6.5 6.5",
  trash: "M4.5 7h15M9.5 7V4.5h5V7M6.5 7l1 12.5h9l1-12.5M10 10.5v5.5M14 10.5v5.5",
  check: "M5 12.5l4.5 4.5L19 7.5",
  copy: "M8.5 8.500h11v11h-11zM5 15.500h-.5v-11h11V5",
  link: "M10 14a4 4 0 0 0 6 .4l3-3a4 4 0 0 0-5.700-5.700L12 7M14 10a4 4 0 0 0-6-.4l-3 3a4 4 0 0 0 5.700 5.700L12 17",
  tag: "M4 4.500h7.500l8.500 8.500-7.500 7.500L4 12zM8 8.500h.01",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.700l1.4-1.4M17.3 6.700l1.4-1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5",
  half: "M12 3.5a8.5 8.5 0 1 0 0 17zM12 3.5a8.5 8.5 0 0 1 0 17",
  keyboard: "M3 6.5h18v11H3zM6.5 10h.01M10 10h.01M13.5 10h.01M17 10h.01M8 14h8",
  place: "M12 21c4-4.5 6.5-8 6.5-11a6.5 6.5 0 0 0-13 0c0 3 2.5 6.5 6.5 11M12 8a2 2 0 1 0 0 4 2 2 0 0 0 0-4",
  upload: "M12 16V4.5M7 9l5-5 5 5M4.5 19.5h15",
  folder: "M3.5 18.5v-13h6l2 2.5h9v10.5z",
  retry: "M19.5 12a7.5 7.5 0 1 1-2.3-5.4M19.5 3.5v4h-4",
  warning: "M12 4 2.8 19.5h18.4zM12 10v4.5M12 17h.01",
  collection: "M4 9.5h16v10H4zM6.500 6.5h11M9 3.500h6",
  crop: "M7 3v14h14M3 7h14v14",
  down: "M7 10l5 5 5-5",
  download: "M12 4v11M7 10.5l5 5 5-5M4.5 19.5h15",
};

/**
 * An element. Properties: `class`, `dataset` and `style` as objects, `on<event>` functions, others as
 * attributes (`true` for one without a value; `null`, `undefined` and `false` are left out). Strings and
 * numbers among the children become text; `null`, `undefined` and `false` nothing.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "style") Object.assign(element.style, value);
    else if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** A decorative line drawing; what it stands on needs a name of its own. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}
