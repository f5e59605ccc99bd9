/** The search view: a search box, the query's chips, filters, and what is found. */

import { ApiError } from "../lib/answers.js";
import { notify } from "../lib/dialogs.js";
import { createSelection } from "../selection/selection.js";
import { NOT_LOADED, navigate } from "../shell/router.js";
import { withCondition } from "../filters/conditions.js";
import { splitPart, partOf } from "./parts.js";
import { addressOf, fileOf, lessLike, lostFiles, moreLike, similarTo } from "./query.js";
import { acceptImages } from "./query_images.js";
import { forgetResults } from "./results.js";
import { SearchState } from "./search_state.js";
import { createSearchView } from "./search_view.js";

const TYPING_MS = 300;
const SCROLLED_MS = 150;
const LIKE = { more: moreLike, less: lessLike, similar: similarTo };
const PHONE = matchMedia("(max-width: 40rem)");
// Not with the view: its modules would hold up the results, and are there before somebody opens one.
const loadDetail = () => import("./detail.js");
const loadPartDialog = () => import("./part_dialog.js");

/** Shows the view until the signal. The address is its state: whatever changes the query goes through it. */
export function show(container, params, signal) {
  const state = new SearchState();
  const selection = createSelection({
    paint: () => view.paintSelection(),
    state: () => state.asked,
    loadUpTo,
    isWhole: () => state.results.done && !state.results.cutOff,
    deleted: afterDelete,
    signal,
  });
  const view = createSearchView(container, state, {
    change,
    choosePart,
    selection,
    onGrid: { onAction: (name, item) => like(name, item.id), needMore: loadMore, leave: () => view.input.focus() },
    signal,
  });
  const typing = listenToTyping(view, state, { change, signal });
  const detail = detailDialog(view, state, { change, like, afterDelete });

  function change(patch, options) {
    return navigate(addressOf({ ...state.asked, nearest: false, stack: null, image: null, ...patch }), options);
  }

  async function like(name, id) {
    const picture = name === "part" ? await askForPart("more", id) : id;
    if (picture) navigate(addressOf({ ...(LIKE[name] ?? similarTo)(state.asked, picture), nearest: false, stack: null }));
  }

  /** Another part of a picture of the query. */
  async function choosePart(field, name) {
    const part = await askForPart(field, name);
    if (part) change({ [field]: state.asked[field].map((one) => (one === name ? part : one)) });
  }

  /** The part that somebody chooses of a picture as `field` of the state names it; null for none. */
  async function askForPart(field, name) {
    const { of, box } = splitPart(name);
    const picture = field === "files" ? { file: fileOf(name) } : { id: of };
    try {
      const { choosePart: choose } = await loadPartDialog();
      const chosen = await choose({ ...picture, box }, state.asked);
      return chosen && partOf(of, chosen);
    } catch (error) {
      notify(error instanceof ApiError ? error.message : NOT_LOADED, { kind: "error" });
      return null;
    }
  }

  /** Shows what an address asks for; called for each one, by the router. */
  function update(addressed) {
    const before = state.asked?.collection;
    if (read(addressed)) {
      selection.clear();
      run();
    }
    if (state.asked.collection !== before) loadCollections();
    detail.show();
  }

  function read(addressed) {
    try {
      return state.read(addressed);
    } catch (error) {
      notify(error.message, { kind: "error" });
      addressed.delete("f");
      addressed.delete("keywords");
      return state.read(addressed);
    }
  }

  async function run() {
    const hadFocus = view.results.contains(document.activeElement);
    // An entry of the history that was seen before has a place to scroll to; any other is asked for anew.
    const { scroll, place } = history.state ?? {};
    state.begin({ mayRepeat: scroll !== undefined });
    const running = state.signal;
    view.paintQuery({ isTyping: typing.isUnderWay() });
    if (lostFiles(state.asked).length) {
      view.paintLost();
      return;
    }
    try {
      view.setBusy(!state.results.items.length && !state.results.done);
      let waiting = null;
      await state.loadFirst((error) => (waiting ??= view.paintWaiting(error)));
      view.paintResults();
      await loadDownTo(scroll, running);
      scrollTo(0, scroll ?? 0);
      rememberScroll();
      view.grid.render();
      // Whoever went somewhere else while results were on their way stays there.
      if (hadFocus && document.activeElement === document.body) view.focusResults(place);
      loadDetail().catch(() => {}); // said when an image is opened
      await countResults();
    } catch (error) {
      if (!running.aborted) view.paintError(error, run);
    }
  }

  async function loadDownTo(scroll, running) {
    const end = () => view.grid.element.getBoundingClientRect().bottom + scrollY;
    while (!state.results.done && state.shown.length && scroll && end() < scroll + innerHeight) {
      await state.results.more(running);
      view.grid.grow();
    }
  }

  async function loadMore() {
    if (!state.results || view.isBusy()) return;
    const running = state.signal;
    try {
      if (!(await state.loadMore())) return;
      view.grid.grow();
      view.paintStatus();
    } catch (error) {
      if (!running.aborted) view.paintEnd(error, retryMore);
    }
  }

  function loadUpTo(most, onLoaded, until) {
    return state.loadUpTo(
      most,
      (count) => {
        view.grid.grow();
        view.paintStatus();
        onLoaded(count);
      },
      until,
    );
  }

  function retryMore() {
    state.allowRetry();
    view.paintEnd(null);
    loadMore();
  }

  /** Facets cost time on the server: they are asked for where somebody looks at them. */
  async function countResults() {
    await state.count({ withTotal: view.filterPanel.open });
    view.paintCounts();
  }

  async function countForPanel() {
    const running = state.signal;
    try {
      await countResults();
    } catch (error) {
      if (!running.aborted) notify(error.message, { kind: "error" });
    }
  }

  async function loadCollections() {
    try {
      await state.loadCollections(signal);
    } catch {
      return; // the search, which needs the same, says it
    }
    view.paintStatus();
  }

  function afterDelete(ids) {
    forgetResults();
    selection.remove(ids);
    const gone = new Set(ids);
    const others = (some) => some.filter((one) => !gone.has(splitPart(one).of));
    change({ more: others(state.asked.more), less: others(state.asked.less) }, { replace: true });
    run().then(() => {
      if (document.activeElement === document.body) view.focusResults(); // the button is gone, or can do nothing
    });
    loadCollections();
  }

  function rememberScroll() {
    if (!signal.aborted) history.replaceState({ ...history.state, scroll: scrollY, place: view.grid.active }, "");
  }
  // Before a link leads away; Enter on it is a click, too.
  view.grid.element.addEventListener("click", rememberScroll, { capture: true });

  const images = acceptImages({
    state: () => state.asked,
    change,
    like: (id) => like("more", id),
    searchInput: view.input,
    signal,
  });
  view.file.addEventListener("change", () => {
    images.add([...view.file.files]);
    view.file.value = "";
  });
  view.form.addEventListener("submit", (event) => {
    event.preventDefault();
    typing.submit(images.takeURL);
  });
  listenToFilterPanel(view, countForPanel, signal);
  listenToKeys(view, state, signal);
  const scrolled = listenToScrolling(rememberScroll, signal);
  signal.addEventListener("abort", () => {
    clearTimeout(scrolled.timer);
    typing.stop();
    state.stop();
    detail.leave();
  });

  update(params);
  return { update };
}

