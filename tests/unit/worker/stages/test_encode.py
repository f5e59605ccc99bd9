"""The encode stage, on a stub encoder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.embedding.encoder import Encoder
from shared.errors import ItemError
from shared.imaging.isolation import run_isolated
from shared.models import Claim, ItemState, Stage
from shared.storage import vector_log
from shared.storage.arrays import pack
from shared.storage.manifest import read_results
from shared.storage.vector_log import Addition
from tests.unit.counted import Counted
from tests.unit.fakes import PREPROCESS
from tests.unit.stages import DIMENSION, FINGERPRINT, StubServices, image, make_services
from worker.encoders import EncoderClock, Encoders
from worker.stages import encode as encode_stage
from worker.stages.encode import run

FETCHED, FAILED = ItemState.FETCHED, ItemState.FAILED


class StubPreprocess:
    crop_shape = (2, 2)


class StubEncoder:
    """A crop of 255 has no finite embedding: a call with one fails whole, as Encoder's does."""

    name, fingerprint, dimension = "stub", FINGERPRINT, DIMENSION
    preprocess = StubPreprocess()
    logit_scale = 100.0
    logit_bias: float | None = None
    knows_english = True

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """`cat` is like a crop of 0; everything else is like nothing in particular."""
        middle = np.full(DIMENSION, DIMENSION**-0.5, np.float32)
        return np.stack(
            [np.eye(DIMENSION, dtype=np.float32)[0] if "cat" in text else middle for text in texts]
        )

    def encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if (pixels == 255).any():
            raise ItemError("encode_error", "not finite")
        return np.eye(DIMENSION, dtype=np.float32)[pixels[:, 0, 0, 0]]


ENCODER = cast(Encoder, StubEncoder())
ENCODERS = cast(Encoders, SimpleNamespace(of=lambda _: ENCODER))


@pytest.fixture
def services(tmp_path: Path) -> StubServices:
    return make_services(tmp_path)


@pytest.fixture
def encode_claim(services: StubServices) -> Callable[..., Claim]:
    """Fetches crops of these shades and claims the chunk for encode."""

    def make(*shades: int, side: int = 2, **header: object) -> Claim:
        job_id = services.job(len(shades))
        claim = services.claim()
        pixels = np.stack([np.full((side, side, 3), shade, np.uint8) for shade in shades])
        records = [
            Addition(i, 1, f"{job_id}:{i}", image(f"id{i}"), 7 + i).record() for i in range(len(shades))
        ]
        key = f"scratch/{job_id}/0.npz"
        services.blobs.put(key, pack({"version": 7, **header}, records, pixels))
        transitions = [(i, FETCHED) for i in range(len(shades))]
        services.ledger.advance(claim, transitions=transitions, next_stage=Stage.ENCODE, payload=key)
        return services.claim(Stage.ENCODE)

    return make


def segments(services: StubServices) -> list[vector_log.Segment]:
    return [vector_log.read_segment(services.blobs, key) for key in services.blobs.list("log/images/")]


def test_crops_of_a_reindex_from_before_they_said_their_model_are_for_that_of_the_job(
    services: StubServices, encode_claim: Callable[..., Claim]
) -> None:
    asked: list[dict[str, Any]] = []

    def of(header: dict[str, Any]) -> Encoder:
        asked.append(header)
        return ENCODER

    encoders = cast(Encoders, SimpleNamespace(of=of))
    options = {"model": "next", "fingerprint": "f2", "allow_missing": False}
    run(services.real, encoders, replace(encode_claim(0), options=options), EncoderClock())
    run(services.real, encoders, replace(encode_claim(1, model="m", fingerprint="f1")), EncoderClock())
    assert [(one["model"], one["fingerprint"]) for one in asked] == [("next", "f2"), ("m", "f1")]


def test_vectors_are_in_the_log_before_the_writer_is_woken(
    services: StubServices, encode_claim: Callable[..., Claim]
) -> None:
    claim = encode_claim(0, 2)
    run(services.real, ENCODERS, claim, EncoderClock())
    (segment,) = segments(services)
    assert (segment.version, segment.fingerprint, segment.model) == (7, FINGERPRINT, "stub")
    np.testing.assert_array_equal(segment.vectors, np.eye(DIMENSION)[[0, 2]])
    assert services.dispatcher.sent == [(Stage.INDEX, claim.chunk)]
    assert services.blobs.list("scratch/") == []
    assert services.claim(Stage.INDEX).payload == services.blobs.list("log/images/")[0]


def test_what_is_encoded_has_its_tags_and_nsfw_in_the_log(
    services: StubServices, encode_claim: Callable[..., Claim]
) -> None:
    run(services.real, ENCODERS, encode_claim(0, 255, 2), EncoderClock())
    (segment,) = segments(services)
    assert [addition.image.id for addition in segment.additions] == ["id0", "id2"]
    assert [addition.image.tags for addition in segment.additions] == [["cat"], []]
    assert all(0 <= (addition.image.nsfw or -1) <= 1 for addition in segment.additions)


def test_a_crop_without_a_finite_embedding_fails_alone(
    services: StubServices, encode_claim: Callable[..., Claim]
) -> None:
    claim = encode_claim(1, 255, 3)
    run(services.real, ENCODERS, claim, EncoderClock())
    (segment,) = segments(services)
    assert [addition.index for addition in segment.additions] == [0, 2]
    np.testing.assert_array_equal(segment.vectors, np.eye(DIMENSION)[[1, 3]])
    assert services.states(claim.chunk.job_id) == [FETCHED, FAILED, FETCHED]
    assert read_results(services.blobs, claim.chunk.job_id, 4, 1, 2)[1].code == "encode_error"


