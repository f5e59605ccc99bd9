"""Tags and the nsfw score by CLIP's own softmax, on texts whose vectors are plain to see."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.config import Settings
from shared.embedding.encoder import Encoder
from shared.embedding.tagging import EXPLICIT, MAX_TAGS, describe, prepare, read_vocabulary
from shared.errors import ConfigError
from shared.models import Image
from shared.storage import vector_log
from tests.unit.stages import image

Vectors = NDArray[np.float32]
AXES = {"cat": 0, "dog": 1, "house": 2, "sheep": 3, "horse": 3, "cow": 3, "goat": 3, "pig": 3, "naked": 4}
DIMENSION = 6  # the last axis is of all other texts


def axis(number: int) -> Vectors:
    row: Vectors = np.eye(DIMENSION, dtype=np.float32)[number]
    return row


class StubEncoder:
    def __init__(self, logit_scale: float = 20.0) -> None:
        self.logit_scale = logit_scale
        self.calls = 0

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vectors:
        if text in EXPLICIT:
            return axis(AXES["naked"])
        return axis(AXES.get(text.rpartition(" ")[2], DIMENSION - 1))


def settings(vocabulary: Path | None = None, **other: Any) -> Settings:
    return Settings(_env_file=None, tag_vocabulary=vocabulary, **other)


def vocabulary(folder: Path, *tags: str) -> Path:
    path = folder / "tags.txt"
    path.write_text("\n".join(tags), encoding="utf-8")
    return path


def described(encoder: StubEncoder, chosen: Settings, *vectors: Vectors) -> list[Image]:
    return describe(encoder, chosen, [image(str(n)) for n in range(len(vectors))], np.stack(vectors))


def test_a_picture_gets_the_words_that_it_is_like() -> None:
    both = (axis(0) + axis(2)) / np.float32(np.sqrt(2))
    cat, house_cat = described(StubEncoder(), settings(), axis(0), both)
    assert cat.tags == ["cat"]
    assert sorted(house_cat.tags) == ["cat", "house"]


def test_the_best_comes_first_and_there_are_at_most_five(tmp_path: Path) -> None:
    mixed = 0.9 * axis(3) + np.float32(0.43589) * axis(0)
    (found,) = described(StubEncoder(4.0), settings(tag_min_score=0.0), mixed)
    assert len(found.tags) == MAX_TAGS
    assert set(found.tags) == {"sheep", "horse", "cow", "goat", "pig"}
    only = settings(vocabulary(tmp_path, "cat", "dog", "sheep"), tag_min_score=0.0)
    assert described(StubEncoder(4.0), only, mixed)[0].tags == ["sheep", "cat", "dog"]


def test_of_the_user_s_few_words_none_is_assigned_to_what_is_none_of_them(tmp_path: Path) -> None:
    chosen = settings(vocabulary(tmp_path, "cat", "dog"))
    cat, house = described(StubEncoder(), chosen, axis(0), axis(2))
    assert (cat.tags, house.tags) == (["cat"], [])


def test_an_undecided_model_assigns_nothing() -> None:
    assert described(StubEncoder(0.0), settings(), axis(0))[0].tags == []


def test_the_threshold_is_the_user_s() -> None:
    weak = StubEncoder(5.0)
    (score,) = [np.exp(5.0) / (np.exp(5.0) + len(read_vocabulary(None)) - 1)]
    assert described(weak, settings(tag_min_score=score - 0.001), axis(0))[0].tags == ["cat"]
    assert described(weak, settings(tag_min_score=score + 0.001), axis(0))[0].tags == []


def test_nsfw_is_the_probability_of_the_explicit_prompts() -> None:
    explicit, harmless, neither = described(StubEncoder(), settings(), axis(4), axis(5), axis(0))
    assert explicit.nsfw == pytest.approx(1.0, abs=1e-3)
    assert harmless.nsfw == pytest.approx(0.0, abs=1e-3)
    assert neither.nsfw == pytest.approx(6 / 16, abs=1e-3)


def test_the_texts_are_encoded_once_a_process() -> None:
    encoder = StubEncoder()
    described(encoder, settings(), axis(0))
    calls = encoder.calls
    described(encoder, settings(), axis(1))
    assert encoder.calls == calls


def test_an_encoder_that_nobody_uses_any_more_is_freed(tiny: Path) -> None:
    encoder = Encoder.load(str(tiny), device="cpu", precision="fp32")
    prepare(encoder, settings())
    freed = ref(encoder)
    del encoder
    gc.collect()
    assert freed() is None


def test_nothing_to_describe_is_no_trouble(tiny: Path) -> None:
    encoder = Encoder.load(str(tiny), device="cpu", precision="fp32")
    assert describe(encoder, settings(), [], np.empty((0, encoder.dimension), np.float32)) == []


def test_a_checkpoint_s_own_logit_scale_is_used(tiny: Path) -> None:
    encoder = Encoder.load(str(tiny), device="cpu", precision="fp32")
    assert encoder.logit_scale == pytest.approx(np.exp(2.6592), rel=1e-3)
    vectors = encoder.encode_texts(["a photo of a cat", "x"])
    for one in describe(encoder, settings(tag_min_score=0.0), [image("a"), image("b")], vectors):
        assert len(set(one.tags)) == MAX_TAGS
        assert 0 <= (one.nsfw or -1) <= 1


def test_a_vocabulary_is_a_tag_a_line(tmp_path: Path) -> None:
    path = vocabulary(tmp_path, "# mine", "sneaker", "", "  high heels ", "sneaker", "Stöckelschuh")
    assert read_vocabulary(path) == ("sneaker", "high heels", "Stöckelschuh")
    assert read_vocabulary(vocabulary(tmp_path)) == ()
    assert described(StubEncoder(), settings(vocabulary(tmp_path)), axis(0))[0].tags == []


def test_the_built_in_vocabulary_is_everyday_nouns() -> None:
    built_in = read_vocabulary(None)
    assert len(built_in) >= 150
    assert {"cat", "car", "pizza", "mountain"} <= set(built_in)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"x" * 65, "64 characters"),
        ("\n".join(map(str, range(2001))).encode(), "2,001 tags"),
    ],
)
def test_a_vocabulary_that_is_none_is_one_line_that_names_the_setting(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "tags.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read_vocabulary(path)
    assert raised.value.detail.startswith("IMAGE_SEARCH_TAG_VOCABULARY: ")
    assert says in raised.value.detail
    assert "\n" not in raised.value.detail


def test_a_log_record_of_before_there_were_these_fields_still_reads() -> None:
    record = vector_log.Addition(0, 1, "j:0", image("a"), 1).record()
    for name in ("tags", "nsfw", "colors", "phash"):
        del record["image"][name]
    assert vector_log.Addition.from_record(record).image == image("a")
