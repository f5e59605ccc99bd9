"""The ledger's part of callbacks: which host is called next, and which is left alone for a while.

Each host is in one of three lanes, by how its latest calls went, and each lane has calls of its own
(lua/prelude.lua): hosts that hang take nothing from those that answer.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.ledger.connection import Connection

FAILURES_TO_OPEN = 3  # in a row
OPEN_SECONDS, MAX_OPEN_SECONDS = 30.0, 300.0
_STATE_TTL_SECONDS = 3600


class Lane(StrEnum):
    """A host's lane. KNOWN: its latest call was answered; FAILING: it was not; NEW: none within the hour."""

    KNOWN = "known"
    NEW = "new"
    FAILING = "failing"


class CallResult(StrEnum):
    """What a call says about its host: ANSWERED (whatever the status), FAILED (no answer) or NOTHING."""

    ANSWERED = "answered"
    FAILED = "failed"
    NOTHING = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A callback to send now. `tries` counts from 1 in each run of the job; `until` identifies this try."""

    job_id: str
    host: str
    tries: int
    until: str


class CallbackLedger:
    """The waiting callbacks of each host and how the host's calls went, for any number of senders."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def take(self, lane: Lane, hold_s: float) -> Call | None:
        """Claim a lane's next call, None without one; it is due again after `hold_s` unless `over`."""
        answer = self._redis.run("claim_callback", lane, hold_s)
        return Call(*answer) if answer else None

    def over(self, call: Call, result: CallResult, *, next_in_s: float | None) -> None:
        """End a call and schedule the next try in `next_in_s` seconds; None: there is none.

        After FAILURES_TO_OPEN failures in a row the host is left alone for OPEN_SECONDS, doubled with each
        further one up to MAX_OPEN_SECONDS.
        """
        again = -1 if next_in_s is None else next_in_s
        breaker = (FAILURES_TO_OPEN, OPEN_SECONDS, MAX_OPEN_SECONDS, _STATE_TTL_SECONDS)
        self._redis.run("end_callback", call.job_id, call.host, call.until, again, result, *breaker)
