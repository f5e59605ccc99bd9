"""The ledger's part of sources: when each is due, and which job syncs it."""

from collections.abc import Sequence

from shared.ledger.connection import Connection
from shared.ledger.scripts import PREFIX


class NotDue(Exception):
    """Somebody else has begun the run of a source that was due, or its schedule was changed."""


class SourceLedger:
    """The schedule of the sources that have one, and the syncs that are under way.

    `Ledger.create` with a `source` begins a sync and, in the same step, moves its schedule on. Times are
    seconds since the epoch, by Redis's clock.
    """

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def schedule(self, name: str, due: float) -> None:
        """Make the source due at a time, whenever it was due before."""
        self._redis.call("zadd", f"{PREFIX}sources", {name: due})

    def unschedule(self, name: str) -> None:
        """Make the source due at no time. A sync that is under way goes on."""
        self._redis.call("zrem", f"{PREFIX}sources", name)

    def due(self, now: float | None = None, limit: int = 20) -> list[tuple[str, float]]:
        """Return up to `limit` sources that are due and not being synced, since when, longest first."""
        answer = self._redis.run("due_sources", "" if now is None else now, limit)
        return [(name, float(at)) for name, at in zip(answer[::2], answer[1::2], strict=True)]

    def next_due(self, names: Sequence[str]) -> dict[str, float | None]:
        """Return when each source is due next; None for one without a schedule."""
        if not names:
            return {}
        return dict(zip(names, self._redis.call("zmscore", f"{PREFIX}sources", names), strict=True))

    def running(self, name: str) -> str | None:
        """Return the id of the job that syncs the source; None once that has ended."""
        job_id = self._redis.call("hget", f"{PREFIX}syncing", name)
        return job_id if job_id and self._redis.call("exists", f"{PREFIX}job:{job_id}") else None

    def count_running(self) -> int:
        """Return how many sources are being synced, or wait for it."""
        return int(self._redis.call("hlen", f"{PREFIX}syncing"))
