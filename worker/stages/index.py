"""The index stage: the one writer, draining every chunk that is ready into few large upserts.

At most one process holds the writer lease. A message is only a wake-up: whoever holds the lease takes all
that waits, whoever does not has nothing to do.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.errors import CollectionNotFound, IndexUnavailable, ItemError, ModelMismatch, NewerFormat
from shared.index.collection import Collection
from shared.index.provenance import run_of
from shared.index.write_batch import WriteBatch
from shared.ledger.leases import renewing
from shared.ledger.ledger import CHUNK_LEASE_SECONDS
from shared.ledger.writer import MAX_BATCH_ITEMS, WRITER_LEASE_SECONDS
from shared.ledger.writer_lease import WriterLease
from shared.metrics.definitions import WRITE_BATCH, WRITE_SECONDS
from shared.models import Claim, ItemResult, ItemState, JobKind, Stage
from shared.services import Services
from shared.storage import vector_log
from shared.storage.blobs import log_prefix
from shared.storage.manifest import write_results
from shared.storage.trash import discard, has_files, restore
from worker.chunk_spans import BatchSpans, in_log
from worker.recovery.lease import (
    MAX_DELIVERIES,
    SUSPICIOUS_DELIVERIES,
    count_delivery,
    exhausted,
    postpone,
    releasing,
)
from worker.stages import changes
from worker.stages.deduplication import NearDuplicate, NearDuplicates
from worker.stages.transition import AGAIN, Outcome, end_chunk, fail_chunk, fetch_again

_OF_PIXELS = (JobKind.INGEST, JobKind.SYNC)  # whose pictures another model can encode
DRAIN_SECONDS = 120.0  # well inside the time limit of a task, which a busy writer would else run into

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One addition on its way into the index, and the claim and log segment that it came with."""

    claim: Claim
    addition: vector_log.Addition
    vector: NDArray[np.float32]
    segment: vector_log.Segment


# A string says why the index refused the item; PENDING that it is to be fetched again.
Stored = ItemState | NearDuplicate | str
Result = tuple[vector_log.Addition, Stored]
# Writes arrivals of one model into one collection, calling the last argument before each write to Chroma.
Store = Callable[[Services, str, list[Arrival], Callable[[], None]], Sequence[Stored]]


@dataclass(frozen=True, slots=True)
class Direct:
    """Writes a claim's chunk, which has no vectors, by itself; returns what has still to tell the ledger."""

    write: Callable[[Services, Claim, Callable[[], None]], Callable[[], None] | None]


StoreOf = Callable[[Claim], Store | Direct]


def drain(services: Services, store_of: StoreOf) -> None:
    """Write everything that is ready, for up to DRAIN_SECONDS, unless another process is doing so.

    While a batch is written, a thread tells the ledger about the one before: Chroma need not wait for that.
    """
    ledger, lease = services.ledger, WriterLease(services.ledger.writer)
    if not lease.acquire():
        return
    writer = Writer(services, store_of, lease.check)
    deadline = time.monotonic() + DRAIN_SECONDS
    claims: list[Claim] = []
    try:
        with renewing(lease.renew, WRITER_LEASE_SECONDS), ThreadPoolExecutor(1, "ending") as ending:
            told: list[Future[None]] = []
            changes.finish_changes(services, lease.check)
            while lease.renew():
                claims = ledger.claim_ready(Stage.INDEX, MAX_BATCH_ITEMS)
                for claim in claims:
                    count_delivery(claim)
                wait(told)  # so that none falls behind, and no lease is given up before its work is told
                if not claims and lease.release():
                    break
                told = writer.write_all(claims, ending)
                if time.monotonic() > deadline or ledger.writer.is_wanted():
                    break
    finally:
        lease.release(force=True)
    if claims:  # stopped by the clock or for another's change: wakes the next, now that the lease is free
        services.dispatcher.send(Stage.INDEX, claims[0].chunk)
    services.dispatcher.pump()


