"""How a chunk of a job that moves a collection leaves the fetch stage."""

from collections.abc import Mapping

from shared.errors import ItemError
from shared.models import Claim, ItemResult, ItemState, JobError, Stage
from shared.services import Services
from shared.storage.manifest import write_results


def advance(
    services: Services,
    claim: Claim,
    *,
    sources: Mapping[int, str],
    done: Mapping[int, tuple[str, ItemState]],
    failed: Mapping[int, ItemError],
    next_stage: Stage | None = None,
    payload: str = "",
) -> None:
    """Moves a claim's items, by index: `sources` name them, `done` have an image's id and what they are now.

    The chunk goes on to `next_stage` with the blob `payload`, which is deleted if the lease was lost.
    """
    attempts = claim.chunk.attempt + 1
    results = [ItemResult(i, sources[i], attempts, image_id=image_id) for i, (image_id, _) in done.items()]
    results += [ItemResult(i, sources[i], attempts, code=e.code, detail=e.detail) for i, e in failed.items()]
    write_results(services.blobs, claim.chunk, Stage.FETCH, claim.token, results)
    moved = services.ledger.advance(
        claim,
        moves=[*((i, state) for i, (_, state) in done.items()), *((i, ItemState.FAILED) for i in failed)],
        errors=[JobError(i, sources[i], e.code, e.detail) for i, e in failed.items()],
        next_stage=next_stage,
        payload=payload,
    )
    if next_stage is not None and moved:
        services.dispatcher.send(next_stage, claim.chunk)
    elif next_stage is not None:
        services.blobs.delete(payload)
