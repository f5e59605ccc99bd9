"""Comparing a collection in Chroma with its vector log, and making it anew from that.

shared/storage/vector_log.py describes the records; the writer's own `WriteBatch` applies them, so what is
rebuilt has the keys, sources and metadata that the writer gave it.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Any, cast

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.errors import CollectionNotFound, ConfigError
from shared.index.collection import Collection
from shared.index.index import Index
from shared.index.provenance import KeyRecord, StoredImage
from shared.index.records import BATCH
from shared.index.write_batch import WriteBatch
from shared.ledger.writer_lease import writing
from shared.models import JsonObject
from shared.services import Services
from shared.storage.arrays import unpack
from shared.storage.blobs import Blobs, log_prefix

logger = structlog.get_logger(__name__)

SAME_VECTOR = 0.999  # a cosine; another device or precision gives the same picture a little less than 1


@dataclass(frozen=True, slots=True)
class Logged:
    """One image of the log: its vector is row `row` of the blob `key`."""

    stored: StoredImage
    key: str
    row: int


@dataclass(slots=True)
class Log:
    """The images that the log of a collection yields, some 1,000 bytes each."""

    model: str = ""
    dimension: int = 0
    segments: list[str] = field(default_factory=list)
    images: dict[str, Logged] = field(default_factory=dict)
    keys: list[KeyRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Faults:
    """The ids that differ in Chroma, by what is wrong with them; `log` has `total` images."""

    total: int
    missing: list[str]
    extra: list[str]
    wrong: list[str]
    unreachable: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.wrong or self.unreachable)


def fingerprint_of(services: Services, collection: str) -> str:
    """Return the fingerprint of a collection; if Chroma has lost it, that of the log's newest segment.

    Raises CollectionNotFound when neither Chroma nor the log knows the collection.
    """
    try:
        return services.index.collection(collection).pointer.fingerprint
    except CollectionNotFound:
        prefix = log_prefix(collection)
        keys = services.blobs.list(prefix)
        if not keys:
            raise
        newest = max(keys, key=lambda key: key.rpartition("/")[2])
        return newest.removeprefix(prefix).partition("/")[0]


def read_log(blobs: Blobs, collection: str, fingerprint: str) -> Log:
    """Read the whole log once, a segment in memory at a time."""
    log, batch = Log(), WriteBatch(cast(Any, _Empty()))
    rows: dict[str, tuple[str, int]] = {}
    # A segment's name begins with its version, and the versions of two jobs' segments do not overlap.
    for key in blobs.list(f"{log_prefix(collection)}{fingerprint}/"):
        header, records, vectors = unpack(blobs.get(key))
        log.segments.append(key)
        log.model = header["model"] or log.model
        if len(vectors):
            log.dimension = vectors.shape[1]
        for row, record in enumerate(records):
            # As in Chroma, the vector is that of whoever brought the image: a later one may be a copy of it.
            if image_id := _brought(batch, record, key):
                rows[image_id] = (key, row)
    log.images = {i: Logged(stored, *rows[i]) for i, stored in batch.images.items()}
    log.keys = list(batch.keys.values())
    return log


def _brought(batch: WriteBatch, record: JsonObject, key: str) -> str | None:
    """Apply a record; return the id of the image that it brings anew, if any.

    One that is damaged does not cost the collection.
    """
    try:
        image_id: str | None = record["image"]["id"] if record["op"] == "add" else None
        new = image_id not in batch.images
        batch.apply(record)
    except ValueError as error:
        raise ConfigError(f"{error} Use that version.") from None
    except (KeyError, TypeError, AttributeError) as error:
        logger.warning("log_record_left_out", segment=key, reason=repr(error))
        return None
    return image_id if new else None


class _Empty:
    """The empty collection, from which the WriteBatch of a whole log loads."""

    def key_records(self, keys: Sequence[str]) -> dict[str, KeyRecord]:
        return {}

    def stored(self, ids: Sequence[str]) -> dict[str, StoredImage]:
        return {}


def compare(
    blobs: Blobs,
    log: Log,
    collection: Collection,
    *,
    asking: int = 0,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Faults:
    """Compare Chroma with the log. Images that are still being indexed count as missing.

    About `asking` of the images are asked for by their own vectors: these tell who is unreachable. `told`
    is called with how many images are done, of how many.
    """
    present = set(collection.ids())
    wrong: list[str] = []
    unreachable: list[str] = []
    every = max(1, -(-len(log.images) // asking)) if asking else 0
    seen = 0
    for rows in _batched(_vectors(blobs, log, log.images.keys() & present)):
        stored = collection.vectors(list(rows))
        wrong += [i for i, vector in rows.items() if i not in stored or not _same(vector, stored[i])]
        if every:
            asked = list(stored)[-seen % every :: every]
            unreachable += collection.lost({i: stored[i] for i in asked})
        seen += len(stored)
        told(seen, len(present))
    return Faults(
        total=len(log.images),
        missing=[i for i in log.images if i not in present],
        extra=sorted(present - log.images.keys()),
        wrong=wrong,
        unreachable=unreachable,
    )


def _same(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return bool(a @ b >= SAME_VECTOR * np.linalg.norm(a) * np.linalg.norm(b))


def _vectors(blobs: Blobs, log: Log, ids: Set[str]) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the log's vectors of `ids`, a segment at a time."""
    wanted = sorted((log.images[i] for i in ids), key=attrgetter("key", "row"))
    for key, group in groupby(wanted, key=attrgetter("key")):
        _, _, array = unpack(blobs.get(key))
        yield {one.stored.image.id: array[one.row] for one in group}


