"""A collection's pictures as the writer sees them, its keys, and its pages: index.py without vectors.

Keys lie in a Chroma collection of their own beside the pictures', one record a key, under the key's SHA-256.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.errors import ImageNotFound
from shared.index import provenance
from shared.index.filters import Where
from shared.index.provenance import KeyRecord, StoredPicture
from shared.index.records import PLACES, Record, from_record, place_of, removals, stored_picture, to_record
from shared.models import Image, JsonObject

T = TypeVar("T")

# Chroma takes up to 5,461 records a call; with long vectors those pass its 40 MB a request.
BATCH = 2_000
PAGE = 5_000  # ids in one call
_OVERLAP = 1_000


class Pictures(ABC):
    """What `index.Collection` has beside vectors. Every method raises what that class says."""

    @abstractmethod
    def _run(self, operation: Callable[[Any], T], timeout_s: float | None = None) -> T:
        """Calls `operation` with the Chroma collection of the pictures."""

    @abstractmethod
    def _beside(self, operation: Callable[[Any], T], timeout_s: float | None = None) -> T:
        """Calls `operation` with the Chroma collection of the keys."""

    @property
    @abstractmethod
    def _write_s(self) -> float:
        """How long a call that writes may take."""

    def owners(self, ids: Sequence[str]) -> dict[str, tuple[str, Image]]:
        """Owner and image of those ids that are present."""
        return {one.image.id: (one.owner, one.image) for one in self.stored(ids).values()}

    def get(self, image_id: str) -> Image:
        """Raises ImageNotFound."""
        found = self.owners([image_id])
        if image_id not in found:
            raise no_image(image_id)
        return found[image_id][1]

    def delete(self, ids: Sequence[str]) -> None:
        """Ids that are not there are none the less deleted."""
        for start in range(0, len(ids), BATCH):
            self._run(methodcaller("delete", list(ids[start : start + BATCH])), self._write_s)

    def stored(self, ids: Sequence[str]) -> dict[str, StoredPicture]:
        """The records of those ids that are present, with all that the writer must know."""
        found: dict[str, StoredPicture] = {}
        for start in range(0, len(ids), BATCH):
            records = self._run(partial(read_records, ids=list(ids[start : start + BATCH])))
            found |= {record["id"]: stored_picture(record) for record in records}
        return found

    def update(self, pictures: Sequence[StoredPicture]) -> None:
        """Writes the records of pictures that are present, and leaves their vectors as they are."""
        for start in range(0, len(pictures), BATCH):
            records = {
                one.image.id: to_record(one.image, one.owner, one.contributions)
                for one in pictures[start : start + BATCH]
            }
            self._run(partial(_update, records=records), self._write_s)

    def records(self, ids: Sequence[str]) -> dict[str, JsonObject]:
        """What lies in Chroma of those ids that are present, to be compared only."""
        return {one["id"]: dict(one) for one in self._run(partial(read_records, ids=list(ids)))}

    def copy_records(self, target: "Pictures", vectors: Mapping[str, NDArray[np.float32]]) -> list[str]:
        """Writes the records of those ids that are present to `target`, as they are but with other vectors.

        Returns the ids that were present.
        """
        copied: list[str] = []
        ids = list(vectors)
        for start in range(0, len(ids), BATCH):
            records = self.records(ids[start : start + BATCH])
            if records:
                rows = np.stack([vectors[image_id] for image_id in records])
                target._run(partial(write_records, records=records, vectors=rows), target._write_s)
            copied += records
        return copied

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which they came; memory holds a page.

        Each page begins well before the end of the one before: what is deleted meanwhile moves the rest
        forward, and up to _OVERLAP deletions between two pages leave nothing out.
        """
        start, before = 0, frozenset[str]()
        while True:
            page: list[str] = self._run(methodcaller("get", limit=PAGE, offset=start, include=[]))["ids"]
            yield from (image_id for image_id in page if image_id not in before)
            if len(page) < PAGE:
                return
            start, before = start + len(page) - _OVERLAP, frozenset(page)

    def key_records(self, keys: Sequence[str]) -> dict[str, KeyRecord]:
        """The records of those keys that have one."""
        found: dict[str, KeyRecord] = {}
        for start in range(0, len(keys), BATCH):
            ids = [_key_id(key) for key in keys[start : start + BATCH]]
            records = self._beside(partial(read_records, ids=ids))
            found |= {(one := provenance.key_from_record(record)).key: one for record in records}
        return found

    def write_keys(self, records: Sequence[KeyRecord]) -> None:
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            ids = [_key_id(record.key) for record in batch]
            rows = [provenance.key_to_record(record) for record in batch]
            self._beside(methodcaller("upsert", ids, _spread(ids), rows), self._write_s)

    def by_key(self, key: str) -> StoredPicture | None:
        """The picture that the key points at."""
        record = self.key_records([key]).get(key)
        if record is None:
            return None
        found = self.stored(record.candidates)
        holders = [(max(versions), one) for one in found.values() if (versions := one.key_versions(key))]
        return max(holders, key=lambda holder: holder[0])[1] if holders else None

    def page(self, after: str, limit: int, where: Where | None) -> list[Image]:
        """Up to `limit` pictures that match, in the order of their ids, from the first id past `after` on."""
        return self._run(lambda chroma: _page(chroma, after, limit, where))


