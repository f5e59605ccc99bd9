"""Grey of any depth, transparency and the ground that drawings lie on: RGB shows what is in a file."""

import io
import math
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from tests.sample_files import bmp_with_alpha, deep_png, png
from tests.tiff_files import deep_tiff, tiff_file
from tests.tiff_files import picture as picture_tags
from tests.unit.shared.imaging.pictures import difference, photo, read, save

WHITE, BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
SHARES = np.asarray(photo(120, 90).convert("L")).astype(np.float64) / 255  # 0 to 1
SHARES = (SHARES - SHARES.min()) / (SHARES.max() - SHARES.min())


def thumbnail(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(read(data).thumbnail)) as image:
        return np.asarray(image.convert("RGB"))


def shown(data: bytes) -> NDArray[Any]:
    """A picture's grey as the model sees it."""
    return read(data).pixels[..., 1].astype(float)


def of_shares(shares: NDArray[Any]) -> NDArray[Any]:
    return shown(save(Image.fromarray((shares * 255).round().astype(np.uint8)), format="PNG"))


def star(color: tuple[int, ...], points: int = 5, side: int = 128) -> Image.Image:
    """A drawing on nothing."""
    image = Image.new("RGBA", (side, side))
    radii = [(side * (0.45 if step % 2 else 0.2), math.pi * step / points) for step in range(2 * points)]
    corners = [(side / 2 + far * math.sin(turn), side / 2 + far * math.cos(turn)) for far, turn in radii]
    ImageDraw.Draw(image).polygon(corners, fill=color)
    return image


def corner(data: bytes) -> int:
    """How bright the ground is, where nothing is drawn."""
    return int(read(data).pixels[2, 2].max())


# Grey


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("build", [deep_png, deep_tiff], ids=["png", "tiff"])
def test_grey_that_uses_fewer_bits_than_it_has_is_as_bright_as_its_twin_of_8(build: Any, bits: int) -> None:
    values = (SHARES * (2**bits - 1)).astype(np.uint16)
    assert difference(shown(build(values)), of_shares(SHARES)) < 1


@pytest.mark.parametrize(
    "values",
    [
        SHARES * 4000 - 1000,  # a tomogram's
        SHARES * 100 + 2000,  # heights in one valley, which would be one flat grey
        SHARES * 2**31 - 2**30,
    ],
    ids=["negative", "narrow", "wide"],
)
@pytest.mark.parametrize("kind", ["i2", "i4", "f4"])
@pytest.mark.parametrize("form", [{}, {"big_endian": True}, {"big_endian": True, "deflated": True}], ids=str)
def test_grey_of_any_other_range_is_spread_from_its_lowest_to_its_highest(
    values: NDArray[Any], kind: str, form: Any
) -> None:
    if kind == "i2" and values.max() > 2**15:
        pytest.skip("16 bits do not hold it")
    assert difference(shown(deep_tiff(values.astype(kind), **form)), of_shares(SHARES)) < 3


@pytest.mark.parametrize("form", [{}, {"deflated": True}, {"big_endian": True, "deflated": True}], ids=str)
def test_signed_grey_of_8_bits_is_no_noise(form: Any) -> None:
    assert difference(shown(deep_tiff((SHARES * 255 - 128).astype("i1"), **form)), of_shares(SHARES)) < 2


@pytest.mark.parametrize("form", [{}, {"deflated": True}, {"big_endian": True, "deflated": True}], ids=str)
@pytest.mark.parametrize("most", [2**12 - 1, 2**20, 2**32 - 1])
def test_unsigned_grey_of_32_bits_does_not_turn_negative(most: int, form: Any) -> None:
    assert difference(shown(deep_tiff((SHARES * most).astype(np.uint32), **form)), of_shares(SHARES)) < 1


@pytest.mark.parametrize(("most", "brightest"), [(1, 255), (1.04, 255), (200, 200), (1e-4, 255), (1e25, 255)])
def test_floats_are_read_as_zero_to_one_or_by_what_they_reach(most: float, brightest: int) -> None:
    data = deep_tiff((SHARES * most).astype(np.float32))
    assert difference(shown(data), of_shares(SHARES * brightest / 255)) < 1


@pytest.mark.parametrize(
    ("bits", "kind"), [(8, "u1"), (12, "u2"), (16, "u2"), (32, "u4"), (32, "f4")], ids=str
)
@pytest.mark.parametrize("big_endian", [False, True])
def test_where_zero_is_white_it_is_white(bits: int, kind: str, big_endian: bool) -> None:
    values = (SHARES * (1 if kind == "f4" else 2**bits - 1)).astype(kind)
    data = deep_tiff(values, bits, white_is_zero=True, big_endian=big_endian)
    assert difference(shown(data), of_shares(1 - SHARES)) < 1
    data = deep_tiff(values, bits, big_endian=big_endian)
    assert difference(shown(data), of_shares(SHARES)) < 1