def _repair(
    blobs: Blobs, log: Log, collection: Collection, faults: Faults, check: Callable[[], None]
) -> None:
    """Make the collection what the log says."""
    for rows in _batched(_vectors(blobs, log, {*faults.missing, *faults.wrong})):
        images = [log.images[i].stored for i in rows]
        check()
        collection.upsert(
            [one.image for one in images],
            np.stack(list(rows.values())),
            [one.owner for one in images],
            [one.contributions for one in images],
        )
    if faults.extra:
        check()
        collection.delete(faults.extra)
    check()
    collection.write_keys(log.keys)


def _batched(
    segments: Iterator[dict[str, NDArray[np.float32]]],
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Join segments to what one call to Chroma takes best."""
    batch: dict[str, NDArray[np.float32]] = {}
    for rows in segments:
        batch |= rows
        if len(batch) >= BATCH:
            yield batch
            batch = {}
    if batch:
        yield batch


def verify(
    services: Services,
    collection: str,
    *,
    sample: int | None = None,
    repair: bool = False,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Faults:
    """Compare a collection with its log, and ask for its images, or a `sample`, by their own vectors.

    With `repair` those that no search finds are marked, which takes the writer's lease for that moment, and
    only who is still not found counts. Raises CollectionNotFound.
    """
    opened = services.index.collection(collection)
    log = read_log(services.blobs, collection, opened.pointer.fingerprint)
    asking = len(log.images) if sample is None else sample
    faults = compare(services.blobs, log, opened, asking=asking, told=told)
    if not repair or not faults.unreachable:
        return faults
    with writing(services.ledger.writer, services.dispatcher.wake_writer) as check:
        _mark(opened, faults.unreachable, check)
    return replace(faults, unreachable=opened.lost(opened.vectors(faults.unreachable)))


def _mark(collection: Collection, unreachable: Sequence[str], check: Callable[[], None]) -> None:
    for start in range(0, len(unreachable), BATCH):
        check()
        collection.mark_strays(unreachable[start : start + BATCH])


def rebuild(services: Services, collection: str) -> Faults:
    """Make a collection anew from its log, in a shadow collection, and swap; return what was wrong before.

    In the new one, what HNSW does not reach is marked before the swap. Searches go on meanwhile; the index
    writer waits. Raises CollectionNotFound.
    """
    fingerprint = fingerprint_of(services, collection)
    with writing(services.ledger.writer, services.dispatcher.wake_writer) as check:
        log = read_log(services.blobs, collection, fingerprint)
        before = _before(services, collection, log)
        services.index.unstage(collection)
        staged = services.index.stage(
            collection, model=log.model, fingerprint=fingerprint, dimension=log.dimension
        )
        _repair(services.blobs, log, staged, compare(services.blobs, log, staged), check)
        for rows in _batched(_vectors(services.blobs, log, log.images.keys())):
            _mark(staged, staged.lost(rows), check)
        check()
        services.index.switch(collection, staged, new_keys=True)
        _catch_up(services, collection, fingerprint, log, check)
        services.index.unstage(collection)
    return before


def _before(services: Services, collection: str, log: Log) -> Faults:
    if not log.dimension:
        raise CollectionNotFound(f"The vector log of {collection!r} has no pictures.")
    try:
        return compare(services.blobs, log, services.index.collection(collection))
    except CollectionNotFound:
        return Faults(len(log.images), list(log.images), [], [])


def _catch_up(
    services: Services, collection: str, fingerprint: str, log: Log, check: Callable[[], None]
) -> None:
    """Apply immediate changes, in the log by now, of processes that had not seen the swap yet."""
    Index.wait_for_pointers()
    now = read_log(services.blobs, collection, fingerprint)
    if now.segments == log.segments:
        return
    opened = services.index.collection(collection)
    faults = compare(services.blobs, now, opened)
    before = {image_id: one.stored for image_id, one in log.images.items()}
    changed = [i for i, one in now.images.items() if before.get(i) != one.stored]
    wrong = list(dict.fromkeys([*faults.wrong, *changed]))
    _repair(services.blobs, now, opened, replace(faults, wrong=wrong), check)