def no_image(image_id: str) -> ImageNotFound:
    return ImageNotFound(f"There is no image {image_id!r} in this collection.")


def read_records(chroma: Any, ids: list[str]) -> Sequence[Record]:
    found: Sequence[Record] = chroma.get(ids, include=["metadatas"])["metadatas"] or []
    return found


def without_forgotten(chroma: Any, records: Mapping[str, JsonObject]) -> list[Any]:
    """`records`, by id, so that Chroma forgets what is stored under names that they lack: it merges them."""
    gone = {old["id"]: removals(old, records[old["id"]]) for old in read_records(chroma, list(records))}
    return [record | gone.get(image_id, {}) for image_id, record in records.items()]


def write_records(
    chroma: Any, records: Mapping[str, JsonObject], vectors: NDArray[np.float32], *, new: bool = False
) -> None:
    """With `new`, nothing is stored under these ids that would have to be forgotten."""
    rows = list(records.values()) if new else without_forgotten(chroma, records)
    chroma.upsert(list(records), vectors, rows)


def _update(chroma: Any, records: Mapping[str, JsonObject]) -> None:
    chroma.update(list(records), metadatas=without_forgotten(chroma, records))


def _page(chroma: Any, after: str, limit: int, where: Where | None) -> list[Image]:
    """Reads one stretch of ids after another, so wide that each has about as many as are needed.

    Ids are hashes and so evenly spread; where a filter leaves few, the stretches grow.
    """
    start = place_of(after) if after else 0
    width = max(1, PLACES * (limit + 32) // max(1, chroma.count()))
    narrowed = where.to_chroma() if where else None
    found: list[Image] = []
    while start < PLACES and len(found) < limit:
        stretch: JsonObject = {"$and": [{"_place": {"$gte": start}}, {"_place": {"$lt": start + width}}]}
        if narrowed:
            stretch["$and"].append(narrowed)
        ids = chroma.get(where=stretch, include=[])["ids"]
        rest = sorted(image_id for image_id in ids if image_id > after)
        found += _matching(chroma, rest, limit - len(found), where)
        start += width
        if len(found) < limit:
            width *= 2
    return found


def _matching(chroma: Any, ids: Sequence[str], limit: int, where: Where | None) -> list[Image]:
    """The first `limit` of `ids`, in their order, that match."""
    found: list[Image] = []
    size = limit if where is None else max(limit, 500)
    for start in range(0, len(ids), size):
        images = [from_record(record) for record in read_records(chroma, list(ids[start : start + size]))]
        found += sorted(
            (image for image in images if where is None or where.matches(image)), key=lambda image: image.id
        )
        if len(found) >= limit:
            break
    return found[:limit]


def _key_id(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _spread(ids: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that nobody searches: unlike each other, since Chroma's graph suffers from equal ones."""
    angles = np.array([place_of(image_id) / PLACES * 2 * np.pi for image_id in ids])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
