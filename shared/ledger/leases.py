"""Renewing a lease from a thread while the work that it covers goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from shared.errors import LedgerUnavailable

log = structlog.get_logger(__name__)


@contextmanager
def renewing(renew: Callable[[], int], lease_s: float) -> Iterator[threading.Event]:
    """Call `renew` from a thread, three times per `lease_s` seconds, while the block runs.

    The event is set once it returns that nothing is held any longer.
    """
    stopped, lost = threading.Event(), threading.Event()

    def run() -> None:
        while not stopped.wait(lease_s / 3):
            try:
                if not renew():
                    lost.set()
            except LedgerUnavailable as error:
                log.warning("lease_not_renewed", reason=error.detail)

    thread = threading.Thread(target=run, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        stopped.set()
        thread.join()