@pytest.mark.parametrize("mark", [-9999, -32768, -3.4028235e38, 1e20, 1e30, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["f4", "i2"])
def test_a_mark_of_no_data_does_not_make_the_rest_dark(mark: float, kind: str) -> None:
    if kind == "i2" and not abs(mark) < 2**16:
        pytest.skip("no whole number of 16 bits")
    values = (SHARES * 4000).astype(kind)
    values[:30] = mark
    seen = shown(deep_tiff(values))
    assert difference(seen[100:], of_shares(SHARES * 4000 / 4095)[100:]) < 2
    assert seen[10].max() == (255 if mark == 1e20 else 0)


def test_the_mark_that_a_file_names_is_left_out() -> None:
    values = (SHARES * 4000).astype(np.uint16)
    values[:30] = 65535
    seen = shown(deep_tiff(values, no_data="65535"))
    assert difference(seen[100:], of_shares(SHARES * 4000 / 4095)[100:]) < 2
    assert seen[10].max() == 0


@pytest.mark.parametrize("value", [0, 7, -7, 1e29, 65535, math.nan])
@pytest.mark.parametrize("kind", ["u2", "i4", "f4"])
def test_one_flat_value_is_a_flat_picture(value: float, kind: str) -> None:
    if kind != "f4" and not 0 <= value <= 65535:
        pytest.skip("no value of this kind")
    pixels = read(deep_tiff(np.full((20, 30), value, kind))).pixels
    assert np.ptp(pixels) == 0


def _rgb_tiff(values: NDArray[Any], deflated: bool) -> bytes:
    body = values.astype("<u2").tobytes()
    body = zlib.compress(body) if deflated else body
    tags = picture_tags(2, 16, 3, 8 if deflated else 1) | {256: values.shape[1], 257: values.shape[0]}
    return tiff_file(tags | {278: values.shape[0], 279: len(body)}, body)


@pytest.mark.parametrize(
    "build", [deep_png, lambda values: _rgb_tiff(values, False), lambda values: _rgb_tiff(values, True)],
    ids=["png", "tiff", "tiff, deflated"],
)  # fmt: skip
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_colour_of_16_bits_that_uses_fewer_is_as_bright_as_its_twin_of_8(build: Any, bits: int) -> None:
    source = photo(120, 90)
    values = np.asarray(source).astype(np.uint32) * (2**bits - 1) // 255
    assert difference(read(build(values)).pixels, read(save(source, format="PNG")).pixels) < 1


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_of_fewer_bits_is_as_strong_as_its_colours_are_bright(mode: str) -> None:
    source = photo(120, 90).convert(mode)
    colors = np.asarray(source).astype(np.uint32) * 4095 // 255
    assert difference(read(deep_png(colors)).pixels, read(save(source, format="PNG")).pixels) < 1
    colors[..., -1] = 65535
    assert difference(read(deep_png(colors)).pixels, read(save(source, format="PNG")).pixels) < 1


def test_a_black_shadow_of_16_bits_stays_faint() -> None:
    values = np.zeros((40, 40, 4), np.uint16)
    values[10:30, 10:30, 3] = 0x2000
    assert read(deep_png(values)).pixels.min() > 200


# Transparency


def nothing_in(image: Image.Image) -> Image.Image:
    """Its colours, under an alpha of zero everywhere."""
    image = image.copy()
    image.putalpha(0)
    return image


@pytest.mark.parametrize(
    "build",
    [
        lambda image: save(nothing_in(image), format="PNG"),
        lambda image: save(nothing_in(image), format="TIFF"),
        lambda image: save(nothing_in(image), format="WEBP", lossless=True, exact=True),
        lambda image: bmp_with_alpha(nothing_in(image)),
        lambda image: deep_png(np.asarray(nothing_in(image)).astype(np.uint16) * 257),
        lambda image: save(image.quantize(256), format="PNG", transparency=bytes(256)),
    ],
    ids=["png", "tiff", "webp", "bmp", "png, 16 bits", "png, palette"],
)
@pytest.mark.parametrize("size", [(120, 90), (1200, 900)])
def test_alpha_that_is_zero_everywhere_is_none(build: Any, size: tuple[int, int]) -> None:
    image = photo(*size)
    assert difference(read(build(image)).pixels, read(save(image, format="PNG")).pixels) < 6


def test_grey_under_an_alpha_of_zero_is_shown() -> None:
    values = np.asarray(Image.linear_gradient("L"))
    data = save(nothing_in(Image.fromarray(values)), format="PNG")
    assert difference(read(data).pixels, read(save(Image.fromarray(values), format="PNG")).pixels) == 0


@pytest.mark.parametrize(
    ("header", "key", "row", "others"),
    [
        ((4, 4, 4, 0), struct.pack(">H", 7), b"\0\x70\x07", [0]),
        ((4, 4, 2, 0), struct.pack(">H", 2), b"\0\x82", [0]),
        ((4, 4, 16, 0), struct.pack(">H", 1000), b"\0" + struct.pack(">4H", 1000, 0, 65535, 1000), [0, 255]),
        ((4, 4, 16, 2), struct.pack(">3H", 1000, 2000, 3000),
         b"\0" + struct.pack(">12H", 1000, 2000, 3000, *[0] * 6, 1000, 2000, 3000), [0]),
    ],
    ids=["4 bits", "2 bits", "16 bits", "16 bits RGB"],
)  # fmt: skip
def test_the_transparent_colour_of_a_png_counts_at_any_depth(
    header: tuple[int, int, int, int], key: bytes, row: bytes, others: list[int]
) -> None:
    pixels = read(png(header, (b"tRNS", key), (b"IDAT", zlib.compress(row * 4)))).pixels[:, :, 0]
    assert pixels[112, 10] == pixels[112, -10] == 255
    assert pixels.min() < 10, others


def test_the_transparent_grey_is_no_measure_of_the_rest() -> None:
    values = (SHARES * 4095).astype(np.uint16)
    values[:30] = 65535
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    header = (values.shape[1], values.shape[0], 16, 0)
    seen = shown(png(header, (b"tRNS", struct.pack(">H", 65535)), (b"IDAT", rows)))
    assert difference(seen[100:], of_shares(SHARES)[100:]) < 1
    assert seen[10].min() == 255


SAVED_DRAWINGS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True},
    "webp, lossy": {"format": "WEBP"},
    "gif": {"format": "GIF"},
    "avif": {"format": "AVIF", "speed": 10},
    "heic": {"format": "HEIF", "enc_params": {"preset": "ultrafast"}},
    "tiff": {"format": "TIFF"},
    "tiff, associated": {"format": "TIFF", "tiffinfo": {338: 1}},
}


