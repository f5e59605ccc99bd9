"""The ledger's part of writing the index: the writer's lease, versions of changes, removals, the trash."""

import time
from collections.abc import Mapping, Sequence

from shared.ledger.connection import Connection
from shared.ledger.scripts import PREFIX

WRITER_LEASE_SECONDS = 30.0
MAX_BATCH_ITEMS = 2_000  # what one Chroma write takes best
WRITER_WANTED_SECONDS = 2.0  # who waits for the lease asks again long before


class WriterLedger:
    """The writer's lease, and the versions that order changes.

    A version is nanoseconds since the epoch by Redis's clock, none given out twice: what was asked for later
    is newer. A job gets one version per item at once, in their order, so an item's is the same however often
    and however late it is delivered.
    """

    def __init__(self, connection: Connection, *, removals_ttl_s: float) -> None:
        """Keep removals for `removals_ttl_s`, as long as an item of a job may bring a removed image."""
        self._redis = connection
        self._removals_ttl_s = removals_ttl_s

    def new_version(self) -> int:
        """Return a version for one change, later than every version before."""
        return int(self._redis.run("new_version")) * 1000

    def acquire(self, token: str) -> bool:
        """Take the lease; return False while another process holds it, or has asked for it by `want`."""
        return bool(self._redis.run("acquire_writer", token, int(WRITER_LEASE_SECONDS * 1000)))

    def want(self, token: str) -> None:
        """Ask the lease's holder to yield it to `token`, and others to wait, for WRITER_WANTED_SECONDS."""
        self._redis.run("request_writer", token, int(WRITER_WANTED_SECONDS * 1000))

    def is_held(self) -> bool:
        """Return whether the lease is held; its holder writes what arrives meanwhile, or wakes the next."""
        return bool(self._redis.call("exists", f"{PREFIX}writer"))

    def is_wanted(self) -> bool:
        return bool(self._redis.call("exists", f"{PREFIX}writer:wanted"))

    def renew(self, token: str) -> bool:
        """Prolong the lease; return False once it is lost."""
        return bool(self._redis.run("renew_writer", token, int(WRITER_LEASE_SECONDS * 1000)))

    def release(self, token: str, *, force: bool = False) -> bool:
        """Free the lease; without `force` keep it, and return False, while a chunk waits to be written."""
        return bool(self._redis.run("release_writer", token, int(force)))

    def record_trashed(self, collection: str, image_ids: Sequence[str]) -> None:
        """Record that these images' files were moved to the trash (shared/storage/trash.py)."""
        self._redis.call("zadd", f"{PREFIX}discarded", {f"{collection}/{i}": time.time() for i in image_ids})

    def trashed(self, collection: str, image_ids: Sequence[str]) -> list[str]:
        """Return those of `image_ids` whose files are in the trash."""
        moments = self._redis.call("zmscore", f"{PREFIX}discarded", [f"{collection}/{i}" for i in image_ids])
        return [i for i, moment in zip(image_ids, moments, strict=True) if moment is not None]

    def trashed_before(self, moment: float) -> list[tuple[str, str]]:
        """Return (collection, image id) of up to 1,000 images trashed before `moment`, in epoch seconds."""
        found = self._redis.call("zrangebyscore", f"{PREFIX}discarded", "-inf", moment, start=0, num=1000)
        return [(collection, image_id) for collection, _, image_id in (one.rpartition("/") for one in found)]

    def forget_trashed(self, collection: str, image_ids: Sequence[str]) -> None:
        self._redis.call("zrem", f"{PREFIX}discarded", *(f"{collection}/{i}" for i in image_ids))

    def record_removal(self, collection: str, image_id: str, version: int) -> None:
        """Record that `image_id` ("*": every image) was removed at `version`, for `removals`."""
        self.record_removals(collection, {image_id: version})

    def record_removals(self, collection: str, versions: Mapping[str, int]) -> None:
        """Record removals of many images, each at its version, which is later than those recorded before."""
        if versions:
            key = f"{PREFIX}removed:{collection}"
            self._redis.call("hset", key, mapping=dict(versions))
            self._redis.call("expire", key, int(self._removals_ttl_s))

    def removals(self, collection: str, image_ids: Sequence[str]) -> dict[str, int]:
        """Return the latest removal's version of those of `image_ids` that have one; skip older additions.

        `run_of` (shared/index/provenance.py) names a source's additions: its latest run's version is kept so.
        """
        values = self._redis.call("hmget", f"{PREFIX}removed:{collection}", ["*", *image_ids])
        everything, *each = [int(value or 0) for value in values]
        latest = {i: max(everything, version) for i, version in zip(image_ids, each, strict=True)}
        return {image_id: version for image_id, version in latest.items() if version}

    def begin_changes(self, name: str, collection: str) -> None:
        """Note that the changes of this segment of the vector log are to be made, until `end_changes`."""
        self._redis.call("hset", f"{PREFIX}unfinished", name, collection)

    def end_changes(self, name: str) -> None:
        self._redis.call("hdel", f"{PREFIX}unfinished", name)

    def unfinished(self) -> dict[str, str]:
        """Return the segments, name -> collection, whose writer died before it had made their changes."""
        return dict(self._redis.call("hgetall", f"{PREFIX}unfinished"))
