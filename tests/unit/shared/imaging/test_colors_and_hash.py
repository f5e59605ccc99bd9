"""Colour names and perceptual hashes, on pictures whose answer is plain to see."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from shared.imaging.colors_and_hash import (
    _TYPICAL,
    MIN_SHARE,
    Pixels,
    dominant_colors,
    hash_bits,
    perceptual_hash,
    small,
)
from shared.imaging.decode import decode
from shared.imaging.preprocess import Preprocess
from shared.index.near_duplicates import HAMMING
from shared.models import COLORS
from tests.image_server import make_photo

PREPROCESS = Preprocess((4, 4), None, Image.Resampling.BICUBIC, (0.0,) * 3, (1.0,) * 3, 1.0)


def test_the_table_of_typical_colours_has_each_name_once_and_in_order() -> None:
    assert tuple(_TYPICAL) == COLORS


def flat(*rgb: int) -> Pixels:
    return np.full((32, 32, 3), rgb, np.uint8)


def photo(seed: int) -> Image.Image:
    return Image.open(io.BytesIO(make_photo(seed, 320, 240))).convert("RGB")


def distance(one: Image.Image, other: Image.Image) -> int:
    a, b = hash_bits([perceptual_hash(small(one)), perceptual_hash(small(other))])
    return int(np.bitwise_count(a ^ b))


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((128, 128, 128), "gray"),
        ((220, 20, 20), "red"),
        ((178, 60, 45), "red"),
        ((255, 140, 0), "orange"),
        ((250, 230, 20), "yellow"),
        ((86, 125, 70), "green"),
        ((10, 50, 20), "green"),
        ((135, 206, 235), "blue"),
        ((0, 0, 90), "blue"),
        ((75, 0, 130), "purple"),
        ((255, 192, 203), "pink"),
        ((133, 94, 66), "brown"),
    ],
)
def test_a_colour_has_the_name_that_people_give_it(rgb: tuple[int, int, int], name: str) -> None:
    assert name in COLORS
    assert dominant_colors(flat(*rgb)) == [name]


def test_the_largest_area_comes_first_and_details_do_not_count() -> None:
    pixels = flat(255, 255, 255)
    pixels[:20] = (220, 20, 20)
    pixels[20:26] = (0, 0, 200)
    speck = int(MIN_SHARE * 32 * 32) - 1
    pixels[31].reshape(-1, 3)[: min(speck, 32)] = (0, 128, 0)
    assert dominant_colors(pixels) == ["red", "blue", "white"]


def test_at_most_five_colours_are_named() -> None:
    pixels = flat(0, 0, 0)
    stripes = [(255, 255, 255), (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 0), (128, 0, 128)]
    for row, rgb in enumerate(stripes):
        pixels[4 * row : 4 * row + 4] = rgb
    assert len(dominant_colors(pixels)) == 5


@pytest.mark.parametrize(
    "changed",
    [
        jpeg,
        lambda image: image.resize((160, 120)),
        lambda image: image.resize((1024, 768)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.15),
        lambda image: image.convert("L").convert("RGB"),
        lambda image: image.crop((4, 3, 316, 237)),
    ],
    ids=["recompressed", "smaller", "larger", "brighter", "grey", "trimmed"],
)
def test_the_hash_hardly_changes_with_what_leaves_the_picture_the_same(
    changed: Callable[[Image.Image], Image.Image],
) -> None:
    assert max(distance(photo(n), changed(photo(n))) for n in range(8)) <= HAMMING


def test_other_pictures_have_other_hashes() -> None:
    photos = [photo(n) for n in range(12)]
    assert min(distance(a, b) for i, a in enumerate(photos) for b in photos[:i]) > HAMMING


def test_a_flat_picture_s_hash_is_not_rounding() -> None:
    assert {perceptual_hash(flat(*rgb)) for rgb in [(9, 9, 9), (255, 255, 255), (3, 200, 77)]} == {
        "8000000000000000"
    }


def test_a_decoded_picture_carries_both() -> None:
    file = io.BytesIO()
    Image.new("RGB", (60, 20), (0, 0, 200)).save(file, "PNG")
    picture = decode(file.getvalue(), PREPROCESS, max_pixels=10_000, keep="none")
    assert picture.colors == ["blue"]
    assert picture.phash == "8000000000000000"
