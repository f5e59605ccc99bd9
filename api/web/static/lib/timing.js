/** Waiting, and looking again and again. */

/** Throws what `signal` was aborted with, as soon as it is. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Calls `look` again and again, `everyMs` after it has returned, while the page is visible, until the signal or
 * until it answers false.
 */
export async function poll(look, everyMs, signal) {
  while (!signal.aborted) {
    if (document.visibilityState === "visible" && (await look()) === false) return;
    await pause(everyMs, signal).catch(() => {});
  }
}