@pytest.mark.parametrize("name", SAVED_DRAWINGS)
@pytest.mark.parametrize("side", [128, 2000])
def test_a_white_drawing_lies_on_black_and_a_black_one_on_white(name: str, side: int) -> None:
    for color, ground in ((WHITE, 0), (BLACK, 255)):
        data = save(star(color, side=side), **SAVED_DRAWINGS[name])
        pixels = read(data).pixels
        assert abs(corner(data) - ground) < 6
        assert abs(int(pixels[112, 112].max()) - (255 - ground)) < 6
        assert abs(int(thumbnail(data)[0, 0].max()) - ground) < 6


@pytest.mark.parametrize(
    "build",
    [
        lambda image: save(image.convert("LA"), format="PNG"),
        lambda image: save(image.quantize(8), format="PNG"),
        lambda image: save(image.convert("RGB").convert("L"), format="PNG", transparency=0),
        lambda image: save(image.convert("RGB").convert("1"), format="PNG", transparency=0),
        lambda image: deep_png(np.asarray(image).astype(np.uint16) * 257),
        lambda image: deep_png(np.asarray(image.convert("LA")).astype(np.uint16) * 257),
        bmp_with_alpha,
    ],
    ids=["LA", "palette", "grey key", "one bit", "16 bits", "16 bits LA", "bmp"],
)
def test_every_mode_with_alpha_gets_its_ground(build: Any) -> None:
    assert corner(build(star(WHITE))) == 0


@pytest.mark.parametrize(
    ("color", "ground"),
    [
        ((255, 255, 200, 255), 0),
        ((240, 240, 240, 255), 0),
        ((255, 255, 255, 80), 0),
        ((192, 192, 192, 255), 255),
        ((255, 192, 203, 255), 255),  # pink
        ((255, 255, 0, 255), 255),
        ((0, 0, 0, 80), 255),
    ],
)
def test_only_what_hardly_shows_on_white_lies_on_black(color: tuple[int, ...], ground: int) -> None:
    assert corner(save(star(color), format="PNG")) == ground


