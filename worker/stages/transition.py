"""How a chunk leaves a stage. Every claim that is not released ends here, in one order.

Results are written, then the ledger advances, then the next stage is sent its message: a crash in between
leaves a chunk that is delivered again, and results that say the same.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from shared.errors import ItemError
from shared.index.index import POINTER_TTL_SECONDS
from shared.ledger.ledger import BEGIN, FINAL
from shared.metrics.definitions import CHUNKS, LEASES_LOST, WRITER_LAG
from shared.models import Claim, ItemResult, ItemState, JobError, JobKind, JsonObject, Stage
from shared.services import Services
from shared.storage.manifest import read_results, write_results
from shared.tracing import tracing

SWITCH_SECONDS = POINTER_TTL_SECONDS + 0.5  # as Index.wait_for_pointers


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item at a stage: its `state`, and its image's id or the error that failed it."""

    index: int
    source: str
    state: ItemState = ItemState.FAILED
    image_id: str | None = None
    error: ItemError | None = None


class Options(TypedDict, total=False):
    """The options of Ledger.advance that only some stages need."""

    retry_delay_s: float | None
    waiting: tuple[int, int, int] | None
    hold_s: float
    result: JsonObject
    complete: bool


# After a switch: not before every process fetches for the new model, so that each such attempt takes another
# switch, and counts as none of the tries that a picture's host has.
AGAIN: Options = {"retry_delay_s": SWITCH_SECONDS, "hold_s": SWITCH_SECONDS}


def end_chunk(
    services: Services,
    claim: Claim,
    outcomes: Sequence[Outcome],
    *,
    next_stage: Stage | None = None,
    payload: str = "",
    **options: Unpack[Options],
) -> bool:
    """End a claim: its chunk goes on to `next_stage` with the blob `payload`.

    `options` are those of Ledger.advance. Returns False, and deletes `payload`, when the lease was lost or
    the job cancelled.
    """
    chunk, attempts = claim.chunk, claim.chunk.attempt + 1
    failed = [(one, one.error) for one in outcomes if one.error is not None]
    results = [ItemResult(one.index, one.source, attempts, one.image_id) for one in outcomes if one.image_id]
    results += [ItemResult(o.index, o.source, attempts, code=e.code, detail=e.detail) for o, e in failed]
    write_results(services.blobs, chunk, claim.stage, claim.token, results)
    moved = services.ledger.advance(
        claim,
        transitions=[(one.index, one.state) for one in outcomes],
        errors=[JobError(one.index, one.source, error.code, error.detail) for one, error in failed],
        transient=[one.index for one, error in failed if error.transient],
        next_stage=next_stage,
        payload=payload,
        **options,
    )
    (CHUNKS if moved else LEASES_LOST).labels(claim.stage).inc()
    if moved and claim.stage is Stage.INDEX:
        WRITER_LAG.observe(time.monotonic() - claim.arrived)
    if moved and next_stage is not None:
        services.dispatcher.send(next_stage, chunk)
    elif not moved and payload:
        services.blobs.delete(payload)
    return moved


def fail_chunk(services: Services, claim: Claim, error: ItemError, *, stops: bool = False) -> None:
    """Fail the items that the claim still holds, and none that another attempt of its chunk works on.

    With `stops` the reason becomes the job's result: no further chunk of it need be tried.
    """
    tracing.current().fail(error.code)  # its sentence may name a picture
    # The chunk before or beyond the items, such as a reindex's switch, has none that could say why.
    result: JsonObject = {"detail": error.detail} if stops or claim.payload in (BEGIN, FINAL) else {}
    if result and claim.kind is JobKind.REINDEX:
        result["switched"] = False
    lost = _held(services, claim)
    end_chunk(services, claim, [Outcome(i, "", error=error) for i in lost], result=result)


def fetch_again(services: Services, claim: Claim) -> None:
    """Have the items that the claim still holds fetched again, as its chunk's next attempt."""
    again = [Outcome(i, "", ItemState.PENDING) for i in _held(services, claim)]
    end_chunk(services, claim, again, **AGAIN)


def _held(services: Services, claim: Claim) -> list[int]:
    ledger, chunk, attempt = services.ledger, claim.chunk, claim.chunk.attempt + 1
    states, _ = ledger.items(chunk.job_id, None, claim.first_item, claim.last_item - claim.first_item)
    if claim.stage is Stage.FETCH:
        return [i for i, state in states if state is ItemState.PENDING]
    if claim.kind in (JobKind.UPDATE, JobKind.DELETE):  # whose chunks have one attempt each
        return [i for i, state in states if state is ItemState.FETCHED]
    size = ledger.get(chunk.job_id).chunk_size
    results = read_results(services.blobs, chunk.job_id, size, claim.first_item, claim.last_item)
    carried = {i for i, result in results.items() if result.attempts == attempt}
    return [i for i, state in states if state is ItemState.FETCHED and i in carried]
