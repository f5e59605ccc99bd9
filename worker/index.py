"""The index stage: the one writer, draining every chunk that is ready into few large upserts.

At most one process holds the writer lease. A message is only a wake-up: whoever holds the lease takes all
that waits, whoever does not has nothing to do.
"""

import secrets
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
import structlog
from numpy.typing import NDArray

from shared import vectorlog
from shared.discarded import discard, restore
from shared.draft import Draft
from shared.errors import ItemError, ModelMismatch, NewerFormat
from shared.index import Collection
from shared.manifest import write_results
from shared.models import Claim, ItemResult, ItemState, JobError, JobKind, Stage
from shared.services import Services
from worker import reindex
from worker.lease import (
    MAX_DELIVERIES,
    SUSPICIOUS_DELIVERIES,
    exhausted,
    give_up,
    giving_back,
    postpone,
    renewing,
)
from worker.near_duplicates import NearDuplicate, NearDuplicates

MAX_BATCH_ITEMS = 2000  # what one Chroma write takes best
DRAIN_S = 120.0  # well inside the time limit of a task, which a busy writer would else run into

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One addition on its way into the index, and the claim and log segment that it came with."""

    claim: Claim
    addition: vectorlog.Addition
    vector: NDArray[np.float32]
    segment: vectorlog.Segment


Outcome = ItemState | NearDuplicate | str  # a string says why the index refused the item
Result = tuple[vectorlog.Addition, Outcome]


def drain(services: Services) -> None:
    """Writes everything that is ready, unless another process is doing so; stops after DRAIN_S.

    While a batch is written, a thread tells the ledger about the one before: Chroma need not wait for that.
    """
    token = secrets.token_hex(8)
    ledger = services.ledger
    if not ledger.acquire_writer(token):
        return
    deadline = time.monotonic() + DRAIN_S
    claims: list[Claim] = []
    try:
        with renewing(lambda: ledger.renew_writer(token)), ThreadPoolExecutor(1, "ending") as ending:
            told: list[Future[None]] = []
            while ledger.renew_writer(token):
                claims = ledger.claim_ready(Stage.INDEX, MAX_BATCH_ITEMS)
                wait(told)  # so that none falls behind, and no lease is given up before its work is told
                if not claims and ledger.release_writer(token):
                    break
                told = _write_all(services, claims, token, ending)
                if time.monotonic() > deadline or ledger.writer_wanted():
                    break
    finally:
        ledger.release_writer(token, force=True)
    if claims:  # stopped by the clock or for another's change: wakes the next, now that the lease is free
        services.dispatcher.send(Stage.INDEX, claims[0].chunk)
    services.dispatcher.pump()


def _write_all(
    services: Services, claims: Sequence[Claim], token: str, ending: Executor
) -> list[Future[None]]:
    """What `ending` has still to tell the ledger."""
    if not claims:
        return []
    with renewing(lambda: services.ledger.renew(claims)):
        return [told for batch in _batches(claims) for told in _write(services, batch, token, ending)]


def _batches(claims: Sequence[Claim]) -> list[list[Claim]]:
    """All at once, but what failed before alone, so that it cannot hold up the others for ever."""
    fresh = [claim for claim in claims if claim.deliveries < SUSPICIOUS_DELIVERIES]
    alone = [[claim] for claim in claims if claim.deliveries >= SUSPICIOUS_DELIVERIES]
    return [fresh, *alone] if fresh else alone


def _write(services: Services, claims: Sequence[Claim], token: str, ending: Executor) -> list[Future[None]]:
    told: list[Future[None]] = []
    with giving_back(services.ledger, claims):
        segments = [(c, s) for c in claims if (s := _segment(services, c)) is not None]
        segments.sort(key=_destination)
        for (collection, _, _), group in groupby(segments, key=_destination):
            claimed = list(group)
            its_claims = [claim for claim, _ in claimed]
            try:
                results = _write_group(services, collection, claimed, token)
            except NewerFormat as newer:  # that of one collection does not hold up the others
                postpone(services.ledger, its_claims, newer)
            else:
                told.append(ending.submit(_advance_all, services, its_claims, results))
    return told


def _segment(services: Services, claim: Claim) -> vectorlog.Segment | None:
    """What encode left for the claim; None when there is nothing to be had and the claim is ended."""
    if claim.deliveries > MAX_DELIVERIES:
        give_up(services, claim, exhausted(claim))
        return None
    try:
        return vectorlog.read_segment(services.blobs, claim.payload)
    except KeyError:
        error = ItemError("index_error", "The collection was deleted while the picture was on its way.")
        give_up(services, claim, error)
    except NewerFormat as newer:
        postpone(services.ledger, [claim], newer)
    return None


def _write_group(
    services: Services, collection: str, claimed: list[tuple[Claim, vectorlog.Segment]], token: str
) -> list[list[Result]]:
    """What became of the additions of each claim."""
    arrivals = [
        Arrival(claim, addition, vector, segment)
        for claim, segment in claimed
        for addition, vector in zip(segment.additions, segment.vectors, strict=True)
    ]
    store = reindex.store if claimed[0][0].kind is JobKind.REINDEX else _store
    outcomes = store(services, collection, arrivals, token) if arrivals else []
    results = zip((arrival.addition for arrival in arrivals), outcomes, strict=True)
    return [list(islice(results, len(segment.additions))) for _, segment in claimed]


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
    images = [arrival.addition.image for arrival in arrivals]
    ids = list(dict.fromkeys(image.id for image in images))
    draft = Draft(
        collection,
        ids=ids,
        keys=(key for image in images for key in image.keys),
        removals=services.ledger.removals(name, ids),
    )
    outcomes = _fill(draft, collection, arrivals)
    refused, gone = draft.save(lambda: services.ledger.check_writer(token))
    # Fetch has written files of all of them, also of those that were replaced before they came here.
    there = [image_id for image_id in ids if draft.picture(image_id) is not None]
    discard(services, name, list(dict.fromkeys([*gone, *(set(ids) - set(there))])))
    restore(services, name, there)
    # A near-duplicate of what was refused was left out for nothing: it fails with it, and can be retried.
    written = [
        one.image_id if isinstance(one, NearDuplicate) else image.id
        for image, one in zip(images, outcomes, strict=True)
    ]
    return [refused.get(image_id, outcome) for image_id, outcome in zip(written, outcomes, strict=True)]


def _fill(draft: Draft, collection: Collection, arrivals: list[Arrival]) -> list[Outcome]:
    """Adds the arrivals to `draft`, but for new pictures that are to be left out; each one's outcome.

    In the order of the items, so that what one of them replaces at once is never written.
    """
    asking = [a for a in arrivals if a.addition.skip_near and draft.picture(a.addition.image.id) is None]
    near = NearDuplicates(collection, [(a.addition.image, a.vector) for a in asking], len(arrivals))
    outcomes: dict[int, Outcome] = {}
    for place, arrival in sorted(enumerate(arrivals), key=lambda one: one[1].addition.version):
        addition, image = arrival.addition, arrival.addition.image
        new = draft.picture(image.id) is None and not draft.is_removed(image.id, addition.version)
        if new and addition.skip_near and (repeated := near.of(image, arrival.vector)):
            outcomes[place] = repeated
            continue
        outcomes[place] = draft.add(image, addition.owner, addition.version, arrival.vector)
        if new and draft.picture(image.id) is not None:
            near.add(image, arrival.vector)
    return [outcomes[place] for place in range(len(arrivals))]


def _advance_all(services: Services, claims: Sequence[Claim], results: Sequence[list[Result]]) -> None:
    with giving_back(services.ledger, claims):
        for claim, of_claim in zip(claims, results, strict=True):
            _advance(services, claim, of_claim)


def _advance(services: Services, claim: Claim, results: list[Result]) -> None:
    failed = [(a, str(outcome)) for a, outcome in results if _state(outcome) is ItemState.FAILED]
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


def _image_ids(results: list[Result]) -> list[ItemResult]:
    """Which picture stands for each item that might have been left out."""
    ids = [(a, o.image_id if isinstance(o, NearDuplicate) else a.image.id) for a, o in results if a.skip_near]
    return [ItemResult(a.index, a.image.source, a.attempts, image_id=image_id) for a, image_id in ids]


def _state(outcome: Outcome) -> ItemState:
    if isinstance(outcome, NearDuplicate):
        return ItemState.DUPLICATE
    return outcome if isinstance(outcome, ItemState) else ItemState.FAILED
