"""Vectors of each kind of model are those of transformers' own processor and model class, in fp32."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.random_checkpoint import Shape
from shared.embedding.encoder import Encoder
from shared.imaging.decode import decode
from tests.checkpoints import tiny_checkpoint
from tests.unit.shared.embedding.configurations import change_json
from tests.unit.shared.embedding.reference_models import DIFFERENT, SAME, SHAPES, TEXTS, Model, least

ODD_TEXTS = [
    "A RED Car, ΟΔΟΣ, İstanbul",
    "🎉 a cat 👩‍👩‍👧 🐈‍⬛",
    "cafe\u0301 na\u0308ive ক্ষি 한국어 แมว",
    "two\nlines\r\n\tand a tab\u2028",
    "null\0in the middle",
    "half an emoji \ud83d and on",
    "   ",
    "</s> <pad> <eos> [SEP] <|endoftext|> <mask>",
    "a" * 3_000,
]
CASED = ["A RED Car", "ΚΌΚΚΙΝΗ Ομπρέλα", "Красная МАШИНА"]
PICTURES = [(32, 32), (31, 97), (200, 90), (1, 1), (1, 50), (640, 480), (33, 700), (8, 8)]


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(request.param, tmp_path_factory.mktemp("kind") / "model")


@pytest.fixture(scope="module", params=["tiny siglip", "tiny siglip 2"])
def siglip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(request.param, tmp_path_factory.mktemp("kind") / "model")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    coarse = [rng.integers(0, 256, (5, 4, 3), np.uint8) for _ in PICTURES]
    return [
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        for pixels, size in zip(coarse, PICTURES, strict=True)
    ]


def test_texts_have_transformers_vectors_alone_and_in_ragged_batches(model: Model) -> None:
    texts = TEXTS + ODD_TEXTS
    reference = model.texts(texts)
    assert least(model.encoder.encode_texts(texts), reference) >= SAME
    alone = np.concatenate([model.encoder.encode_texts([text]) for text in texts])
    assert least(alone, reference) >= SAME


def test_a_wrong_text_would_be_seen(model: Model) -> None:
    vectors = model.texts(TEXTS)
    assert (vectors @ vectors.T - 2 * np.eye(len(TEXTS))).max() < DIFFERENT
    assert least(model.encoder.encode_texts(TEXTS[1:] + TEXTS[:1]), vectors) < SAME


def test_missing_padding_a_mask_or_another_case_would_be_seen(siglip: Model) -> None:
    ours = siglip.encoder.encode_texts(TEXTS[:-1])  # the last fills every place by itself
    assert least(ours, siglip.texts(TEXTS[:-1])) >= SAME
    for wrong in ({"padding": True}, {"masked": True}):
        assert least(ours, siglip.texts(TEXTS[:-1], **wrong)) < DIFFERENT, wrong


@pytest.mark.parametrize("lowers", [True, False, None])
def test_siglip_texts_are_lowered_unless_the_tokenizer_says_not(
    siglip: Model, lowers: bool | None, tmp_path: Path
) -> None:
    """Also where it says nothing, as SigLIP 2's does: then it lowers none by itself."""

    def tell(folder: Path) -> None:
        change_json(folder / "tokenizer_config.json", "do_lower_case", value=lowers)

    told = Model(siglip.shape, tmp_path / "told", tell)
    ours, reads_case = told.encoder.encode_texts(CASED), lowers is False
    assert least(ours, told.texts(CASED, lowered=not reads_case)) >= SAME
    lowered = told.encoder.encode_texts([text.lower() for text in CASED])
    assert (least(ours, lowered) < SAME) == reads_case


def test_gemmas_tokenizer_lowers_nothing_by_itself(tmp_path: Path) -> None:
    model = Model("tiny siglip 2", tmp_path / "model")
    assert least(model.encoder.encode_texts(CASED), model.texts(CASED, lowered=False)) < SAME


def test_images_have_transformers_vectors(model: Model, pictures: list[Image.Image]) -> None:
    assert least(model.ours(pictures), model.images(pictures)) >= SAME


def test_images_decoded_have_transformers_vectors(model: Model, pictures: list[Image.Image]) -> None:
    files, upright = [], []
    for orientation, picture in enumerate(pictures, start=1):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(buffer, "PNG", exif=exif)
        files.append(buffer.getvalue())
        turned = ImageOps.exif_transpose(Image.open(buffer))
        assert turned is not None
        upright.append(turned)
    crops = [
        decode(data, model.encoder.preprocess, max_pixels=10**6, keep="rendition").pixels for data in files
    ]
    assert least(model.encoder.encode_images(np.stack(crops)), model.images(upright)) >= SAME


@pytest.mark.parametrize(
    "wrong",
    [{"image_mean": [0.1, 0.5, 0.9]}, {"image_std": [0.1, 0.5, 0.9]}, {"rescale_factor": 1 / 128}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_numbers_would_be_seen(model: Model, pictures: list[Image.Image], wrong: Any) -> None:
    assert least(model.ours(pictures), model.images(pictures, **wrong)) < SAME


def test_a_wrong_crop_would_be_seen(model: Model, pictures: list[Image.Image]) -> None:
    shifted = [image.crop((image.width // 4, 0, image.width, image.height)) for image in pictures[1:3]]
    assert least(model.ours(shifted), model.images(pictures[1:3])) < SAME
    side, _ = model.encoder.preprocess.crop_shape
    square = {"height": side, "width": side}
    wrong = {"size": {"shortest_edge": side}, "do_center_crop": True, "crop_size": square}
    if model.encoder.preprocess.crop_size is not None:
        wrong = {"size": square, "do_center_crop": False}
    assert least(model.ours(pictures), model.images(pictures, **wrong)) < SAME


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_half_precision_stays_close_and_keeps_the_score_rule(
    shape: Shape, precision: str, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    tiny_checkpoint(tmp_path / "model", shape=shape)
    exact, half = (
        Encoder.load(str(tmp_path / "model"), device="cpu", precision=each) for each in ("fp32", precision)
    )
    half.warm()
    assert (half.logit_scale, half.logit_bias) == (exact.logit_scale, exact.logit_bias)
    assert (half.logit_bias is None) == ("siglip" not in shape)
    crops = np.stack([half.preprocess.crop(image, 1, image.width, image.height) for image in pictures])
    assert least(half.encode_images(crops), exact.encode_images(crops)) > 0.99
    assert least(half.encode_texts(TEXTS), exact.encode_texts(TEXTS)) > 0.99
    assert half.encode_patches(crops[:1]).shape == (1, *half.towers.patches, half.dimension)


def test_threads_and_halved_batches_give_the_same_vectors(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = TEXTS + ODD_TEXTS
    expected = model.encoder.encode_texts(texts)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda _: model.encoder.encode_texts(texts), range(8)):
            assert least(vectors, expected) >= SAME
    whole = model.encoder.towers.text_features

    def without_memory(some: list[str]) -> Any:
        if len(some) > 5:
            raise MemoryError
        return whole(some)

    monkeypatch.setattr(model.encoder.towers, "text_features", without_memory)
    assert least(model.encoder.encode_texts(texts), expected) >= SAME
