/** The words and phrases that a picture's metadata must have. */

import { h } from "../lib/dom.js";
import { group, show } from "./fields.js";

const MOST_NAMES = 12; // to choose from

const namesOf = (asked) => [asked?.in ?? []].flat();

export function keywords(change) {
  let asked = null;
  const field = h("input", {
    class: "field",
    autocomplete: "off",
    autocapitalize: "none",
    dir: "auto",
    placeholder: "boot, north face",
    "aria-label": "Keywords",
    title: "Whole words and phrases in any case, several with commas",
    onchange: set,
  });
  const how = h("select", { class: "field", "aria-label": "How many of the keywords", onchange: set }, h("option", { value: "any" }, "any"), h("option", { value: "all" }, "all"));
  const names = h("div", { class: "row" });
  const element = group("Keywords in the metadata", h("div", { class: "condition" }, field, how), names);

  function set() {
    ask(namesOf(asked));
  }

  function ask(inNames) {
    const words = field.value.split(/[,，、]/).map((word) => word.trim()).filter(Boolean);
    change({ keywords: words.length ? { [how.value]: words, ...(inNames.length && { in: inNames }) } : null });
  }

  function toggle(name) {
    const chosen = namesOf(asked);
    ask(chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name]);
  }

  function nameButton(name) {
    const pressed = namesOf(asked).includes(name);
    const properties = { "aria-pressed": String(pressed), "aria-label": `Only in ${name}`, dataset: { name } };
    return h("button", { class: "chip toggle", type: "button", ...properties, onclick: () => toggle(name) }, h("span", { class: "ellipsis" }, name));
  }

  function showNames(known) {
    const focused = names.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    const all = asked ? [...new Set([...known, ...namesOf(asked)])] : [];
    names.replaceChildren(...all.map(nameButton));
    [...names.children].find(({ dataset }) => dataset.name === focused)?.focus();
  }

  return {
    element,
    sync(state, _tags, facets) {
      asked = state.keywords;
      show(field, [asked?.any ?? asked?.all ?? []].flat().join(", "));
      if (asked) how.value = asked.all ? "all" : "any";
      showNames((facets?.metadata?.names ?? []).filter(({ types }) => types.text || types.texts).slice(0, MOST_NAMES).map(({ name }) => name));
    },
  };
}
