"""What a text's vector owes to the texts that it is computed with: nothing, and what it gains is time."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.random_checkpoint import Shape
from shared.embedding.encoder import Encoder
from shared.embedding.towers import TEXTS_AT_ONCE
from shared.errors import ItemError, Unavailable
from tests.checkpoints import tiny_checkpoint
from tests.stack import eventually

WORDS = ["cat", "red", "猫", "motorcycle", "ÜNÏCÖDE", "x" * 30, "🐈", "two  spaces"]
SHAPES: tuple[Shape, ...] = (
    "tiny",
    "tiny metaclip_2",
    "tiny siglip",
    "tiny siglip 2",
    "tiny chinese_clip",
    "tiny altclip",
)


def load(folder: Path, precision: str = "fp32") -> Encoder:
    return Encoder.load(str(folder), device="cpu", precision=precision)


def held(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> tuple[Any, list[int]]:
    """What lets the encoder go on, which computes a text now, and how many texts it computes each time."""
    free, sizes, features = threading.Event(), list[int](), encoder.towers.text_features

    def watched(texts: Any) -> Any:
        sizes.append(len(texts))
        assert free.wait(30)
        return features(texts)

    monkeypatch.setattr(encoder.towers, "text_features", watched)
    pool.submit(encoder.encode_texts, ["busy"])
    eventually(lambda: sizes == [1])
    return free, sizes


def waiting(encoder: Encoder, count: int) -> None:
    eventually(lambda: len(encoder._turns._waiting) == count)  # no other way to see who waits


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_texts_vector_is_the_same_whatever_it_is_computed_with(
    tmp_path: Path, shape: Shape, precision: str
) -> None:
    tiny_checkpoint(tmp_path / "model", shape=shape, spread=4.0)
    encoder = load(tmp_path / "model", precision)
    encoder.warm()
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(0, 6))) for _ in range(60)]
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    for count in (2, 3, 7, 16, 41):
        some = rng.sample(range(len(texts)), count)
        np.testing.assert_array_equal(encoder.encode_texts([texts[one] for one in some]), alone[some])


def test_texts_of_threads_that_wait_are_computed_together(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny, "bf16")
    texts = [f"a photo {number}" for number in range(20)]
    expected = [encoder.encode_texts([text]) for text in texts]
    with ThreadPoolExecutor(30) as pool:
        free, sizes = held(encoder, monkeypatch, pool)
        found = [pool.submit(encoder.encode_texts, [text]) for text in texts]
        waiting(encoder, len(texts))
        free.set()
        np.testing.assert_array_equal([one.result(30) for one in found], expected)
    assert sizes == [1, TEXTS_AT_ONCE, len(texts) - TEXTS_AT_ONCE]


def test_a_text_without_a_finite_vector_fails_alone(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(tiny)
    expected, poison = encoder.encode_texts(["cat 1"]), encoder.towers.tokens(["cat 3"])[0]
    with ThreadPoolExecutor(10) as pool:
        free, _ = held(encoder, monkeypatch, pool)
        features = encoder.towers.text_features

        def poisoned(texts: Any) -> Any:
            found = features(texts).clone()
            found[[one for one, text in enumerate(texts) if text == poison]] = float("nan")
            return found

        monkeypatch.setattr(encoder.towers, "text_features", poisoned)
        found = [pool.submit(encoder.encode_texts, [f"cat {number}"]) for number in range(1, 6)]
        waiting(encoder, 5)
        free.set()
        with pytest.raises(ItemError):
            found.pop(2).result(30)
        np.testing.assert_array_equal(found[0].result(30), expected)
        assert all(np.isfinite(one.result(30)).all() for one in found)


def test_texts_without_memory_fail_and_those_behind_them_do_not(
    tiny: Path, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny)
    with ThreadPoolExecutor(10) as pool:
        free, _ = held(encoder, monkeypatch, pool)
        features = encoder.towers.text_features

        def scarce(texts: Any) -> Any:
            if len(texts) > 2 or len(texts[0]) > 40:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return features(texts)

        monkeypatch.setattr(encoder.towers, "text_features", scarce)
        long, *short = [pool.submit(encoder.encode_texts, [text]) for text in ("x" * 60, "a", "b", "c", "d")]
        waiting(encoder, 5)
        free.set()
        with pytest.raises(Unavailable):
            long.result(30)
        assert all(np.isfinite(one.result(30)).all() for one in short)


def test_pictures_and_windows_of_threads_are_computed_together_and_apart_from_each_other(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny, "bf16")
    crops = np.random.default_rng(0).integers(0, 256, (8, 1, 32, 32, 3), np.uint8)
    images, patches = encoder.encode_images(crops[:, 0]), encoder.encode_patches(crops[:, 0])
    with ThreadPoolExecutor(20) as pool:
        free, sizes = held(encoder, monkeypatch, pool)
        whole = [pool.submit(encoder.encode_images, crop) for crop in crops]
        parts = [pool.submit(encoder.encode_patches, crop) for crop in crops]
        waiting(encoder, 16)
        free.set()
        np.testing.assert_array_equal(np.concatenate([one.result(30) for one in whole]), images)
        np.testing.assert_array_equal(np.concatenate([one.result(30) for one in parts]), patches)
    assert sizes == [1]


def test_where_vectors_depend_on_the_batch_texts_are_computed_alone(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny)
    features, sizes = encoder.towers.text_features, list[int]()

    def rounding(texts: Any) -> Any:
        sizes.append(len(texts))
        return features(texts) * (1 + 1e-5 * (len(texts) > 1)) + 1e-4 * (len(texts) > 1)

    monkeypatch.setattr(encoder.towers, "text_features", rounding)
    encoder.warm()
    sizes.clear()
    texts = ["cat", "dog", "emu"]
    together = encoder.encode_texts(texts)
    assert sizes == [1, 1, 1]
    np.testing.assert_array_equal(together, np.concatenate([encoder.encode_texts([text]) for text in texts]))


def test_on_a_device_that_sums_by_the_number_of_rows_batches_have_one_size(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny)
    expected, asked = encoder.encode_texts(["cat", "dog"]), list[int]()
    features = encoder.towers.model.get_text_features

    def watched(**inputs: Any) -> Any:
        asked.append(len(inputs["input_ids"]))
        return features(**{name: value.to("cpu") for name, value in inputs.items()})

    monkeypatch.setattr(encoder.towers.model, "get_text_features", watched)
    monkeypatch.setattr(encoder.towers, "device", "meta")
    monkeypatch.setattr("transformers.BatchEncoding.to", lambda self, device: self)
    np.testing.assert_allclose(encoder.encode_texts(["cat", "dog"]), expected, atol=1e-6)
    assert asked == [TEXTS_AT_ONCE]
