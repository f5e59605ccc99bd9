/** The view of an address that no page has. */

import { collectionOf, withCollection } from "../lib/collection.js";
import { h } from "../lib/dom.js";
import { notice } from "../lib/notice.js";

export function show(container) {
  const links = [["/", `Search ${collectionOf()}`, "primary"], ["/ingest", "Add pictures"], ["/jobs", "Jobs"]];
  container.append(
    notice(
      "There is no such page",
      `Nothing of this server is at ${location.pathname}.`,
      links.map(([path, text, kind = ""]) => h("a", { class: `button ${kind}`, href: withCollection(path) }, text)),
      { level: "h1" },
    ),
  );
}
