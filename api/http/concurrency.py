"""How many of the server's threads slow requests may hold at once: the rest is left for quick ones."""

from collections.abc import Callable
from threading import Lock, Semaphore
from typing import Literal

from flask import Flask, current_app, g, request

from shared.errors import Unavailable

THREADS = 32  # of a server that does not say
QUICK_BYTES = 64 * 2**10  # a body up to here is no upload
_EXTENSION = "image_search_slots"
# Kind of slow request: its share of the threads, and what to do when that is taken.
_SHARES = {
    "event streams": (4, "poll the job's status instead, or try again"),
    "uploads and requests with pictures": (2, "try again in some seconds"),
}
Kind = Literal["event streams", "uploads and requests with pictures"]


class _Slots:
    def __init__(self, threads: int) -> None:
        self.counts = {kind: max(1, threads // share) for kind, (share, _) in _SHARES.items()}
        self.free = {kind: Semaphore(count) for kind, count in self.counts.items()}


def install(app: Flask, threads: int | None = None) -> None:
    app.extensions[_EXTENSION] = _Slots(threads or THREADS)


def limit_uploads(app: Flask) -> None:
    """Let in long bodies, and those of unknown length, only while there are slots."""

    def begin() -> None:
        # What a server may not have had as a whole before it gave the request a thread.
        waited_for = "Transfer-Encoding" in request.headers or "Expect" in request.headers
        if request.endpoint and (waited_for or (request.content_length or 0) > QUICK_BYTES):
            hold_upload()

    def end(_: BaseException | None) -> None:
        if "end_upload" in g:
            g.end_upload()

    app.before_request(begin)
    app.teardown_request(end)


def hold_upload() -> None:
    """Take a slot until the end of this request, where it has none yet. Raises as `take` does."""
    if "end_upload" not in g:
        g.end_upload = take("uploads and requests with pictures")


def take(kind: Kind) -> Callable[[], None]:
    """Take a slot; return what releases it, once however often it is called.

    Raises Unavailable while all are taken.
    """
    slots: _Slots = current_app.extensions[_EXTENSION]
    free = slots.free[kind]
    if not free.acquire(blocking=False):
        raise Unavailable(f"No more {kind} are open at once than {slots.counts[kind]}: {_SHARES[kind][1]}.")
    held = Lock()

    def release() -> None:
        if held.acquire(blocking=False):
            free.release()

    return release
