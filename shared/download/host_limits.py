"""A rate limit and a circuit breaker for each foreign host, over all workers."""

import time

from shared.errors import HostBusy, ItemError
from shared.ledger.hosts import HostLedger, HostTurn

MAX_WAIT_SECONDS = 10.0  # longer, and the download's place is better given to another host's picture
MAX_PAUSE_SECONDS = 300.0


class HostLimits:
    """The limits of foreign hosts; `rate_per_s` is in requests per second per host, over all workers."""

    def __init__(self, hosts: HostLedger, rate_per_s: float) -> None:
        self._hosts = hosts
        self._rate_per_s = rate_per_s

    def wait(self, host: str) -> HostTurn:
        """Wait for the host's turn and return it.

        Raises HostBusy when that is more than MAX_WAIT_SECONDS away, ItemError when the host keeps failing,
        and LedgerUnavailable.
        """
        turn = self._hosts.turn(host, self._rate_per_s, MAX_WAIT_SECONDS)
        if turn.refusal is not None:
            turn.refusal.retry_after_s = turn.wait_s
            raise turn.refusal
        if turn.wait_s > MAX_WAIT_SECONDS:
            raise HostBusy(host, turn.wait_s)
        time.sleep(turn.wait_s)
        return turn

    def report(self, host: str, turn: HostTurn, error: ItemError | None) -> None:
        """Report how the request of a turn ended: `error` is None for an answer, of whatever kind.

        Raises LedgerUnavailable.
        """
        if error is not None and error.blames_host:
            pause_s = min(error.retry_after_s or 0.0, MAX_PAUSE_SECONDS)
            self._hosts.failed(host, error, pause_s)
        elif turn.failures:
            self._hosts.answered(host)