@dataclass(frozen=True, slots=True)
class Writer:
    """A writer of claimed chunks; `check` is called before each write and raises once the lease is lost."""

    services: Services
    store_of: StoreOf
    check: Callable[[], None]

    def write_all(self, claims: Sequence[Claim], ending: Executor) -> list[Future[None]]:
        """Write the claims' chunks; return what `ending` has still to tell the ledger."""
        if not claims:
            return []
        with renewing(lambda: self.services.ledger.renew(claims), CHUNK_LEASE_SECONDS):
            told: list[Future[None]] = []
            for batch in _batches(claims):
                wait(told)  # files that are put aside now may be brought back by the next
                told = self._write(batch, ending)
            return told

    def _write(self, claims: Sequence[Claim], ending: Executor) -> list[Future[None]]:
        told: list[Future[None]] = []
        with in_log(claims), releasing(self.services.ledger, claims), BatchSpans(claims) as spans:
            groups = defaultdict[tuple[str, str, Store], list[tuple[Claim, vector_log.Segment]]](list)
            direct: list[tuple[Claim, Direct]] = []
            for claim in claims:
                store = self.store_of(claim)
                if isinstance(store, Direct):
                    direct.append((claim, store))
                    continue
                with spans.inside(claim):
                    segment = _segment(self.services, claim)
                if segment is not None:
                    groups[claim.collection, segment.fingerprint, store].append((claim, segment))
            for (collection, _, store), claimed in groups.items():
                of_group = [claim for claim, _ in claimed]
                try:
                    with spans.writing(of_group):
                        results = self._write_group(store, collection, claimed)
                except (IndexUnavailable, NewerFormat) as error:  # one collection does not hold up the others
                    postpone(self.services.ledger, of_group, error)
                else:
                    told.append(ending.submit(_end_all, self.services, spans.take(of_group), results))
            for claim, one in direct:  # after the pictures that they may change
                try:
                    with spans.writing([claim]), in_log([claim]):
                        tell = one.write(self.services, claim, self.check)
                except (IndexUnavailable, NewerFormat) as error:
                    postpone(self.services.ledger, [claim], error)
                else:
                    if tell:
                        told.append(ending.submit(_tell, self.services, spans.take([claim]), tell))
        return told

    def _write_group(
        self, store: Store, collection: str, claimed: list[tuple[Claim, vector_log.Segment]]
    ) -> list[list[Result]]:
        """Write claims of one collection; return what became of the additions of each."""
        arrivals = [
            Arrival(claim, addition, vector, segment)
            for claim, segment in claimed
            for addition, vector in zip(segment.additions, segment.vectors, strict=True)
        ]
        stored: Sequence[Stored] = []
        if arrivals:
            WRITE_BATCH.observe(len(arrivals))
            with WRITE_SECONDS.time():
                stored = store(self.services, collection, arrivals, self.check)
        results = zip((arrival.addition for arrival in arrivals), stored, strict=True)
        return [list(islice(results, len(segment.additions))) for _, segment in claimed]


