"""Holding a lease while work goes on, and giving the work back when it cannot be done now."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from shared.errors import LedgerUnavailable, Unavailable
from shared.ledger import CHUNK_LEASE_S, Ledger
from shared.models import Claim

UNAVAILABLE_DELAY_S = 3.0
ERROR_DELAY_S = 10.0

log = structlog.get_logger(__name__)


@contextmanager
def renewing(renew: Callable[[], object], every_s: float = CHUNK_LEASE_S / 3) -> Iterator[None]:
    """Calls `renew` from a thread for as long as the block runs."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(every_s):
            try:
                renew()
            except LedgerUnavailable as error:
                log.warning("lease_not_renewed", reason=error.detail)

    thread = threading.Thread(target=run, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def giving_back(ledger: Ledger, claims: Sequence[Claim]) -> Iterator[None]:
    """Ends trouble in the block by releasing `claims`; that of a dependency does not count as a delivery."""
    refs = [claim.chunk.ref for claim in claims]
    try:
        yield
    except Unavailable as error:
        log.warning("chunks_postponed", chunks=refs, reason=error.detail)
        ledger.release(claims, UNAVAILABLE_DELAY_S, count_delivery=False)
    except Exception:
        log.exception("chunks_failed", chunks=refs)
        ledger.release(claims, ERROR_DELAY_S, count_delivery=True)
