"""Decoding: what is accepted, how everything ends as upright RGB, and that the crop is the reference's."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from shared.errors import ItemError
from shared.imaging.decode import open_query_image
from tests.image_server import make_photo
from tests.sample_files import png
from tests.tiff_files import picture as picture_tags
from tests.tiff_files import tiff_file
from tests.unit.shared.imaging.pictures import CLIP, SAVED, difference, failure, photo, read, save

# Pillow warns of the damage that these tests do on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.mark.parametrize("name", SAVED)
def test_every_accepted_format_is_read(name: str) -> None:
    source = photo(300, 200)
    picture = read(save(source, **SAVED[name]))
    assert (picture.format, picture.width, picture.height) == (name, 300, 200)
    assert picture.pixels.shape == (224, 224, 3)
    assert picture.pixels.dtype == np.uint8
    assert difference(picture.pixels, read(save(source, format="PNG")).pixels) < 8


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_an_image"),
        (b"x", "not_an_image"),
        (b"<!doctype html><html></html>", "not_an_image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image"),
        (b"%PDF-1.7\n%\xe2\xe3\n", "not_an_image"),
        (b"BMW is a car maker, not a bitmap, as some would think", "not_an_image"),
        (b"#define is what a C file starts with", "not_an_image"),
        (b"PK\x03\x04" + bytes(100), "not_an_image"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "not_an_image"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not_an_image"),
        (b"\0\0\0\x18ftypisom" + bytes(100), "not_an_image"),
        (bytes(10_000), "not_an_image"),
        (b"8BPS\0\x01" + bytes(100), "unsupported_format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_format"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), "unsupported_format"),
        (b"P6\n2 2\n255\n" + bytes(12), "unsupported_format"),
        (save(Image.new("RGB", (32, 32)), format="ICO"), "unsupported_format"),
        (save(Image.new("RGB", (32, 32)), format="DDS"), "unsupported_format"),
        (b"\xff\xd8\xff", "corrupt_image"),
        (b"\x89PNG\r\n\x1a\n", "corrupt_image"),
        (b"GIF89a", "corrupt_image"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "corrupt_image"),
        (b"II*\0\x08\0\0\0", "corrupt_image"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "corrupt_image"),
    ],
)
def test_what_is_no_usable_picture_says_why(data: bytes, code: str) -> None:
    assert failure(data) == code


@pytest.mark.parametrize("name", SAVED)
def test_a_picture_cut_off_anywhere_is_corrupt(name: str) -> None:
    data = save(photo(120, 90), **SAVED[name])
    for share in (0.1, 0.5, 0.8):
        assert failure(data[: int(len(data) * share)]) == "corrupt_image"


def test_scribbled_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(7)
    for options in SAVED.values():
        data = bytearray(save(photo(60, 40), **options))
        for _ in range(25):
            damaged = data.copy()
            for position in rng.integers(0, len(data), 4):
                damaged[position] = int(rng.integers(0, 256))
            try:
                read(bytes(damaged))
            except ItemError as error:
                assert error.code != "internal"


@pytest.mark.parametrize("name", SAVED)
def test_pixels_are_limited(name: str) -> None:
    data = save(Image.new("RGB", (100, 50)), **SAVED[name])
    least = 2000 if name == "jpeg" else 5000  # a baseline JPEG is decoded at a quarter of its pixels
    assert read(data, max_pixels=least).width == 100
    assert failure(data, max_pixels=least - 1) == "too_many_pixels"


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    claims_a_billion_pixels = png((40_000, 40_000, 8, 2), (b"IDAT", zlib.compress(b"")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert failure(claims_a_billion_pixels, max_pixels=100_000_000) == "too_many_pixels"


def test_a_tiff_with_tiles_far_larger_than_itself_is_refused() -> None:
    tile = zlib.compress(bytes(1000))
    tags = picture_tags(1, 8, 1, 8) | {322: 32_000, 323: 32_000, 324: 8, 325: len(tile)}
    data = tiff_file({tag: value for tag, value in tags.items() if tag not in (273, 278, 279)}, tile)
    assert failure(data, max_pixels=1_000_000) == "too_many_pixels"


def test_a_big_picture_within_the_limit_warns_of_nothing() -> None:
    data = save(Image.new("1", (10_000, 9_500)), format="PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(data, max_pixels=100_000_000).width == 10_000


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (224, 224), (225, 223), (90_000, 3)])
def test_any_shape_gives_a_crop_and_small_files(size: tuple[int, int]) -> None:
    picture = read(save(Image.new("RGB", size, (200, 30, 30)), format="PNG"))
    assert picture.pixels.shape == (224, 224, 3)
    assert difference(picture.pixels, np.full_like(picture.pixels, (200, 30, 30))) < 1
    assert picture.rendition is not None
    for data, side in ((picture.thumbnail, 256), (picture.rendition, 768)):
        with Image.open(io.BytesIO(data)) as small:
            assert max(small.size) == min(side, max(size))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (8, 8), (10, 20, 30, 1)), (254, 254, 254)),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 128)), (127, 127, 127)),
        (Image.new("RGBA", (2000, 1800), (0, 0, 0, 128)), (127, 127, 127)),
        (Image.new("LA", (8, 8), (60, 255)), (60, 60, 60)),
        (Image.new("L", (8, 8), 77), (77, 77, 77)),
        (Image.new("1", (8, 8), 1), (255, 255, 255)),
        (Image.new("1", (8, 8), 0), (0, 0, 0)),
        (Image.new("RGB", (8, 8), (1, 2, 3)).quantize(4), (1, 2, 3)),
        (Image.new("I;16", (8, 8), 0x8000), (128, 128, 128)),
        (Image.new("I;16", (8, 8), 0xFFFF), (255, 255, 255)),
    ],
)
def test_every_mode_of_png_ends_as_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    pixels = read(save(image, format="PNG")).pixels
    assert difference(pixels, np.full_like(pixels, expected)) <= 1


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("I", (8, 8), 40_000), (156, 156, 156)),
        (Image.new("I", (8, 8), 90), (90, 90, 90)),
        (Image.new("F", (8, 8), 0.5), (128, 128, 128)),
        (Image.new("F", (8, 8), float("nan")), (0, 0, 0)),
        (Image.new("I;16B", (8, 8), 0x8000), (128, 128, 128)),
    ],
)
def test_every_mode_of_tiff_ends_as_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    pixels = read(save(image, format="TIFF")).pixels
    assert difference(pixels, np.full_like(pixels, expected)) <= 2


def test_a_cmyk_jpeg_is_not_inverted() -> None:
    pixels = read(save(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), format="JPEG")).pixels
    assert difference(pixels, np.full_like(pixels, (255, 0, 0))) < 4


def test_16_bit_colour_and_transparent_palettes_are_read() -> None:
    rows = (b"\0" + struct.pack(">3H", 0x8000, 0x4000, 0xFFFF) * 4) * 4
    pixels = read(png((4, 4, 16, 2), (b"IDAT", zlib.compress(rows)))).pixels
    assert difference(pixels, np.full_like(pixels, (128, 64, 255))) <= 1
    palette = Image.new("P", (8, 8), 0)
    palette.putpixel((7, 7), 1)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    for name in ("PNG", "GIF"):
        assert read(save(palette, format=name, transparency=0)).pixels[0, 0].min() == 255
    colour_key = save(palette.convert("RGB"), format="PNG", transparency=(9, 9, 9))
    assert read(colour_key).pixels[0, 0].min() == 255


@pytest.mark.parametrize("name", ["gif", "webp", "png", "tiff"])
def test_of_an_animation_the_first_frame_counts(name: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "green")]
    picture = read(save(frames[0], format=name, save_all=True, append_images=frames[1:]))
    assert difference(picture.pixels, np.full_like(picture.pixels, (255, 0, 0))) < 3


def test_a_jpeg_with_more_pictures_behind_it_is_a_jpeg() -> None:
    first, second = photo(2000, 1500), photo(2000, 1500, seed=2)
    picture = read(save(first, format="MPO", save_all=True, append_images=[second], quality=90))
    assert (picture.format, picture.width, picture.height) == ("jpeg", 2000, 1500)
    assert difference(picture.pixels, read(save(first, format="JPEG", quality=90)).pixels) == 0


@pytest.mark.parametrize(
    ("name", "size"),
    [("jpeg", (2700, 1800)), *((name, (90, 60)) for name in ("jpeg", "png", "webp", "tiff", "avif", "heic"))],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_ends_upright(orientation: int, name: str, size: tuple[int, int]) -> None:
    upright = Image.new("RGB", size, "white")
    upright.paste("red", (0, 0, size[0] // 2, size[1] // 2))
    inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270} | {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        7: Image.Transpose.TRANSVERSE,
    }
    stored = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = read(save(stored, exif=exif.tobytes(), **SAVED[name]))
    assert (picture.width, picture.height) == size
    assert picture.pixels[20, 20, 1] < 60
    for row, column in ((20, -20), (-20, 20), (-20, -20)):
        assert picture.pixels[row, column, 1] > 200
    with Image.open(io.BytesIO(picture.thumbnail)) as thumbnail:
        assert thumbnail.width > thumbnail.height
        assert not thumbnail.getexif()


@pytest.mark.parametrize("keep", ["rendition", "original", "none"])
def test_what_is_kept_changes_neither_crop_nor_thumbnail(keep: str) -> None:
    data = make_photo(4, 2048, 1536)
    picture, reference = read(data, keep=keep), read(data)
    assert np.array_equal(picture.pixels, reference.pixels)
    assert np.array_equal(picture.pixels, open_query_image(data, CLIP, 10_000_000))
    assert picture.thumbnail == reference.thumbnail
    assert (picture.rendition is not None) is (keep == "rendition")


def test_rendition_and_thumbnail_show_the_whole_picture() -> None:
    source = photo(2048, 1536)
    picture = read(save(source, format="JPEG", quality=92))
    assert picture.rendition is not None
    kept = ((picture.rendition, "JPEG", (768, 576)), (picture.thumbnail, "WEBP", (256, 192)))
    for data, format_name, size in kept:
        with Image.open(io.BytesIO(data)) as small:
            assert (small.format, small.size) == (format_name, size)
            assert difference(np.asarray(small.convert("RGB")), np.asarray(source.resize(size))) < 8


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": 0, "restart_marker_blocks": 8}),
        ("RGB", {"format": "MPO", "save_all": True, "append_images": [Image.new("RGB", (64, 64))]}),
        ("L", {}),
        ("CMYK", {}),  # which only Pillow reads
    ],
)
def test_a_jpeg_decoded_between_the_halves_gives_the_crop_of_the_whole(
    mode: str, options: dict[str, Any]
) -> None:
    image = photo(2048, 1536).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = save(image, **{"format": "JPEG", "quality": 90, "exif": exif, **options})
    whole = Image.open(io.BytesIO(data)).convert("RGB").transpose(Image.Transpose.ROTATE_270)
    picture = read(data)
    assert (picture.width, picture.height) == (1536, 2048)
    assert difference(picture.pixels, read(save(whole, format="PNG")).pixels) < 0.6


def test_a_jpeg_decoded_between_the_halves_that_is_cut_off_is_corrupt() -> None:
    data = make_photo(1, 2048, 1536)
    with pytest.raises(ItemError) as refused:
        read(data[: len(data) // 2])
    assert refused.value.code == "corrupt_image"


def test_a_picture_s_comment_is_not_kept() -> None:
    picture = read(save(photo(64, 48), format="JPEG", comment=b"taken at home"))
    assert picture.rendition is not None
    assert b"at home" not in picture.rendition + picture.thumbnail


def test_made_photos_are_the_same_each_time_and_differ_by_seed() -> None:
    assert make_photo(5, 320, 240) == make_photo(5, 320, 240)
    assert difference(read(make_photo(5, 320, 240)).pixels, read(make_photo(6, 320, 240)).pixels) > 20
