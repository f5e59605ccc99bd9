"""The ledger's part of writing the index: who may write, in which order changes count, what was removed."""

import time
from collections.abc import Sequence

from shared.ledger.connection import Connection
from shared.ledger.scripts import PREFIX

WRITER_LEASE_SECONDS = 30.0
WRITER_WANTED_SECONDS = 2.0  # who waits for the lease asks again long before


class WriterLedger:
    """Versions order changes: nanoseconds since the epoch by Redis's clock, none given out twice.

    Of jobs and changes, the one that was asked for later is newer. A job gets a version an item at once, in
    their order, so that an item's is the same however often and however late it is delivered.
    """

    def __init__(self, connection: Connection, *, removals_ttl_s: float) -> None:
        """`removals_ttl_s`: for how long an item of a job may still bring what was removed."""
        self._redis = connection
        self._removals_ttl_s = removals_ttl_s

    def new_version(self) -> int:
        """For one change, later than every version before."""
        return int(self._redis.run("new_version")) * 1000

    def acquire(self, token: str) -> bool:
        """False while another holds the lease, or asks for it by `want`."""
        return bool(self._redis.run("acquire_writer", token, int(WRITER_LEASE_SECONDS * 1000)))

    def want(self, token: str) -> None:
        """Asks whoever holds the lease to yield it, and others to leave it to `token`, for a moment."""
        self._redis.run("want_writer", token, int(WRITER_WANTED_SECONDS * 1000))

    def is_held(self) -> bool:
        """Whether somebody holds the lease: chunks that come meanwhile are written, or the next one woken."""
        return bool(self._redis.call("exists", f"{PREFIX}writer"))

    def is_wanted(self) -> bool:
        return bool(self._redis.call("exists", f"{PREFIX}writer:wanted"))

    def renew(self, token: str) -> bool:
        """Prolongs the lease; returns False once it is lost."""
        return bool(self._redis.run("renew_writer", token, int(WRITER_LEASE_SECONDS * 1000)))

    def release(self, token: str, *, force: bool = False) -> bool:
        """Frees the lease; without `force` keeps it, and returns False, while a chunk waits to be written."""
        return bool(self._redis.run("release_writer", token, int(force)))

    def record_trashed(self, collection: str, image_ids: Sequence[str]) -> None:
        """Remembers that these pictures' files were put aside, see storage/trash.py."""
        self._redis.call("zadd", f"{PREFIX}discarded", {f"{collection}/{i}": time.time() for i in image_ids})

    def trashed(self, collection: str, image_ids: Sequence[str]) -> list[str]:
        """Those of `image_ids` whose files were put aside."""
        moments = self._redis.call("zmscore", f"{PREFIX}discarded", [f"{collection}/{i}" for i in image_ids])
        return [i for i, moment in zip(image_ids, moments, strict=True) if moment is not None]

    def trashed_before(self, moment: float) -> list[tuple[str, str]]:
        """(collection, image id) of up to 1,000 that were put aside before `moment`, in epoch seconds."""
        found = self._redis.call("zrangebyscore", f"{PREFIX}discarded", "-inf", moment, start=0, num=1000)
        return [(collection, image_id) for collection, _, image_id in (one.rpartition("/") for one in found)]

    def forget_trashed(self, collection: str, image_ids: Sequence[str]) -> None:
        self._redis.call("zrem", f"{PREFIX}discarded", *(f"{collection}/{i}" for i in image_ids))

    def record_removal(self, collection: str, image_id: str, version: int) -> None:
        """Remembers that `image_id` ("*": everything) was removed at `version`, see `removals`."""
        key = f"{PREFIX}removed:{collection}"
        self._redis.call("hset", key, image_id, version)
        self._redis.call("expire", key, int(self._removals_ttl_s))

    def removals(self, collection: str, image_ids: Sequence[str]) -> dict[str, int]:
        """The latest removal of each of `image_ids` that has one; older additions must be skipped."""
        values = self._redis.call("hmget", f"{PREFIX}removed:{collection}", ["*", *image_ids])
        everything, *each = [int(value or 0) for value in values]
        latest = {i: max(everything, version) for i, version in zip(image_ids, each, strict=True)}
        return {image_id: version for image_id, version in latest.items() if version}
