import { ask } from "./server.js";
import { hostPattern, load, parseServer, save } from "./settings.js";

const form = document.querySelector("form");
const status = document.querySelector("[role=status]");
let saved = await load();
for (const [name, value] of Object.entries(saved)) form.elements[name].value = value;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  store().catch((error) => say(error.message, "danger"));
});

async function store() {
  const { key, collection, server: address } = Object.fromEntries(new FormData(form));
  const settings = { server: parseServer(address), key: key.trim(), collection };
  // First of all, since it is granted only within the click.
  if (!(await chrome.permissions.request({ origins: [hostPattern(settings.server)] }))) {
    throw new Error(`Not saved: without that permission the extension cannot reach ${settings.server}.`);
  }
  await save(settings);
  await forget(saved.server, settings.server);
  saved = settings;
  say("Saved. Asking the server…");
  const { collections } = await ask(settings, "/v1/collections");
  const known = collections.some(({ name }) => name === collection);
  say(`Saved. The server answers${known ? "" : `, and will make the collection “${collection}”`}.`, "ok");
}

/** Gives back the permission for a server that is no longer used; those of the manifest stay. */
async function forget(before, now) {
  const origins = [hostPattern(before)];
  if (origins[0] !== hostPattern(now)) await chrome.permissions.remove({ origins }).catch(() => {});
}

function say(text, kind = "") {
  status.textContent = text;
  status.dataset.kind = kind;
}
