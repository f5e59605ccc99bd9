"""The encode stage: one chunk's crops through CLIP, into the vector log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shared.embedding import tagging
from shared.embedding.encoder import Encoder
from shared.errors import ItemError, LedgerUnavailable
from shared.ledger.ledger import Ledger
from shared.models import Claim, ItemResult, ItemState, JobError, Stage
from shared.services import Services
from shared.storage import vector_log
from shared.storage.arrays import unpack
from shared.storage.manifest import write_results
from worker.recovery.isolation import run_isolated
from worker.recovery.lease import SUSPICIOUS_DELIVERIES

ISOLATED_TIMEOUT_S = 120  # of a suspicious batch; the throwaway process loads the model first

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]
Failures = list[tuple[vector_log.Addition, ItemError]]


class EncoderClock:
    """What one process's encoder does with its time, for the metrics; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._free_since = clock()

    @contextmanager
    def busy(self, ledger: Ledger, claim: Claim) -> Iterator[None]:
        """The block computes; since the encoder was free and the chunk there, it stood until now."""
        begun = self._clock()
        stalled = begun - max(self._free_since, claim.arrived)
        try:
            yield
        finally:
            self._free_since = self._clock()
            with suppress(LedgerUnavailable):
                ledger.add_encoder_seconds(busy=self._free_since - begun, stalled=stalled)


def run(services: Services, encoder: Encoder, claim: Claim, clock: EncoderClock) -> None:
    """Encodes a claimed chunk and advances it; a crop that cannot be encoded fails alone."""
    header, records, pixels = unpack(services.blobs.get(claim.payload))
    additions = [vector_log.Addition.from_record(record) for record in records]
    if pixels.shape[1:3] != encoder.preprocess.crop_shape:
        detail = "The fetch and encode workers run different models; give them the same IMAGE_SEARCH_MODEL."
        _advance(services, claim, [(addition, ItemError("encode_error", detail)) for addition in additions])
        return
    with clock.busy(services.ledger, claim):
        rows = encode_halving(_encode_of(encoder, claim), pixels)
    pairs = list(zip(additions, rows, strict=True))
    sound = [(addition, row) for addition, row in pairs if not isinstance(row, ItemError)]
    vectors = np.stack([row for _, row in sound]) if sound else np.empty((0, encoder.dimension), np.float32)
    images = tagging.describe(encoder, services.settings, [addition.image for addition, _ in sound], vectors)
    segment = vector_log.Segment(
        version=header["version"],
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        additions=[
            replace(addition, image=image) for (addition, _), image in zip(sound, images, strict=True)
        ],
        vectors=vectors,
    )
    name = f"{claim.chunk.ref.replace(':', '.')}.{claim.token}"
    key = vector_log.write_segment(services.blobs, claim.collection, name, segment)
    _advance(services, claim, [(a, row) for a, row in pairs if isinstance(row, ItemError)], key)


def _encode_of(encoder: Encoder, claim: Claim) -> Callable[[Pixels], Vectors]:
    """How to encode this chunk: one that keeps losing its worker goes through throwaway processes."""
    if claim.deliveries < SUSPICIOUS_DELIVERIES:
        return encoder.encode_images

    def encode(pixels: Pixels) -> Vectors:
        options = (encoder.name, encoder.device, encoder.precision, encoder.batch_size)
        vectors: Vectors = run_isolated(_encode_alone, *options, pixels, timeout_s=ISOLATED_TIMEOUT_S)
        return vectors

    return encode


def _encode_alone(model: str, device: str, precision: str, batch_size: int, pixels: Pixels) -> Vectors:
    encoder = Encoder.load(model, device=device, precision=precision, batch_size=batch_size)
    return encoder.encode_images(pixels)


def encode_halving(encode: Callable[[Pixels], Vectors], pixels: Pixels) -> list[Vectors | ItemError]:
    """A vector (dimension,) of each crop, or why it has none: what fails as a batch is tried in halves."""
    try:
        return list(encode(pixels))
    except ItemError as error:
        if len(pixels) == 1:
            return [error]
    middle = len(pixels) // 2
    return encode_halving(encode, pixels[:middle]) + encode_halving(encode, pixels[middle:])


def _advance(services: Services, claim: Claim, failed: Failures, segment_key: str = "") -> None:
    """Advances the chunk: `failed` fail, the rest goes on to index in `segment_key`."""
    results = [
        ItemResult(a.index, a.image.source, a.attempts, code=e.code, detail=e.detail) for a, e in failed
    ]
    write_results(services.blobs, claim.chunk, Stage.ENCODE, claim.token, results)
    moved = services.ledger.advance(
        claim,
        moves=[(addition.index, ItemState.FAILED) for addition, _ in failed],
        errors=[JobError(a.index, a.image.source, e.code, e.detail) for a, e in failed],
        next_stage=Stage.INDEX if segment_key else None,
        payload=segment_key,
    )
    if moved:
        services.blobs.delete(claim.payload)
        if segment_key:
            services.dispatcher.send(Stage.INDEX, claim.chunk)
    elif segment_key:
        services.blobs.delete(segment_key)
