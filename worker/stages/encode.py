"""The encode stage: one chunk's crops through the image tower, into the vector log."""

from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shared.embedding import tagging
from shared.embedding.encoder import Encoder
from shared.errors import ItemError
from shared.imaging.isolation import run_isolated
from shared.imaging.preprocess import Preprocess
from shared.metrics.definitions import ENCODE_BATCH, ENCODE_SECONDS
from shared.models import Claim, JsonObject, Stage
from shared.services import Services
from shared.storage import vector_log
from shared.storage.arrays import unpack
from worker.encoders import EncoderClock, Encoders
from worker.recovery.lease import SUSPICIOUS_DELIVERIES
from worker.stages.transition import Outcome, end_chunk

ISOLATED_TIMEOUT_SECONDS = 120  # of a suspicious batch; the throwaway process loads the model first

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]
Failures = list[tuple[vector_log.Addition, ItemError]]


def run(services: Services, encoders: Encoders, claim: Claim, clock: EncoderClock) -> None:
    """Encode a claimed chunk and advance it; a crop that cannot be encoded fails alone.

    Raises as Encoders.of does.
    """
    header, records, pixels = unpack(services.blobs.get(claim.payload))
    # In crops from before they said their model, a reindex's job does.
    encoder: Encoder = encoders.of({**claim.options, **header})
    additions = [vector_log.Addition.from_record(record) for record in records]
    rows: Sequence[Vectors | ItemError]
    if _fits(encoder, header, pixels):
        ENCODE_BATCH.observe(len(pixels))
        with clock.busy(services.ledger, claim), ENCODE_SECONDS.time():
            rows = encode_halving(_encode_of(encoder, claim), pixels)
    else:
        detail = f"The fetch and encode workers have different files of {encoder.name}; give them the same."
        rows = [ItemError("encode_error", detail)] * len(additions)
    pairs = list(zip(additions, rows, strict=True))
    segment = _with_known(_segment(services, encoder, header["version"], pairs), header)
    failed = [(addition, row) for addition, row in pairs if isinstance(row, ItemError)]
    key = ""
    if segment.additions:
        key = vector_log.write_segment(services.blobs, claim.collection, vector_log.name_of(claim), segment)
    _end(services, claim, failed, key)


def _fits(encoder: Encoder, header: JsonObject, pixels: Pixels) -> bool:
    """Return whether the crops were prepared as this encoder wants them."""
    prepared = header.get("preprocess")
    return pixels.shape[1:3] == encoder.preprocess.crop_shape and (
        prepared is None or Preprocess.from_json(prepared) == encoder.preprocess
    )


def _segment(
    services: Services,
    encoder: Encoder,
    version: int,
    pairs: Sequence[tuple[vector_log.Addition, Vectors | ItemError]],
) -> vector_log.Segment:
    sound = [(addition, row) for addition, row in pairs if not isinstance(row, ItemError)]
    vectors = np.stack([row for _, row in sound]) if sound else np.empty((0, encoder.dimension), np.float32)
    images = tagging.describe(encoder, services.settings, [addition.image for addition, _ in sound], vectors)
    additions = [replace(addition, image=image) for (addition, _), image in zip(sound, images, strict=True)]
    return vector_log.Segment(version, encoder.name, encoder.fingerprint, additions, vectors)


def _with_known(segment: vector_log.Segment, header: JsonObject) -> vector_log.Segment:
    """Return the segment with what fetch found in the collection, and so sent no crops of."""
    if "known" not in header:
        return segment
    known = vector_log.unpacked(b64decode(header["known"]))
    return replace(
        segment,
        version=min(segment.version, known.version),
        additions=[*segment.additions, *known.additions],
        vectors=np.concatenate([segment.vectors, known.vectors]),
    )


def _encode_of(encoder: Encoder, claim: Claim) -> Callable[[Pixels], Vectors]:
    """Return how to encode this chunk: one that keeps losing its worker goes through throwaway processes."""
    if claim.deliveries < SUSPICIOUS_DELIVERIES:
        return encoder.encode_images

    def encode(pixels: Pixels) -> Vectors:
        options = (encoder.name, encoder.device, encoder.precision, encoder.batch_size)
        vectors: Vectors = run_isolated(_encode_alone, *options, pixels, timeout_s=ISOLATED_TIMEOUT_SECONDS)
        return vectors

    return encode


def _encode_alone(model: str, device: str, precision: str, batch_size: int, pixels: Pixels) -> Vectors:
    encoder = Encoder.load(model, device=device, precision=precision, batch_size=batch_size)
    return encoder.encode_images(pixels)


def encode_halving(encode: Callable[[Pixels], Vectors], pixels: Pixels) -> list[Vectors | ItemError]:
    """Return each crop's vector (dimension,), or why it has none: a batch that fails is tried in halves."""
    try:
        return list(encode(pixels))
    except ItemError as error:
        if len(pixels) == 1:
            return [error]
    middle = len(pixels) // 2
    return encode_halving(encode, pixels[:middle]) + encode_halving(encode, pixels[middle:])


def _end(services: Services, claim: Claim, failed: Failures, segment_key: str = "") -> None:
    """End the claim: `failed` fail, the rest goes on to index in `segment_key`."""
    outcomes = [Outcome(a.index, a.image.source, error=error) for a, error in failed]
    stage = Stage.INDEX if segment_key else None
    if end_chunk(services, claim, outcomes, next_stage=stage, payload=segment_key):
        services.blobs.delete(claim.payload)
