"""The ledger's limits for foreign hosts: how fast all workers together may ask each, and whether at all."""

import json
import math
from dataclasses import dataclass

from shared.errors import ItemError
from shared.ledger.connection import Connection
from shared.ledger.scripts import PREFIX

FAILURES_TO_OPEN = 10  # in a row: one lost picture says nothing about its host
OPEN_SECONDS, MAX_OPEN_SECONDS = 30.0, 300.0
PROBE_SECONDS = 30.0  # how long the others wait for what the one try after an open breaker brings
_STATE_TTL_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class HostTurn:
    """When a host may be asked: in `wait_s` seconds; with a `refusal`, not at all until then.

    `failures` counts the host's failures in a row.
    """

    wait_s: float
    failures: int
    refusal: ItemError | None


class HostLedger:
    """A token bucket and a circuit breaker per host, shared by every worker."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def turn(self, host: str, rate_per_s: float, longest_wait_s: float) -> HostTurn:
        """Reserve the next turn at `host`, unless it is more than `longest_wait_s` away.

        Up to one second's worth of requests may go at once. An open breaker lets one request through when its
        time is over, and the others once that one was answered.
        """
        burst = max(1, math.floor(rate_per_s))
        wait, failures, error = self._redis.run(
            "host_turn", host, 1 / rate_per_s, burst, longest_wait_s, _STATE_TTL_SECONDS, PROBE_SECONDS
        )
        return HostTurn(float(wait), int(failures), _refusal(error, int(failures)) if error else None)

    def answered(self, host: str) -> None:
        """Close the breaker of a host that has answered."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hdel(f"{PREFIX}host:{host}", "failures", "open", "until", "opened", "error")
            pipeline.zrem(f"{PREFIX}breakers", host)
            pipeline.execute()

    def failed(self, host: str, error: ItemError, pause_s: float) -> None:
        """Count a failure of a host; `pause_s` is what its Retry-After asked for, for all workers.

        After FAILURES_TO_OPEN in a row the breaker opens for OPEN_SECONDS, doubled each time the next try
        fails too, up to MAX_OPEN_SECONDS.
        """
        kept = json.dumps([error.code, error.detail, error.http_status])
        self._redis.run(
            "host_failed", host, kept, pause_s,
            FAILURES_TO_OPEN, OPEN_SECONDS, MAX_OPEN_SECONDS, _STATE_TTL_SECONDS,
        )  # fmt: skip


def _refusal(kept: str, failures: int) -> ItemError:
    code, detail, http_status = json.loads(kept)
    said = f"not asked: the host has failed {failures} times in a row, the last time with: {detail}"
    return ItemError(code, said, http_status=http_status)
