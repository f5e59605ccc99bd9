/** The two entries of a picture's menu, and what became of the pictures that were added. */

import { ask, finished } from "./server.js";
import { load } from "./settings.js";

const JOB = "job:";
const ACTIONS = { search: searchSimilar, add: addToCollection };
let underWay = 0;

chrome.runtime.onInstalled.addListener(({ reason }) => {
  const usual = { contexts: ["image"], targetUrlPatterns: ["http://*/*", "https://*/*"] };
  chrome.contextMenus.create({ id: "search", title: "Search similar", ...usual });
  chrome.contextMenus.create({ id: "add", title: "Add to collection", ...usual });
  if (reason === "install") chrome.runtime.openOptionsPage();
});

chrome.contextMenus.onClicked.addListener(({ menuItemId, srcUrl }, tab) => ACTIONS[menuItemId](srcUrl, tab));

chrome.action.onClicked.addListener(async () => {
  await showBadge("");
  await openPage("/");
});

chrome.notifications.onClicked.addListener(async (id) => {
  chrome.notifications.clear(id);
  if (!id.startsWith(JOB)) return chrome.runtime.openOptionsPage();
  return openPage(`/jobs/${encodeURIComponent(id.slice(JOB.length))}`);
});

async function searchSimilar(url, tab) {
  await openPage(`/?image_url=${encodeURIComponent(url)}`, tab && { index: tab.index + 1, openerTabId: tab.id });
}

async function addToCollection(url) {
  underWay += 1;
  const { mark, title, message, jobId } = await add(url);
  underWay -= 1;
  await showBadge(underWay ? undefined : mark);
  await notify(title, message, jobId);
}

async function add(url) {
  let jobId = "";
  try {
    const settings = await load();
    await showBadge();
    jobId = (await ask(settings, "/v1/jobs", { items: [{ url }], collection: settings.collection })).job_id;
    const { status, counts, errors } = await finished(settings, jobId, showBadge);
    if (status !== "succeeded") throw new Error(errors[0]?.detail ?? `The job was ${status}.`);
    const title = counts.duplicate ? "It was there already" : "Added";
    return { mark: "✓", title, message: `Collection “${settings.collection}”.`, jobId };
  } catch (error) {
    return { mark: "!", title: "Not added", message: error.message, jobId };
  }
}

/** A click on it leads to the job, or to the options where there is none. */
function notify(title, message, jobId) {
  const id = jobId ? JOB + jobId : "";
  return chrome.notifications.create(id, { type: "basic", iconUrl: "icons/128.png", title, message });
}

/** Without a text: how many pictures are on their way. Each call also keeps this worker from being stopped. */
function showBadge(text = String(underWay)) {
  return chrome.action.setBadgeText({ text });
}

/** Opens a page of the server, in the collection to which pictures are added. */
async function openPage(path, place = {}) {
  const { server, collection } = await load();
  const parameter = `${path.includes("?") ? "&" : "?"}collection=${encodeURIComponent(collection)}`;
  await chrome.tabs.create({ url: server + path + parameter, ...place });
}
