"""The ledger's part of callbacks: which host is called next, and which is left alone for a while.

A host stands in one of three lanes, by what is known of it, and has a share of calls at once in each
(lua/prelude.lua): so one that hangs, or many, take nothing from those that answer.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.ledger.connection import Connection

FAILURES_TO_OPEN = 3  # in a row
OPEN_SECONDS, MAX_OPEN_SECONDS = 30.0, 300.0
_STATE_TTL_SECONDS = 3600


class Lane(StrEnum):
    """KNOWN: the latest call was answered; FAILING: it was not; NEW: there was none within the hour."""

    KNOWN = "known"
    NEW = "new"
    FAILING = "failing"


class CallResult(StrEnum):
    """What a call tells of its host: FAILED is no answer at all."""

    ANSWERED = "answered"
    FAILED = "failed"
    NOTHING = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A callback to send now. `tries` counts from 1 in each run of the job; `until` names this try."""

    job_id: str
    host: str
    tries: int
    until: str


class CallbackLedger:
    """The callbacks that wait, host by host, and what is known of the hosts; for any number of senders."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def take(self, lane: Lane, hold_s: float) -> Call | None:
        """The next call of a lane, if any. Without `over` it is due again after `hold_s`."""
        answer = self._redis.run("take_callback", lane, hold_s)
        return Call(*answer) if answer else None

    def over(self, call: Call, result: CallResult, *, next_in_s: float | None) -> None:
        """Ends a call; with `next_in_s` None it was the job's last.

        After FAILURES_TO_OPEN in a row the host is left alone for OPEN_SECONDS, doubling with each one more.
        """
        again = -1 if next_in_s is None else next_in_s
        breaker = (FAILURES_TO_OPEN, OPEN_SECONDS, MAX_OPEN_SECONDS, _STATE_TTL_SECONDS)
        self._redis.run("callback_over", call.job_id, call.host, call.until, again, result, *breaker)
