"""The index stage: the one writer, draining every chunk that is ready into few large upserts.

At most one process holds the writer lease. A message is only a wake-up: whoever holds the lease takes all
that waits, whoever does not has nothing to do.
"""

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import structlog
from numpy.typing import NDArray

from shared import vectorlog
from shared.errors import CollectionNotFound, IndexUnavailable, ItemError, ModelMismatch, Unavailable
from shared.index import Collection
from shared.ledger import Ledger
from shared.manifest import write_results
from shared.models import Claim, Image, ItemResult, ItemState, JobError, JobKind, Stage
from shared.services import Services
from worker import reindex
from worker.lease import MAX_DELIVERIES, SUSPICIOUS_DELIVERIES, exhausted, give_up, giving_back, renewing
from worker.near_duplicates import NearDuplicate, NearDuplicates

MAX_BATCH_ITEMS = 2000  # what one Chroma write takes best
DRAIN_S = 120.0  # well inside the time limit of a task, which a busy writer would else run into
MAX_SOURCES = 1000  # of one picture; more are not remembered

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One addition on its way into the index, and the claim and log segment that it came with."""

    claim: Claim
    addition: vectorlog.Addition
    vector: NDArray[np.float32]
    segment: vectorlog.Segment


@dataclass(frozen=True, slots=True)
class Row:
    """One record to be written."""

    image: Image
    vector: NDArray[np.float32]
    owner: str
    version: int


Outcome = ItemState | NearDuplicate | str  # a string says why the index refused the item


def drain(services: Services) -> None:
    """Writes everything that is ready, unless another process is doing so; stops after DRAIN_S."""
    token = secrets.token_hex(8)
    ledger = services.ledger
    if not ledger.acquire_writer(token):
        return
    deadline = time.monotonic() + DRAIN_S
    claims: list[Claim] = []
    try:
        with renewing(lambda: ledger.renew_writer(token)):
            while ledger.renew_writer(token):
                claims = ledger.claim_ready(Stage.INDEX, MAX_BATCH_ITEMS)
                if not claims and ledger.release_writer(token):
                    break
                _write_all(services, claims, token)
                if time.monotonic() > deadline:
                    break
    finally:
        ledger.release_writer(token, force=True)
    if claims:  # stopped by the clock: wakes the next, now that the lease is free
        services.dispatcher.send(Stage.INDEX, claims[0].chunk)
    services.dispatcher.pump()


def _write_all(services: Services, claims: Sequence[Claim], token: str) -> None:
    if not claims:
        return
    with renewing(lambda: services.ledger.renew(claims)):
        for batch in _batches(claims):
            _write(services, batch, token)


def _batches(claims: Sequence[Claim]) -> list[list[Claim]]:
    """All at once, but what failed before alone, so that it cannot hold up the others for ever."""
    fresh = [claim for claim in claims if claim.deliveries < SUSPICIOUS_DELIVERIES]
    alone = [[claim] for claim in claims if claim.deliveries >= SUSPICIOUS_DELIVERIES]
    return [fresh, *alone] if fresh else alone


def _write(services: Services, claims: Sequence[Claim], token: str) -> None:
    with giving_back(services.ledger, claims):
        segments = [(c, s) for c in claims if (s := _segment(services, c)) is not None]
        segments.sort(key=_destination)
        for (collection, _, _), group in groupby(segments, key=_destination):
            _write_group(services, collection, list(group), token)


def _segment(services: Services, claim: Claim) -> vectorlog.Segment | None:
    """What encode left for the claim; None when there is nothing to be had and the claim is over."""
    if claim.deliveries > MAX_DELIVERIES:
        give_up(services, claim, exhausted(claim))
        return None
    try:
        return vectorlog.read_segment(services.blobs, claim.payload)
    except KeyError:
        error = ItemError("index_error", "The collection was deleted while the picture was on its way.")
        give_up(services, claim, error)
        return None


def _write_group(
    services: Services, collection: str, claimed: list[tuple[Claim, vectorlog.Segment]], token: str
) -> None:
    arrivals = [
        Arrival(claim, addition, vector, segment)
        for claim, segment in claimed
        for addition, vector in zip(segment.additions, segment.vectors, strict=True)
    ]
    store = reindex.store if claimed[0][0].kind is JobKind.REINDEX else _store
    outcomes = store(services, collection, arrivals, token) if arrivals else []
    for claim, _ in claimed:
        pairs = zip(arrivals, outcomes, strict=True)
        _advance(services, claim, [(a.addition, o) for a, o in pairs if a.claim is claim])


def _destination(claimed: tuple[Claim, vectorlog.Segment]) -> tuple[str, str, bool]:
    return claimed[0].collection, claimed[1].fingerprint, claimed[0].kind is JobKind.REINDEX


def _store(services: Services, name: str, arrivals: list[Arrival], token: str) -> list[Outcome]:
    """Writes arrivals of one model into one collection; their outcomes, in order."""
    segment, dimension = arrivals[0].segment, len(arrivals[0].vector)
    try:
        collection = services.index.ensure(
            name, model=segment.model, fingerprint=segment.fingerprint, dimension=dimension
        )
    except ModelMismatch as mismatch:
        return [mismatch.detail] * len(arrivals)
    ids = [arrival.addition.image.id for arrival in arrivals]
    removals = services.ledger.removals(name, ids)
    stored = collection.owners(list(dict.fromkeys(ids)))
    rows, outcomes = _merge(arrivals, stored, removals, _near_duplicates(collection, arrivals, stored))
    refused = _upsert(services.ledger, collection, list(rows.values()), token)
    # A removal that came in between found nothing to delete, or what has now been written again.
    late = [
        i for i, version in services.ledger.removals(name, list(rows)).items() if version > rows[i].version
    ]
    if late:
        collection.delete(late)
    # A near-duplicate of what was refused was left out for nothing: it fails with it, and can be retried.
    written = [o.image_id if isinstance(o, NearDuplicate) else i for i, o in zip(ids, outcomes, strict=True)]
    return [refused.get(image_id, outcome) for image_id, outcome in zip(written, outcomes, strict=True)]


def _near_duplicates(
    collection: Collection, arrivals: list[Arrival], stored: dict[str, tuple[str, Image]]
) -> NearDuplicates:
    pairs = [(a.addition.image, a.vector) for a in arrivals if a.addition.skip_near]
    return NearDuplicates(collection, [pair for pair in pairs if pair[0].id not in stored], len(arrivals))


def _merge(
    arrivals: Iterable[Arrival],
    stored: dict[str, tuple[str, Image]],
    removals: dict[str, int],
    near_duplicates: NearDuplicates,
) -> tuple[dict[str, Row], list[Outcome]]:
    """What must be written, by image id, and each arrival's outcome.

    The first item to bring an image owns it, and is `indexed` however often it is delivered; every other
    item is a `duplicate` that adds its source and metadata. An arrival that is older than its image's
    removal changes nothing. One that asks for it is left out, source and all, where its image is new but
    nearly another.
    """
    known = dict(stored)
    rows: dict[str, Row] = {}
    outcomes: list[Outcome] = []
    for arrival in arrivals:
        new, owner = arrival.addition.image, arrival.addition.owner
        before_owner, before = known.get(new.id, (owner, None))
        removed = removals.get(new.id, 0) > arrival.segment.version
        near = None
        if before is None and not removed and arrival.addition.skip_near:
            near = near_duplicates.of(new, arrival.vector)
        outcomes.append(near or (ItemState.INDEXED if before_owner == owner else ItemState.DUPLICATE))
        if removed or near:
            continue
        if before is None:
            near_duplicates.add(new, arrival.vector)
        image = new if before is None else _merged(before, new)
        if image != before:
            known[new.id] = (before_owner, image)
            rows[new.id] = Row(image, arrival.vector, before_owner, arrival.segment.version)
    return rows, outcomes


def _merged(before: Image, new: Image) -> Image:
    sources = list(dict.fromkeys([*before.sources, *new.sources]))[:MAX_SOURCES]
    return replace(before, sources=sources, metadata=before.metadata | new.metadata)


def _upsert(ledger: Ledger, collection: Collection, rows: list[Row], token: str) -> dict[str, str]:
    """Writes `rows`; where Chroma refuses some, finds them by halving. Returns id -> why it was refused."""
    if not rows:
        return {}
    if not ledger.renew_writer(token):
        raise IndexUnavailable("The writer lease was lost; another process writes now.")
    try:
        collection.upsert(
            [row.image for row in rows], np.stack([row.vector for row in rows]), [row.owner for row in rows]
        )
    except (Unavailable, CollectionNotFound):
        raise
    except Exception:
        if len(rows) > 1:
            middle = len(rows) // 2
            return _upsert(ledger, collection, rows[:middle], token) | _upsert(
                ledger, collection, rows[middle:], token
            )
        log.exception("row_refused", image_id=rows[0].image.id)
        return {rows[0].image.id: "The index refused this picture's record; the worker's log says why."}
    return {}


def _advance(services: Services, claim: Claim, results: list[tuple[vectorlog.Addition, Outcome]]) -> None:
    failed = [(a, detail) for a, detail in results if isinstance(detail, str)]
    left_out = {a.index for a, outcome in results if isinstance(outcome, NearDuplicate)}
    write_results(
        services.blobs,
        claim.chunk,
        Stage.INDEX,
        claim.token,
        [ItemResult(a.index, a.image.source, a.attempts, code="index_error", detail=d) for a, d in failed],
    )
    # Under one name, so that a redelivery that comes to another end says so in its place.
    write_results(services.blobs, claim.chunk, Stage.INDEX, "near", _image_ids(results))
    moved = services.ledger.advance(
        claim,
        moves=[(a.index, _state(outcome)) for a, outcome in results],
        errors=[JobError(a.index, a.image.source, "index_error", detail) for a, detail in failed],
    )
    # Only now: a delivery before this point must find every item in the segment.
    if moved and left_out:
        vectorlog.drop(services.blobs, claim.payload, left_out)


def _image_ids(results: list[tuple[vectorlog.Addition, Outcome]]) -> list[ItemResult]:
    """Which picture stands for each item that might have been left out."""
    ids = [(a, o.image_id if isinstance(o, NearDuplicate) else a.image.id) for a, o in results if a.skip_near]
    return [ItemResult(a.index, a.image.source, a.attempts, image_id=image_id) for a, image_id in ids]


def _state(outcome: Outcome) -> ItemState:
    if isinstance(outcome, NearDuplicate):
        return ItemState.DUPLICATE
    return outcome if isinstance(outcome, ItemState) else ItemState.FAILED
