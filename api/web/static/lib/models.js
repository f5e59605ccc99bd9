/** The models that collections are of or can be made with. */

import { api } from "./requests.js";

const TEXTS = { loaded: "loaded", loading: "being loaded", downloading: "being downloaded", absent: "not loaded" };

/** As the server lists them, its default one first. */
export async function loadModels(signal) {
  return (await api("/v1/models", { signal, needs: ["models"], isOptional: true })).models;
}

/** How far one is that cannot be used yet, or why not; null for one that is loaded, or will be once it is asked for. */
export function hindrance(model) {
  if (!model || model.state === "loaded" || (model.state === "absent" && !model.detail)) return null;
  return model.detail ?? stateText(model);
}

/** How far one is, in words. */
export function stateText({ state, progress }) {
  return progress === null ? (TEXTS[state] ?? state) : `${TEXTS[state]}, ${Math.floor(100 * progress)} %`;
}
