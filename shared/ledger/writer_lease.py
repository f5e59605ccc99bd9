"""The index writer's lease: only its holder, the index stage or one immediate change, writes to Chroma."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.errors import IndexUnavailable
from shared.ledger.leases import renewing
from shared.ledger.writer import WRITER_LEASE_SECONDS, WriterLedger

ACQUIRE_TIMEOUT_SECONDS = 30.0  # a writer that is asked to yields after one more write of Chroma's
POLL_SECONDS = 0.05


class WriterLease:
    """One process's claim to the lease, under a token of its own."""

    def __init__(self, ledger: WriterLedger) -> None:
        self._ledger = ledger
        self._token = secrets.token_hex(8)

    def acquire(self) -> bool:
        """Take the lease; return False while another process has it or asks for it."""
        return self._ledger.acquire(self._token)

    def wait(self) -> None:
        """Wait for the lease, asking for it. Raises IndexUnavailable after ACQUIRE_TIMEOUT_SECONDS."""
        until = time.monotonic() + ACQUIRE_TIMEOUT_SECONDS
        while not self.acquire():
            if time.monotonic() > until:
                raise IndexUnavailable("The index is being written to; try again in some seconds.")
            self._ledger.want(self._token)
            time.sleep(POLL_SECONDS)

    def renew(self) -> bool:
        """Prolong the lease; return False once it is lost."""
        return self._ledger.renew(self._token)

    def check(self) -> None:
        """Prolong the lease, right before a write. Raises IndexUnavailable once it is lost."""
        if not self.renew():
            raise IndexUnavailable("The writer lease was lost; another process writes now.")

    def release(self, *, force: bool = False) -> bool:
        """Free the lease; without `force` keep it, and return False, while a chunk waits to be written."""
        return self._ledger.release(self._token, force=force)


@contextmanager
def writing(ledger: WriterLedger, wake: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Hold the writer's lease for immediate changes, and renew it while the block runs.

    Yields a check to call before each write, which raises IndexUnavailable once the lease is lost. `wake` is
    called at the end if chunks arrived for the index stage. Raises IndexUnavailable when another process does
    not yield the lease within ACQUIRE_TIMEOUT_SECONDS.
    """
    lease = WriterLease(ledger)
    lease.wait()
    try:
        with renewing(lease.renew, WRITER_LEASE_SECONDS):
            yield lease.check
    finally:
        if not lease.release():
            lease.release(force=True)
            wake()