def _page() -> Image.Image:
    page = Image.new("RGBA", (400, 300))
    draw = ImageDraw.Draw(page)
    draw.rounded_rectangle((0, 0, 399, 299), 20, fill=WHITE)
    for row in range(8):
        draw.text((30, 30 + 30 * row), "a line of text on a white page", fill=(40, 40, 40, 255))
    return page


def _cast_shadow() -> Image.Image:
    shape = star(WHITE, side=256)
    shadow = Image.new("RGBA", shape.size)
    shadow.putalpha(shape.getchannel("A").point(lambda level: level // 2))
    below = shadow.filter(ImageFilter.GaussianBlur(8))
    below.alpha_composite(shape)
    return below


def _soft_photo(light: float = 0) -> Image.Image:
    image = Image.blend(photo(300, 200), Image.new("RGB", (300, 200), "white"), light)
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse((20, 20, 280, 180), fill=255)
    image.putalpha(mask.filter(ImageFilter.GaussianBlur(10)))
    return image


def _outlined() -> Image.Image:
    image = star(WHITE)
    corners = [(20, 20), (100, 30), (60, 110), (20, 20)]
    ImageDraw.Draw(image).line(corners, fill=BLACK, width=4)
    return image


@pytest.mark.parametrize("build", [_page, _cast_shadow, _soft_photo, lambda: _soft_photo(0.7), _outlined])
def test_what_shows_on_white_stays_there(build: Any) -> None:
    image = build()
    expected = Image.new("RGB", image.size, "white")
    expected.paste(image, mask=image)
    data = save(image, format="PNG")
    assert np.array_equal(read(data).pixels, read(save(expected, format="PNG")).pixels)


def test_a_white_logo_with_a_coloured_dot_is_more_than_the_dot() -> None:
    image = star(WHITE)
    ImageDraw.Draw(image).ellipse((56, 56, 72, 72), fill=(220, 30, 30, 255))
    assert corner(save(image, format="PNG")) == 0


def test_thin_white_lines_are_seen_wherever_they_lie() -> None:
    for first in range(8):
        values = np.zeros((1024, 1024, 4), np.uint8)
        values[..., :3] = 255
        values[first::64, :, 3] = values[:, first::64, 3] = 255
        assert corner(save(Image.fromarray(values), format="PNG")) < 128


def test_an_opaque_alpha_changes_nothing() -> None:
    for image in (photo(1200, 900), Image.new("RGB", (60, 60), "white")):
        opaque = image.copy()
        opaque.putalpha(255)
        pictures = [read(save(one, format="PNG")) for one in (image, opaque)]
        assert difference(pictures[0].pixels, pictures[1].pixels) == 0
        assert pictures[0].thumbnail == pictures[1].thumbnail


def test_white_icons_differ_in_hash_thumbnail_and_colours() -> None:
    pictures = [read(save(star(WHITE, points), format="PNG")) for points in (3, 4, 5, 8)]
    assert len({picture.phash for picture in pictures}) == len({one.thumbnail for one in pictures}) == 4
    assert all({"white", "black"} <= set(picture.colors) for picture in pictures)


def _deep_and_transparent() -> list[bytes]:
    light = star(WHITE, side=900)
    light.putpixel((450, 899), BLACK)
    zero_below = photo(900, 700)
    zero_below.putalpha(0)
    late = zero_below.copy()
    late.putpixel((899, 699), (9, 9, 9, 255))
    values = (np.asarray(photo(901, 703).convert("L")).astype(np.int16) * 16) - 1000
    drawings = [light, zero_below, late, light.convert("LA"), light.quantize(8), _soft_photo()]
    return [
        *(save(image, format="PNG") for image in drawings),
        deep_tiff(values),
        deep_tiff(values.astype(np.float32), white_is_zero=True),
        deep_png(values.clip(0)),
        deep_png(np.asarray(light).astype(np.uint16) * 16),
    ]


def test_a_picture_in_many_strips_is_the_picture_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    files = _deep_and_transparent()
    whole = [read(data) for data in files]
    monkeypatch.setattr("shared.imaging.to_rgb._STRIP_PIXELS", 5000)
    monkeypatch.setattr("shared.imaging.deep_grey._SEARCHED_PIXELS", 3000)
    monkeypatch.setattr("shared.imaging.deep_color._SEARCHED_PIXELS", 3000)
    for data, picture in zip(files, whole, strict=True):
        assert np.array_equal(read(data).pixels, picture.pixels)
        assert read(data).thumbnail == picture.thumbnail
