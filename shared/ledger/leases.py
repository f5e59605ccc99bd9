"""Renewing a lease from a thread while the work that it covers goes on, and the one of such work."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context

import structlog

from shared.errors import LedgerUnavailable
from shared.ledger.connection import Connection
from shared.ledger.scripts import PREFIX

JOIN_LEASE_SECONDS = 30.0

log = structlog.get_logger(__name__)


class JoinLedger:
    """What jobs with `since` need: the lease on comparing two lists, and whether older jobs are at work."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def acquire(self, job_id: str, token: str) -> bool:
        """Take it; return False while another process has it, or the job's body is still being read."""
        if self._redis.call("zscore", f"{PREFIX}reading", job_id) is not None:
            return False
        key = f"{PREFIX}joining:{job_id}"
        return bool(self._redis.call("set", key, token, nx=True, ex=int(JOIN_LEASE_SECONDS)))

    def renew(self, job_id: str, token: str) -> bool:
        """Prolong it; return False once it is lost."""
        key = f"{PREFIX}joining:{job_id}"
        is_held = self._redis.call("get", key) == token
        return is_held and bool(self._redis.call("expire", key, int(JOIN_LEASE_SECONDS)))

    def release(self, job_id: str, token: str) -> None:
        if self.renew(job_id, token):
            self._redis.call("delete", f"{PREFIX}joining:{job_id}")

    def is_oldest(self, job_id: str, collection: str) -> bool:
        """Return whether all jobs of the collection that are older have finished."""
        return bool(self._redis.call("zrank", f"{PREFIX}changing:{collection}", job_id) == 0)


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

    thread = threading.Thread(target=copy_context().run, args=[run], name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        stopped.set()
        thread.join()