def _batches(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Batch all claims, but those that failed before alone, so that they cannot hold up the others."""
    fresh = [claim for claim in claims if claim.deliveries < SUSPICIOUS_DELIVERIES]
    alone = [[claim] for claim in claims if claim.deliveries >= SUSPICIOUS_DELIVERIES]
    return [fresh, *alone] if fresh else alone


def _segment(services: Services, claim: Claim) -> vector_log.Segment | None:
    """Return what encode left for the claim; None when there is nothing and the claim is ended."""
    if claim.deliveries > MAX_DELIVERIES:
        fail_chunk(services, claim, exhausted(claim))
        return None
    try:
        return vector_log.read_segment(services.blobs, claim.payload)
    except KeyError:
        # A reindex to the same model that was faster, or had begun before, has cleared the log.
        if claim.kind is JobKind.REINDEX or (
            claim.kind in _OF_PIXELS and _has_another_model(services, claim)
        ):
            fetch_again(services, claim)
            return None
        error = ItemError("index_error", "The collection was deleted while the picture was on its way.")
        fail_chunk(services, claim, error)
    except NewerFormat as newer:
        postpone(services.ledger, [claim], newer)
    return None


def _has_another_model(services: Services, claim: Claim) -> bool:
    """Return whether the collection was switched since encode, and the former model's log deleted."""
    try:
        fingerprint = services.index.collection(claim.collection).pointer.fingerprint
    except CollectionNotFound:
        return False
    return not claim.payload.startswith(f"{log_prefix(claim.collection)}{fingerprint}/")


def store(services: Services, name: str, arrivals: list[Arrival], check: Callable[[], None]) -> list[Stored]:
    """Write arrivals of one model into one collection; return what became of each, in order."""
    segment, dimension = arrivals[0].segment, len(arrivals[0].vector)
    try:
        collection = services.index.ensure(
            name, model=segment.model, fingerprint=segment.fingerprint, dimension=dimension
        )
    except ModelMismatch as mismatch:
        # Switched to another model while these were on their way; what a file brought has no pixels.
        of_pixels = [arrival.claim.kind in _OF_PIXELS for arrival in arrivals]
        return [ItemState.PENDING if again else mismatch.detail for again in of_pixels]
    images = [arrival.addition.image for arrival in arrivals]
    ids = list(dict.fromkeys(image.id for image in images))
    replaced = (image_id for arrival in arrivals for image_id in arrival.addition.replaces)
    touched = list(dict.fromkeys([*ids, *replaced]))
    batch = WriteBatch(
        collection,
        ids=touched,
        keys=(key for image in images for key in image.keys),
        removals=_removals(services, name, ids, arrivals),
    )
    stored = _fill(batch, collection, arrivals, _lost(services, name, batch, arrivals))
    refused, gone = batch.save(check)
    # Fetch has written files of all of them, also of those that were replaced before they came here.
    there = [image_id for image_id in ids if batch.stored(image_id) is not None]
    absent = (image_id for image_id in touched if batch.stored(image_id) is None)
    discard(services.ledger, services.blobs, name, list(dict.fromkeys([*gone, *absent])))
    restore(services.ledger, services.blobs, name, there)
    # A near-duplicate of what was refused was left out for nothing: it fails with it, and can be retried.
    written = [
        one.image_id if isinstance(one, NearDuplicate) else image.id
        for image, one in zip(images, stored, strict=True)
    ]
    return [refused.get(image_id, one) for image_id, one in zip(written, stored, strict=True)]


def _removals(services: Services, name: str, ids: list[str], arrivals: list[Arrival]) -> dict[str, int]:
    """Return the versions up to which additions come too late, as those of a source's earlier runs do now."""
    entries = sorted((a.claim.version, a.addition.of) for a in arrivals if a.addition.of)
    runs = {run_of(of): version for version, of in entries}
    writer = services.ledger.writer
    removals = writer.removals(name, [*ids, *runs])
    writer.record_removals(name, {run: one for run, one in runs.items() if removals.get(run, 0) < one})
    return removals


def _lost(services: Services, name: str, batch: WriteBatch, arrivals: list[Arrival]) -> set[str]:
    """Return the ids of images that fetch found in the collection and that are deleted since, files and all.

    Those of the trash come back; of an image that another item brings, fetch has written them.
    """
    new = {a.addition.image.id for a in arrivals if batch.stored(a.addition.image.id) is None}
    known = {a.addition.image.id for a in arrivals if a.addition.known}
    return {image_id for image_id in new & known if not has_files(services.blobs, name, image_id)}


def _fill(batch: WriteBatch, collection: Collection, arrivals: list[Arrival], lost: set[str]) -> list[Stored]:
    """Add the arrivals to `batch`, but for near-duplicates to be left out; return what became of each.

    In the order of the items, so that what one of them replaces at once is never written. What is `lost` is
    to be fetched again.
    """
    asking = [a for a in arrivals if a.addition.skip_near and batch.stored(a.addition.image.id) is None]
    duplicates = NearDuplicates(collection, [(a.addition.image, a.vector) for a in asking], len(arrivals))
    stored: dict[int, Stored] = {}
    for place, arrival in sorted(enumerate(arrivals), key=lambda one: one[1].addition.version):
        addition, image = arrival.addition, arrival.addition.image
        version, of = addition.version, addition.of
        new = batch.stored(image.id) is None and not batch.is_late(image.id, version, of)
        if new and image.id in lost:
            stored[place] = ItemState.PENDING
            continue
        if new and addition.skip_near and (repeated := duplicates.of(image, arrival.vector)):
            stored[place] = repeated
            continue
        stored[place] = batch.add(
            image, addition.owner, version, arrival.vector, of=of, replaces=addition.replaces
        )
        if addition.unchanged and stored[place] is ItemState.DUPLICATE:
            stored[place] = ItemState.UPDATED if addition.updates else ItemState.UNCHANGED
        if new and batch.stored(image.id) is not None:
            duplicates.add(image, arrival.vector)
    return [stored[place] for place in range(len(arrivals))]


def _end_all(services: Services, spans: BatchSpans, results: Sequence[list[Result]]) -> None:
    claims = spans.claims
    with in_log(claims), releasing(services.ledger, claims), spans:
        for claim, of_claim in zip(claims, results, strict=True):
            with spans.inside(claim):
                _end(services, claim, of_claim)


def _tell(services: Services, spans: BatchSpans, tell: Callable[[], None]) -> None:
    (claim,) = spans.claims
    with in_log([claim]), releasing(services.ledger, [claim]), spans, spans.inside(claim):
        tell()


def _end(services: Services, claim: Claim, results: list[Result]) -> None:
    # Under one name, so that a redelivery that comes to another end says so in its place.
    write_results(services.blobs, claim.chunk, Stage.INDEX, "near", _image_ids(results))
    outcomes = [_outcome(addition, stored) for addition, stored in results]
    again = any(stored is ItemState.PENDING for _, stored in results)
    moved = end_chunk(services, claim, outcomes, **(AGAIN if again else {}))
    if moved and claim.kind is JobKind.REINDEX:  # the log is carried over as a whole, at the switch
        services.blobs.delete(claim.payload)
        return
    # With a deleted collection went its log, so this has no removal that a rebuild would see.
    deleted = services.ledger.writer.removals(claim.collection, ["*"]).get("*", 0)
    left_out = {
        a.index
        for a, stored in results
        if stored is ItemState.PENDING or not isinstance(stored, ItemState) or a.version < deleted
    }
    # Only now: a delivery before this point must find every item in the segment.
    if moved and left_out:
        vector_log.drop(services.blobs, claim.payload, left_out)


def _image_ids(results: list[Result]) -> list[ItemResult]:
    """Return which image stands for each item that might have been left out."""
    ids = [(a, o.image_id if isinstance(o, NearDuplicate) else a.image.id) for a, o in results if a.skip_near]
    return [ItemResult(a.index, a.image.source, a.attempts, image_id=image_id) for a, image_id in ids]


def _outcome(addition: vector_log.Addition, stored: Stored) -> Outcome:
    index, source = addition.index, addition.image.source
    if isinstance(stored, NearDuplicate):
        return Outcome(index, source, ItemState.DUPLICATE)
    if isinstance(stored, ItemState):
        return Outcome(index, source, stored)
    return Outcome(index, source, error=ItemError("index_error", stored))
