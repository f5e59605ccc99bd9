"""The ledger's part of writing the index: who may write, in which order changes count, what was removed."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from shared.errors import IndexUnavailable
from shared.ledger import scripts as lua

PREFIX = "is:"
WRITER_LEASE_S = 30.0
WRITER_WANTED_S = 2.0  # who waits for the lease asks again long before


class WriterLedger(ABC):
    """Versions order changes: nanoseconds since the epoch by Redis's clock, none given out twice.

    Of jobs and changes, the one that was asked for later is newer. A job gets a version an item at once, in
    their order, so that an item's is the same however often and however late it is delivered.
    """

    _job_ttl_s: float

    @abstractmethod
    def _run(self, script: str, *args: str | float) -> Any: ...

    @abstractmethod
    def _call(self, command: str, *args: Any, **options: Any) -> Any: ...

    def new_version(self) -> int:
        """For one change, later than every version before."""
        return int(self._run(lua.NEW_VERSION)) * 1000

    def acquire_writer(self, token: str) -> bool:
        """False while another holds the lease, or asks for it by `want_writer`."""
        return bool(self._run(lua.ACQUIRE_WRITER, token, int(WRITER_LEASE_S * 1000)))

    def want_writer(self, token: str) -> None:
        """Asks whoever holds the lease to yield it, and others to leave it to `token`, for a moment."""
        self._run(lua.WANT_WRITER, token, int(WRITER_WANTED_S * 1000))

    def writer_works(self) -> bool:
        """Whether somebody holds the lease: chunks that come meanwhile are written, or the next one woken."""
        return bool(self._call("exists", f"{PREFIX}writer"))

    def writer_wanted(self) -> bool:
        return bool(self._call("exists", f"{PREFIX}writer:wanted"))

    def check_writer(self, token: str) -> None:
        """Prolongs the lease, right before a write. Raises IndexUnavailable once it is lost."""
        if not self.renew_writer(token):
            raise IndexUnavailable("The writer lease was lost; another process writes now.")

    def renew_writer(self, token: str) -> bool:
        return bool(self._run(lua.RENEW_WRITER, token, int(WRITER_LEASE_S * 1000)))

    def release_writer(self, token: str, *, force: bool = False) -> bool:
        """Frees the lease; without `force` keeps it, and returns False, while a chunk waits to be written."""
        return bool(self._run(lua.RELEASE_WRITER, token, int(force)))

    def record_discarded(self, collection: str, image_ids: Sequence[str]) -> None:
        """Remembers that these pictures' files were put aside, see discarded.py."""
        self._call("zadd", f"{PREFIX}discarded", {f"{collection}/{i}": time.time() for i in image_ids})

    def discarded(self, collection: str, image_ids: Sequence[str]) -> list[str]:
        """Those of `image_ids` whose files were put aside."""
        moments = self._call("zmscore", f"{PREFIX}discarded", [f"{collection}/{i}" for i in image_ids])
        return [i for i, moment in zip(image_ids, moments, strict=True) if moment is not None]

    def discarded_before(self, moment: float) -> list[tuple[str, str]]:
        """(collection, image id) of up to 1,000 that were put aside before `moment`, in epoch seconds."""
        found = self._call("zrangebyscore", f"{PREFIX}discarded", "-inf", moment, start=0, num=1000)
        return [(collection, image_id) for collection, _, image_id in (one.rpartition("/") for one in found)]

    def forget_discarded(self, collection: str, image_ids: Sequence[str]) -> None:
        self._call("zrem", f"{PREFIX}discarded", *(f"{collection}/{i}" for i in image_ids))

    def record_removal(self, collection: str, image_id: str, version: int) -> None:
        """Remembers that `image_id` ("*": everything) was removed at `version`, see `removals`."""
        key = f"{PREFIX}removed:{collection}"
        self._call("hset", key, image_id, version)
        self._call("expire", key, int(self._job_ttl_s))

    def removals(self, collection: str, image_ids: Sequence[str]) -> dict[str, int]:
        """The latest removal of each of `image_ids` that has one; older additions must be skipped."""
        values = self._call("hmget", f"{PREFIX}removed:{collection}", ["*", *image_ids])
        everything, *each = [int(value or 0) for value in values]
        latest = {i: max(everything, version) for i, version in zip(image_ids, each, strict=True)}
        return {image_id: version for image_id, version in latest.items() if version}
