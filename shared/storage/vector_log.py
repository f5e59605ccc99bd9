"""The vector log: every addition and change, in the blob store before it is in Chroma.

So a collection can be verified, rebuilt or moved without encoding again. A segment is an arrays.py file. Each
of its records carries an `op` and a `version` (nanoseconds since the epoch, see shared/ledger/writer.py).
Applied in the order of their versions, by WriteBatch.apply (shared/index/write_batch.py), they yield the
collection as it is:

    add         `image` (of an import with all its `keys`, else at most one), `owner`, `index`,
                `attempts`; has a row of the array; of an entry of the source `of`, which is withdrawn from
                the images that it `replaces`
    delete      `id`: what was said of the image until then is taken away
    delete_key  `key`: it no longer points at what it pointed at until then
    withdraw    `id`, `of`, `entry`: what that source said of the image by this entry until then is taken away
    patch       `id`, `metadata`: merged into the image's, where null takes a name away
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.models import Chunk, Claim, Image, JsonObject
from shared.storage.arrays import FORMAT, KNOWN, PLAIN, pack, unpack
from shared.storage.blobs import Blobs, log_prefix
from shared.storage.image_fields import sound_image

_FLAGS = ("known", "unchanged")
_OF_SOURCES = ("of", "replaces", "updates")


@dataclass(frozen=True, slots=True)
class Addition:
    """One encoded image: `index` is its item's, `attempts` the item's fetches, `owner` "<job>:<index>".

    `version` orders items: it is the same however often the item is delivered. `skip_near` leaves the image
    out where it is a near-duplicate. `known`: the collection had the image, and nothing was decoded;
    `unchanged`: nor downloaded.

    Of an entry of the source `of`, `unchanged` also where the entry has brought the image before, and then
    `updates` where it now says something else of it; `replaces` are the other images that it has brought.
    """

    index: int
    attempts: int
    owner: str
    image: Image
    version: int
    skip_near: bool = False
    known: bool = False
    unchanged: bool = False
    of: str | None = None
    replaces: tuple[str, ...] = ()
    updates: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "replaces", tuple(self.replaces))

    def record(self) -> JsonObject:
        """Return what is stored, without what earlier versions do not know where it says nothing."""
        later = (*_FLAGS, *_OF_SOURCES)
        fields = {name: value for name, value in asdict(self).items() if value or name not in later}
        return {"op": "add", **fields}

    @classmethod
    def from_record(cls, record: JsonObject) -> "Addition":
        fields = {name: value for name, value in record.items() if name != "op"}
        return cls(**{**fields, "image": sound_image(fields["image"])})


@dataclass(frozen=True, slots=True)
class Segment:
    """Additions with their unit `vectors` (float32, one row each) by one model; `version` is the first's."""

    version: int
    model: str
    fingerprint: str
    additions: list[Addition]
    vectors: NDArray[np.float32]


def name_of(claim: Claim) -> str:
    """Return what to call the segment that a delivery of a chunk leaves for the writer."""
    return f"{_of_chunk(claim.chunk)}{claim.token}"


def _of_chunk(chunk: Chunk) -> str:
    return f"{chunk.ref.replace(':', '.')}."


def forget(blobs: Blobs, claim: Claim) -> None:
    """Delete the segments of a chunk that nobody was told of: those of deliveries that were killed."""
    of_chunk = f"-{_of_chunk(claim.chunk)}"
    blobs.delete(*(key for key in blobs.list(log_prefix(claim.collection)) if of_chunk in key))


def write_segment(blobs: Blobs, collection: str, name: str, segment: Segment) -> str:
    """Store a segment under its collection and model; return its key."""
    key = f"{log_prefix(collection)}{segment.fingerprint}/{segment.version:020d}-{name}.npz"
    blobs.put(key, packed(segment))
    return key


def read_segment(blobs: Blobs, key: str) -> Segment:
    return unpacked(blobs.get(key))


def packed(segment: Segment) -> bytes:
    header = {"version": segment.version, "model": segment.model, "fingerprint": segment.fingerprint}
    return packed_records(header, [a.record() for a in segment.additions], segment.vectors)


def packed_records(header: JsonObject, records: list[JsonObject], rows: NDArray[np.float32]) -> bytes:
    """Return a segment's file, in the earliest format that can hold the records."""
    return pack(header, records, rows, needs=format_of(records))


def format_of(records: list[JsonObject]) -> int:
    """Return the earliest format of an arrays.py file that can hold the records."""
    if any(record.get(name) for record in records for name in _OF_SOURCES):
        return FORMAT
    return KNOWN if any(record.get(flag) for record in records for flag in _FLAGS) else PLAIN


def unpacked(data: bytes) -> Segment:
    header, records, vectors = unpack(data)
    return Segment(additions=[Addition.from_record(record) for record in records], vectors=vectors, **header)


def drop(blobs: Blobs, key: str, indices: set[int]) -> None:
    """Take the additions of the items `indices`, which were left out of the collection, out of a segment.

    A segment that is gone (its collection was deleted) stays gone.
    """
    try:
        header, records, vectors = unpack(blobs.get(key))
    except KeyError:
        return
    kept = [place for place, record in enumerate(records) if record.get("index") not in indices]
    rows = vectors[kept] if len(vectors) else vectors
    blobs.put(key, packed_records(header, [records[place] for place in kept], rows))


def write_change(blobs: Blobs, collection: str, fingerprint: str, record: JsonObject) -> str:
    """Store a record that has no vector (its `op`, `version` and what the op takes); return its key."""
    version, op = record["version"], record["op"]
    header = {"version": version, "model": "", "fingerprint": fingerprint}
    key = f"{log_prefix(collection)}{fingerprint}/{version:020d}-{op}.npz"
    blobs.put(key, pack(header, [record], np.empty((0, 0), np.float32)))
    return key


def changes_name(chunk: Chunk, version: int) -> str:
    """Return the name of a chunk's changes, one for every delivery: what the first decides, the next find."""
    return f"{version:020d}-{chunk.ref.replace(':', '.')}.npz"


def changes_key(collection: str, fingerprint: str, name: str) -> str:
    return f"{log_prefix(collection)}{fingerprint}/{name}"


def write_changes(
    blobs: Blobs, key: str, fingerprint: str, records: list[JsonObject], said: list[Any]
) -> None:
    """Store the records of a job's chunk, none with a vector, and what becomes of its items (`said`)."""
    header = {"version": records[0]["version"], "model": "", "fingerprint": fingerprint, "said": said}
    blobs.put(key, packed_records(header, records, np.empty((0, 0), np.float32)))


def read_changes(blobs: Blobs, key: str) -> tuple[list[JsonObject], list[Any]]:
    """Return what `write_changes` stored. Raises KeyError, NewerFormat."""
    header, records, _ = unpack(blobs.get(key))
    return records, header["said"]
