/** The dialog that asks for an API key, and when it is shown. */

import { noteNeedsKey, readKey, storeKey } from "./api_key.js";
import { h } from "./dom.js";

const CREATE = "image-search keys create";

let asking = null;
let declinedAt = -1;

/** Waits while the visitor is being asked; false when he gave no key. */
export const signedIn = async () => asking === null || asking;

/**
 * Whether a request that was refused with `error` is worth another try: with a key that was given meanwhile, or
 * that the visitor gives now. `key` is the one it was sent with. Who has declined since `startedAt` is left alone.
 */
export async function hasOtherKey(error, key, startedAt) {
  if (error.code === "not_the_server") return false; // what a proxy asks for is no API key
  const lacksScope = error.status === 403 && key !== null;
  if (error.status !== 401 && !lacksScope) return false;
  if (error.status === 401) noteNeedsKey();
  if (readKey() !== key) return true;
  if (startedAt <= declinedAt) return false;
  return signIn(lacksScope ? `${error.message} Another key can be used instead.` : key ? error.message : undefined);
}

/** Asks for an API key; false when the visitor does not give one. `why` is shown above the field. */
export function signIn(why = "An API key opens this server.") {
  asking ??= new Promise((resolve) => {
    const dialog = signInDialog(why, () => {
      asking = null;
      if (dialog.returnValue !== "given") declinedAt = performance.now();
      resolve(dialog.returnValue === "given");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

function signInDialog(why, onClosed) {
  const key = h("input", {
    class: "field",
    id: "key",
    type: "password",
    autocomplete: "current-password",
    spellcheck: "false",
    required: true,
    placeholder: "isk_…",
  });
  const remember = h("input", { type: "checkbox", id: "remember" });
  const dialog = h(
    "dialog",
    {
      class: "dialog",
      "aria-labelledby": "sign-in-title",
      onclose: () => {
        dialog.remove();
        onClosed();
      },
    },
    h("h2", { id: "sign-in-title" }, "Sign in"),
    h("p", { class: "muted" }, why),
    h(
      "form",
      {
        method: "dialog",
        class: "stack",
        onsubmit: () => storeKey(key.value.trim(), { remember: remember.checked }),
      },
      h("label", { for: "key" }, "API key"),
      key,
      h("label", { class: "check" }, remember, "Remember it on this device"),
      h(
        "div",
        { class: "row end" },
        h("button", { class: "button", type: "button", onclick: () => dialog.close("") }, "Cancel"),
        h("button", { class: "button primary", value: "given" }, "Sign in"),
      ),
    ),
    !why.includes(CREATE) &&
      h(
        "p",
        { class: "muted small" },
        "Whoever runs the server makes one with ",
        h("code", {}, `${CREATE} --scope search,ingest`),
        ".",
      ),
  );
  return dialog;
}
