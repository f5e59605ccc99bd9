"""The index writer's lease: whoever writes to Chroma holds it, the index stage or one change made at once."""

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
    """One process's part in the lease, under a token of its own."""

    def __init__(self, ledger: WriterLedger) -> None:
        self._ledger = ledger
        self._token = secrets.token_hex(8)

    def acquire(self) -> bool:
        """Takes the lease; returns False while another process has it or asks for it."""
        return self._ledger.acquire(self._token)

    def wait(self) -> None:
        """Takes the lease, asking who has it to yield. Raises IndexUnavailable after PATIENCE_SECONDS."""
        until = time.monotonic() + ACQUIRE_TIMEOUT_SECONDS
        while not self.acquire():
            if time.monotonic() > until:
                raise IndexUnavailable("The index is being written to; try again in some seconds.")
            self._ledger.want(self._token)
            time.sleep(POLL_SECONDS)

    def renew(self) -> bool:
        """Prolongs the lease; returns False once it is lost."""
        return self._ledger.renew(self._token)

    def check(self) -> None:
        """Prolongs the lease, right before a write. Raises IndexUnavailable once it is lost."""
        if not self.renew():
            raise IndexUnavailable("The writer lease was lost; another process writes now.")

    def release(self, *, force: bool = False) -> bool:
        """Frees the lease; without `force` keeps it, and returns False, while a chunk waits to be written."""
        return self._ledger.release(self._token, force=force)


@contextmanager
def writing(ledger: WriterLedger, wake: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Holds the writer's lease for changes that are made at once, and renews it while the block runs.

    `wake` is called when chunks came meanwhile that the index stage is to write.

    Yields what must be called before each write: it raises IndexUnavailable once the lease is lost. Raises
    that too when another process does not yield the lease in PATIENCE_SECONDS.
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