/** Searches for the words in the box a moment after the last key; while one goes on that is one step of the history. */
function listenToTyping({ input }, state, { change, signal }) {
  let timer = null;
  let isEditing = false;
  let isComposing = false; // by an input method, whose text is not yet what is meant

  function search(q) {
    change({ q }, { replace: isEditing });
    isEditing = true;
  }

  function stop() {
    clearTimeout(timer);
    timer = null;
  }

  function onInput(event) {
    stop();
    isComposing = Boolean(event.isComposing);
    if (isComposing) return;
    timer = setTimeout(() => {
      timer = null;
      const q = input.value.trim();
      if (q !== state.asked.q && !/^https?:/i.test(q)) search(q);
    }, TYPING_MS);
  }

  input.addEventListener("input", onInput, { signal });
  input.addEventListener("compositionend", onInput, { signal });

  /** Searches now; `takeURL` says whether it takes the words for an address of an image. */
  function submit(takeURL) {
    stop();
    const q = input.value.trim();
    if (takeURL(q)) input.value = "";
    else if (q !== state.asked.q) search(q);
    isEditing = false;
    if (PHONE.matches) input.blur();
  }

  return { isUnderWay: () => timer !== null || isComposing, stop, submit };
}

/** The panel stands beside the results; on phones it is a sheet over them. */
function listenToFilterPanel({ filterButton, filterPanel: panel }, onOpen, signal) {
  filterButton.addEventListener("click", () => {
    if (panel.open) {
      panel.close();
      return;
    }
    if (PHONE.matches) panel.showModal();
    else panel.show();
    filterButton.setAttribute("aria-expanded", "true");
    onOpen();
  });
  panel.addEventListener("close", () => {
    filterButton.setAttribute("aria-expanded", "false");
    filterButton.focus();
  });
  PHONE.addEventListener("change", () => panel.close(), { signal });
}

