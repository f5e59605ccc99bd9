"""Tags and the nsfw score by the model's own rule, on texts whose vectors are plain to see."""

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
from shared.embedding.tagging import (
    EXPLICIT,
    MAX_TAGS,
    TEMPLATES,
    caveat_of,
    describe,
    prepare,
    read_vocabulary,
)
from shared.errors import ConfigError
from shared.models import Image
from shared.storage import vector_log
from tests.checkpoints import tiny_checkpoint
from tests.unit.stages import image

Vectors = NDArray[np.float32]
AXES = {"cat": 0, "dog": 1, "house": 2, "sheep": 3, "horse": 3, "cow": 3, "goat": 3, "pig": 3, "naked": 4}
TEMPLATES_OF_CAT = [template.format("cat") for template in TEMPLATES]
DIMENSION = 6  # the last axis is of all other texts


def axis(number: int) -> Vectors:
    row: Vectors = np.eye(DIMENSION, dtype=np.float32)[number]
    return row


class StubEncoder:
    def __init__(
        self, logit_scale: float = 20.0, *, logit_bias: float | None = None, knows_english: bool = True
    ) -> None:
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias
        self.knows_english = knows_english
        self.calls = 0

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        return np.array([self._vector(text) for text in texts], np.float32).reshape(-1, DIMENSION)

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


# A model with a bias: the sigmoid of each text by itself


def siglip(logit_scale: float = 117.33, logit_bias: float = -12.93) -> StubEncoder:
    return StubEncoder(logit_scale, logit_bias=logit_bias)


def at(number: int, cosine: float) -> Vectors:
    """What of a picture's unit vector counts: its cosine to one axis, where that to all others is 0."""
    return np.float32(cosine) * axis(number)


def sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def test_a_tag_of_a_siglip_has_the_sigmoid_of_its_own_logit(tmp_path: Path) -> None:
    """0.319 is what is published of two cats; it has no rival, and its threshold is the user's."""
    probability = sigmoid(117.33 * 0.1038 - 12.93)
    assert probability == pytest.approx(0.319, abs=0.002)
    chosen = vocabulary(tmp_path, "cat")
    for least, tags in ((probability - 0.001, ["cat"]), (probability + 0.001, [])):
        assert described(siglip(), settings(chosen, tag_min_score=least), at(0, 0.1038))[0].tags == tags


def test_what_fits_a_little_gets_its_tags_unless_a_threshold_of_a_softmax_is_set() -> None:
    likely, unlikely = at(0, 0.0803), at(0, 0.0221)  # probabilities of 0.029 and 0.00003
    assert [one.tags for one in described(siglip(), settings(), likely, unlikely)] == [["cat"], []]
    assert described(siglip(), settings(tag_min_score=0.15), likely)[0].tags == []
    assert described(StubEncoder(20.0), settings(tag_min_score=None), likely)[0].tags == []


def test_two_things_in_a_picture_do_not_share_a_probability() -> None:
    both = at(0, 0.11) + at(2, 0.11)
    assert sorted(described(siglip(), settings(tag_min_score=0.49), both)[0].tags) == ["cat", "house"]


def test_a_tag_s_logit_is_the_mean_of_its_templates_logits(tmp_path: Path) -> None:
    """Were the mean lengthened to a unit vector, texts that differ would be likelier than each of them is."""

    class Differing(StubEncoder):
        def _vector(self, text: str) -> Vectors:
            if text in TEMPLATES_OF_CAT:
                return axis(TEMPLATES_OF_CAT.index(text))
            return axis(DIMENSION - 1)

    picture = np.array([0.2, 0.1, 0.06, 0, 0, 0], np.float32)
    expected = sigmoid(117.33 * (0.2 + 0.1 + 0.06) / 3 - 12.93)
    chosen = vocabulary(tmp_path, "cat")
    encoder = Differing(117.33, logit_bias=-12.93)
    assert described(encoder, settings(chosen, tag_min_score=expected - 1e-3), picture)[0].tags == ["cat"]
    assert described(encoder, settings(chosen, tag_min_score=expected + 1e-3), picture)[0].tags == []