def test_a_chunk_of_nothing_sound_ends_without_vectors(
    services: StubServices, encode_claim: Callable[..., Claim]
) -> None:
    claim = encode_claim(255, 255)
    run(services.real, ENCODERS, claim, EncoderClock())
    assert services.states(claim.chunk.job_id) == [FAILED, FAILED]


def test_crops_of_another_model_s_size_fail_with_what_to_do(
    services: StubServices, encode_claim: Callable[..., Claim]
) -> None:
    claim = encode_claim(0, side=3)
    run(services.real, ENCODERS, claim, EncoderClock())
    (error,) = services.ledger.get(claim.chunk.job_id).errors
    assert "different files of stub" in error.detail
    assert services.blobs.list("scratch/") == []


def test_crops_of_the_right_size_that_were_prepared_otherwise_fail_too(
    services: StubServices, encode_claim: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a fetch worker with another commit of the model spoils what the fingerprint vouches for."""
    monkeypatch.setattr(StubEncoder, "preprocess", replace(PREPROCESS, crop_size=(2, 2)))
    cases: list[tuple[int, list[str]]] = [(PREPROCESS.resample, []), (0, ["different files of stub"])]
    for resample, errors in cases:
        prepared = json.loads(json.dumps(replace(PREPROCESS, crop_size=(2, 2), resample=resample).to_json()))
        claim = encode_claim(0, preprocess=prepared)
        run(services.real, ENCODERS, claim, EncoderClock())
        told = [one.detail for one in services.ledger.get(claim.chunk.job_id).errors]
        assert [part for part in errors if part in told[0]] == errors
        assert len(told) == len(errors)


def test_the_work_of_a_lost_lease_is_thrown_away(
    services: StubServices, encode_claim: Callable[..., Claim]
) -> None:
    claim = encode_claim(0)
    services.ledger.release([claim], -1.0, count_delivery=True)
    services.ledger.sweep()
    other: Any = services.claim(Stage.ENCODE)
    run(services.real, ENCODERS, claim, EncoderClock())
    assert segments(services) == []
    assert services.blobs.exists(other.payload), "the other worker still needs it"
    run(services.real, ENCODERS, other, EncoderClock())
    assert len(segments(services)) == 1


def test_a_chunk_that_keeps_losing_its_worker_is_halved_in_throwaway_processes(
    services: StubServices, encode_claim: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def isolated(_function: object, *arguments: Any, timeout_s: int) -> NDArray[np.float32]:
        pixels = arguments[-1]
        batches.append(len(pixels))
        if (pixels == 3).any():
            raise ItemError("internal", "crashed")
        return ENCODER.encode_images(pixels)

    monkeypatch.setattr(encode_stage, "run_isolated", isolated)
    monkeypatch.setattr(StubEncoder, "device", "cpu", raising=False)
    monkeypatch.setattr(StubEncoder, "precision", "fp32", raising=False)
    monkeypatch.setattr(StubEncoder, "batch_size", 8, raising=False)
    claim = replace(encode_claim(0, 1, 2, 3), deliveries=3)
    run(services.real, ENCODERS, claim, EncoderClock())
    assert batches == [4, 2, 2, 1, 1]
    job = services.ledger.get(claim.chunk.job_id)
    assert job.counts[FETCHED] == 3
    assert [(error.index, error.code) for error in job.errors] == [(3, "internal")]


def test_a_throwaway_process_gives_the_vectors_that_the_worker_would(tiny: Path) -> None:
    encoder = Encoder.load(str(tiny), device="cpu", precision="fp32")
    crops = np.random.default_rng(0).integers(0, 256, (3, *encoder.preprocess.crop_shape, 3), dtype=np.uint8)
    options = (encoder.name, encoder.device, encoder.precision, encoder.batch_size)
    alone = run_isolated(encode_stage._encode_alone, *options, crops, timeout_s=120)
    np.testing.assert_allclose(alone, encoder.encode_images(crops), atol=1e-5)


def test_the_metrics_say_how_long_the_encoder_computed_and_how_long_it_stood_while_a_chunk_waited(
    services: StubServices, encode_claim: Callable[..., Claim]
) -> None:
    moments = iter([100.0, 110.0, 114.0, 115.0, 117.0])
    clock = EncoderClock(lambda: next(moments))
    run(services.real, ENCODERS, replace(encode_claim(0), arrived=104.0), clock)  # waits until 110
    run(services.real, ENCODERS, replace(encode_claim(1), arrived=108.0), clock)  # waits since 114, until 115
    totals = services.ledger.workers.totals()
    assert totals["encoder_stalled_seconds"] == pytest.approx(6 + 1)
    assert totals["encoder_busy_seconds"] == pytest.approx(4 + 2)


def test_a_chunk_that_is_encoded_is_counted_with_its_pictures(
    services: StubServices, encode_claim: Callable[..., Claim]
) -> None:
    counted = Counted()
    run(services.real, ENCODERS, encode_claim(0, 255, 1), EncoderClock())
    assert counted("encode_seconds_count") == 1
    assert counted("encode_batch_images_sum") == 3
    assert counted("chunks_total", stage="encode") == 1