function listenToKeys({ input, focusResults }, state, signal) {
  input.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" || event.isComposing || !state.results?.items.length) return;
    event.preventDefault();
    focusResults();
  });
  addEventListener(
    "keydown",
    (event) => {
      const isOther = event.target.closest?.("input, textarea, select, dialog[open]") || event.ctrlKey || event.metaKey;
      if (event.key !== "/" || isOther) return;
      event.preventDefault();
      input.focus();
      input.select();
    },
    { signal },
  );
}

function listenToScrolling(onRest, signal) {
  const scrolled = { timer: 0 };
  addEventListener(
    "scroll",
    () => {
      clearTimeout(scrolled.timer);
      scrolled.timer = setTimeout(onRest, SCROLLED_MS);
    },
    { passive: true, signal },
  );
  return scrolled;
}

/** The dialog over the results with the image that the state has open. */
function detailDialog(view, state, { change, like, afterDelete }) {
  let dialog = null;
  let openId = null;
  let openIn = null; // the same image in another collection is another one

  async function show() {
    const { image, collection } = state.asked;
    if (image === openId && collection === openIn) return;
    dismiss();
    const before = openId;
    openId = image;
    openIn = collection;
    if (!image && before) view.grid.focus(Math.max(0, state.placeOf(before)));
    if (!image) return;
    const module = await loadDetail().catch(() => null);
    if (!module) notify(NOT_LOADED, { kind: "error" });
    else if (openId === image && openIn === collection) dialog ??= module.openDetail(image, state.asked, actions(image));
  }

  function dismiss() {
    dialog?.dismiss();
    dialog = null;
  }

  const address = (id) => addressOf({ ...state.asked, image: id });

  function close() {
    const results = new URL(address(null), location.href).href;
    if (history.state?.from === results) history.back();
    else navigate(results, { replace: true });
  }

  const actions = (image) => ({
    close,
    can: (by) => Boolean(state.neighbour(image, by)),
    step: (by) => navigate(address(state.neighbour(image, by).id), { replace: true }),
    hrefOf: address,
    like,
    filter: (field, condition) => change({ filters: withCondition(state.asked.filters, field, condition) }),
    deleted: (id) => afterDelete([id]),
  });

  /** For good: what is still loading does not open any more. */
  function leave() {
    openId = null;
    dismiss();
  }

  return { show, leave };
}
