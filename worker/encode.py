"""The encode stage: one chunk's crops through CLIP, into the vector log."""

import numpy as np
from numpy.typing import NDArray

from shared import vectorlog
from shared.arrays import unpack
from shared.encoder import Encoder
from shared.errors import ItemError
from shared.manifest import write_results
from shared.models import Claim, ItemResult, ItemState, JobError, Stage
from shared.services import Services


def run(services: Services, encoder: Encoder, claim: Claim) -> None:
    """Encodes a claimed chunk and advances it; a crop that cannot be encoded fails alone."""
    header, records, pixels = unpack(services.blobs.get(claim.payload))
    additions = [vectorlog.Addition.from_record(record) for record in records]
    if pixels.shape[1:3] != encoder.preprocess.crop_shape:
        detail = "The fetch and encode workers run different models; give them the same IMAGE_SEARCH_MODEL."
        _advance(services, claim, additions, ItemError("encode_error", detail))
        return
    vectors, sound = _encode(encoder, pixels)
    segment = vectorlog.Segment(
        version=header["version"],
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        additions=[addition for addition, good in zip(additions, sound, strict=True) if good],
        vectors=vectors,
    )
    broken = [addition for addition, good in zip(additions, sound, strict=True) if not good]
    name = f"{claim.chunk.ref.replace(':', '.')}.{claim.token}"
    key = vectorlog.write_segment(services.blobs, claim.collection, name, segment)
    _advance(services, claim, broken, ItemError("encode_error", "The model gave no finite embedding."), key)


def _encode(encoder: Encoder, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[bool]]:
    """The vectors of the crops that have one, and which those are."""
    try:
        return encoder.encode_images(pixels), [True] * len(pixels)
    except ItemError:
        rows = [_encode_alone(encoder, crop) for crop in pixels]
    found = [row for row in rows if row is not None]
    vectors = np.concatenate(found) if found else np.empty((0, encoder.dimension), np.float32)
    return vectors, [row is not None for row in rows]


def _encode_alone(encoder: Encoder, crop: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    try:
        return encoder.encode_images(crop[None])
    except ItemError:
        return None


def _advance(
    services: Services,
    claim: Claim,
    failed: list[vectorlog.Addition],
    error: ItemError,
    segment_key: str = "",
) -> None:
    """Advances the chunk: `failed` fail with `error`, the rest goes on to index in `segment_key`."""
    results = [
        ItemResult(a.index, a.image.source, a.attempts, code=error.code, detail=error.detail) for a in failed
    ]
    write_results(services.blobs, claim.chunk, Stage.ENCODE, claim.token, results)
    moved = services.ledger.advance(
        claim,
        moves=[(addition.index, ItemState.FAILED) for addition in failed],
        errors=[JobError(a.index, a.image.source, error.code, error.detail) for a in failed],
        next_stage=Stage.INDEX if segment_key else None,
        payload=segment_key,
    )
    if moved:
        services.blobs.delete(claim.payload)
        if segment_key:
            services.dispatcher.send(Stage.INDEX, claim.chunk)
    elif segment_key:
        services.blobs.delete(segment_key)
