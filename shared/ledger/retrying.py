"""Repeating a call to the ledger while Redis is away, so that finished work outlasts its restart."""

import time
from collections.abc import Callable
from typing import TypeVar

from shared.errors import LedgerUnavailable

FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 2.0
T = TypeVar("T")


def retry_while_unavailable(call: Callable[[], T], timeout_s: float) -> T:
    """Repeat an idempotent call until it succeeds. Raises LedgerUnavailable after `timeout_s` seconds."""
    deadline, pause_s = time.monotonic() + timeout_s, FIRST_PAUSE_SECONDS
    while True:
        try:
            return call()
        except LedgerUnavailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_SECONDS)
