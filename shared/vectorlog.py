"""The vector log: every addition and removal, in the blob store, before Chroma hears of it.

So a collection can be verified, rebuilt or moved without encoding again. A segment is an arrays.py file
whose records carry an `op` (`add` with a row of `vectors`, or `delete`) and whose `version` (nanoseconds
since the epoch) orders it: for one image the greatest version wins.
"""

import time
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from shared.arrays import pack, unpack
from shared.blobs import Blobs, log_prefix
from shared.models import Image, JsonObject


@dataclass(frozen=True, slots=True)
class Addition:
    """One encoded picture: `index` is its item's, `attempts` the item's fetches, `owner` "<job>:<index>".

    With `skip_near` it is to be left out where it is a near-duplicate.
    """

    index: int
    attempts: int
    owner: str
    image: Image
    skip_near: bool = False

    def record(self) -> JsonObject:
        return {"op": "add", **asdict(self)}

    @classmethod
    def from_record(cls, record: JsonObject) -> "Addition":
        fields = {name: value for name, value in record.items() if name != "op"}
        return cls(**{**fields, "image": Image(**fields["image"])})


@dataclass(frozen=True, slots=True)
class Segment:
    """Additions with their unit `vectors` (float32, one row each) by one model."""

    version: int
    model: str
    fingerprint: str
    additions: list[Addition]
    vectors: NDArray[np.float32]


def new_version() -> int:
    return time.time_ns()


def write_segment(blobs: Blobs, collection: str, name: str, segment: Segment) -> str:
    """Stores a segment under its collection and model; returns its key."""
    header = {"version": segment.version, "model": segment.model, "fingerprint": segment.fingerprint}
    key = f"{log_prefix(collection)}{segment.fingerprint}/{segment.version:020d}-{name}.npz"
    blobs.put(key, pack(header, [a.record() for a in segment.additions], segment.vectors))
    return key


def read_segment(blobs: Blobs, key: str) -> Segment:
    header, records, vectors = unpack(blobs.get(key))
    return Segment(additions=[Addition.from_record(record) for record in records], vectors=vectors, **header)


def drop(blobs: Blobs, key: str, indices: set[int]) -> None:
    """Takes the additions of these items out of a segment: they were left out of the collection.

    A segment that is gone (its collection was deleted) stays gone.
    """
    try:
        header, records, vectors = unpack(blobs.get(key))
    except KeyError:
        return
    kept = [place for place, record in enumerate(records) if record.get("index") not in indices]
    blobs.put(key, pack(header, [records[place] for place in kept], vectors[kept]))


def write_removal(blobs: Blobs, collection: str, fingerprint: str, image_id: str, version: int) -> None:
    header = {"version": version, "model": "", "fingerprint": fingerprint}
    key = f"{log_prefix(collection)}{fingerprint}/{version:020d}-delete-{image_id}.npz"
    blobs.put(key, pack(header, [{"op": "delete", "id": image_id}], np.empty((0, 0), np.float32)))