def test_nsfw_of_a_siglip_is_the_likeliest_explicit_text_whatever_else_fits() -> None:
    picture = at(4, 0.1)
    expected = sigmoid(117.33 * 0.1 - 12.93)
    harmless_too = picture + np.float32(0.3) * axis(DIMENSION - 1)
    for found in described(siglip(), settings(), picture, harmless_too):
        assert found.nsfw == pytest.approx(expected, abs=1e-4)
    assert described(siglip(), settings(), axis(5))[0].nsfw == pytest.approx(sigmoid(-12.93), abs=1e-4)


@pytest.mark.parametrize("bias", [-1e6, -1000.0, 0.0, 1000.0, 1e6])
def test_a_bias_of_any_size_gives_probabilities(bias: float) -> None:
    (found,) = described(siglip(logit_bias=bias), settings(tag_min_score=0.0), axis(0))
    assert found.nsfw == (0.0 if bias < 0 else pytest.approx(0.5) if bias == 0 else 1.0)
    assert len(found.tags) == MAX_TAGS


def test_a_random_siglip_s_own_scale_and_bias_are_used(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "siglip", shape="tiny siglip")
    encoder = Encoder.load(str(tmp_path / "siglip"), device="cpu", precision="fp32")
    model = encoder.towers.model
    vectors = encoder.encode_images(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8))
    found = describe(encoder, settings(tag_min_score=0.0), [image(str(n)) for n in range(3)], vectors)
    cosines = vectors @ encoder.encode_texts(list(EXPLICIT)).T
    logits = cosines.max(axis=1) * float(model.logit_scale.detach().exp()) + float(model.logit_bias.detach())
    assert [one.nsfw for one in found] == pytest.approx([sigmoid(one) for one in logits], abs=1e-4)


# A model that knows no English


def test_a_model_without_english_gives_no_nsfw_and_no_built_in_tags(tmp_path: Path) -> None:
    encoder = StubEncoder(knows_english=False)
    (found,) = described(encoder, settings(tag_min_score=0.0), axis(0))
    assert (found.tags, found.nsfw) == ([], None)
    record = vector_log.Addition(0, 1, "j:0", found, 1).record()
    assert vector_log.Addition.from_record(record).image == found


def test_a_model_without_english_is_asked_the_user_s_own_words_as_they_are(tmp_path: Path) -> None:
    asked: list[str] = []

    class Chinese(StubEncoder):
        def _vector(self, text: str) -> Vectors:
            asked.append(text)
            return axis(["猫", "狗"].index(text))

    chosen = settings(vocabulary(tmp_path, "猫", "狗"))
    cat, dog = described(Chinese(knows_english=False), chosen, axis(0), axis(1))
    assert (cat.tags, dog.tags, asked) == (["猫"], ["狗"], ["猫", "狗"])
    assert (cat.nsfw, dog.nsfw) == (None, None)


@pytest.mark.parametrize(
    ("shape", "bias", "english"),
    [
        ("tiny", False, True),
        ("tiny metaclip_2", False, True),
        ("tiny siglip", True, True),
        ("tiny altclip", False, True),
        ("tiny chinese_clip", False, False),
    ],
)
def test_each_kind_has_its_rule(tmp_path: Path, shape: Any, bias: bool, english: bool) -> None:
    tiny_checkpoint(tmp_path / "model", shape=shape)
    encoder = Encoder.load(str(tmp_path / "model"), device="cpu", precision="fp32")
    assert (encoder.logit_bias is not None, encoder.knows_english) == (bias, english)
    vectors = encoder.encode_texts(["a photo of a cat", "猫"])
    chosen = settings(vocabulary(tmp_path, "cat", "猫"), tag_min_score=0.0)
    for one in describe(encoder, chosen, [image("a"), image("b")], vectors):
        assert set(one.tags) == {"cat", "猫"}
        assert (one.nsfw is not None) == english


@pytest.mark.parametrize(
    ("encoder", "nsfw_max", "says"),
    [
        (StubEncoder(), 0.5, None),
        (StubEncoder(knows_english=False), None, "knows no English"),
        (siglip(), None, None),
        (siglip(), 0.02, None),
        (siglip(), 0.5, "NSFW_MAX is 0.5"),
    ],
)
def test_settings_that_do_not_suit_the_model_are_told(
    encoder: StubEncoder, nsfw_max: float | None, says: str | None
) -> None:
    found = caveat_of(encoder, settings(nsfw_max=nsfw_max))
    assert found is None if says is None else says in (found or "")


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
