"""Which TIFFs are read, which kinds are named, and that damage is called damage."""

import zlib
from typing import Any

import numpy as np
import pytest

from shared.image_files.formats import open_image
from tests.sample_files import SIZE, samples
from tests.tiff_files import Tags, picture, tiff_file
from tests.unit.shared.imaging.pictures import difference, read, refusal, save

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
WIDTH, HEIGHT = SIZE
ENOUGH = bytes(700_000)


def kind_of(data: bytes) -> str:
    error = refusal(data)
    assert error.code == "unsupported_format", error
    return error.detail


def odd(start: int = 8, **tags: Any) -> bytes:
    return tiff_file(picture(**tags, start=start), ENOUGH)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (34712, "JPEG 2000"), (33003, "JPEG 2000"), (34887, "LERC"), (50001, "WebP"), (50002, "JPEG XL"),
        (52546, "JPEG XL"), (34661, "JBIG"), (9, "JBIG"), (34933, "PNG"), (34934, "JPEG XR"),
        (34676, "SGI LogLuv"), (32909, "the method of Pixar"), (12345, "an unknown method (12345)"),
    ],
)  # fmt: skip
def test_a_compression_that_is_not_read_is_named(number: int, name: str) -> None:
    said = f"a TIFF compressed with {name} is not read: save it with LZW, Deflate or none"
    assert kind_of(odd(compression=number)) == said


@pytest.mark.parametrize(
    ("tags", "pixels"),
    [
        ({"bits": 32}, "3 samples of 32 bits (RGB)"),
        ({"bits": 32, "t339": 3}, "3 samples of 32 bits (RGB, floating point)"),
        ({"bits": 16, "t339": 2}, "3 samples of 16 bits (RGB, signed)"),
        ({"colours": 1, "bits": 64, "samples": 1, "t339": 3}, "1 sample of 64 bits (grey, floating point)"),
        ({"colours": 1, "bits": 64, "samples": 1, "t339": 6}, "1 sample of 64 bits (grey, complex)"),
        ({"colours": 1, "samples": 7, "t338": (0,) * 6}, "7 samples of 8 bits (grey)"),
        ({"colours": 1, "samples": 200, "t338": (0,) * 199}, "200 samples of 8 bits (grey)"),
        ({"colours": 4, "bits": 1, "samples": 1}, "1 sample of 1 bit (a mask)"),
        ({"colours": 9}, "3 samples of 8 bits (ICC LAB)"),
        ({"colours": 6}, "3 samples of 8 bits (YCbCr)"),
        ({"colours": 32845, "bits": 16}, "3 samples of 16 bits (LogLuv)"),
        ({"colours": 5, "samples": 5, "t338": 2}, "5 samples of 8 bits (CMYK)"),
        ({"colours": 5, "samples": 4, "bits": 16, "t284": 2}, "4 samples of 16 bits (CMYK, in planes)"),
        ({"samples": 4, "t338": 0, "t284": 2}, "4 samples of 8 bits (RGB, in planes)"),
        ({"samples": 4, "bits": 16, "t338": 0, "t284": 2}, "4 samples of 16 bits (RGB, in planes)"),
    ],
)
def test_pixels_that_are_not_read_are_described(tags: Any, pixels: str) -> None:
    tags = {"colours": 2, **tags}
    data = picture(**tags)
    if tags["colours"] == 6:  # half as many colours as pixels
        data[279] = WIDTH * HEIGHT * 3 // 2
    if data.get(284) == 2:
        plane = data[279] // data[277]
        data |= {273: tuple(8 + plane * place for place in range(data[277])), 279: (plane,) * data[277]}
    said = f"a TIFF of {pixels} is not read: save it as RGB or grey of 8 or 16 bits"
    assert kind_of(tiff_file(data, ENOUGH)) == said


def test_a_big_endian_bigtiff_is_named() -> None:
    data = tiff_file(picture(start=16), ENOUGH, ">", big=True)
    assert kind_of(data) == "a BigTIFF of big-endian byte order is not read: save it in the other order"


def test_a_kind_of_jpeg_within_is_named() -> None:
    jpeg = samples()["jpeg, grey"]
    place = jpeg.index(b"\xff\xc0") + 4
    deep = jpeg[:place] + b"\x0c" + jpeg[place + 1 :]
    tags = picture(1, 8, 1, 7) | {279: len(deep)}
    assert kind_of(tiff_file(tags, deep)) == (
        "a TIFF that holds a JPEG of 12 bits a sample is not read: save it with LZW, Deflate or none"
    )


@pytest.mark.parametrize(
    "data",
    [
        odd(bits=32)[:-40],  # its directory is cut off
        tiff_file(picture(bits=32)),  # its pixels are not there
        tiff_file(picture(compression=34712) | {273: 2**31}, ENOUGH),
        tiff_file(picture() | {256: 0}, ENOUGH),
        tiff_file(picture(samples=65_535), ENOUGH),
        tiff_file(picture(bits=0), ENOUGH),
        tiff_file(picture(colours=777, bits=32), ENOUGH),
        tiff_file({key: value for key, value in picture().items() if key != 273}, ENOUGH),
        tiff_file(picture(compression=8), ENOUGH),
        tiff_file(picture(compression=7), ENOUGH),
        tiff_file(picture(colours=1, bits=8, samples=1, compression=8) | {279: 9}, zlib.compress(b"")),
    ],
)
def test_what_is_damaged_is_called_damaged(data: bytes) -> None:
    assert refusal(data).code == "corrupt_image"


LEVELS = np.linspace(0, 1, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["f4", "i4"])
def test_deep_grey_is_the_same_in_either_byte_order(dtype: str, order: str, compression: int) -> None:
    """Of a compressed big-endian file Pillow took the bytes the wrong way round."""
    values = LEVELS if dtype == "f4" else (LEVELS * 65_535).round()
    pixels = values.astype(order + dtype).tobytes()
    pixels = zlib.compress(pixels) if compression == 8 else pixels
    tags = picture(1, 32, 1, compression, t339=3 if dtype == "f4" else 2) | {279: len(pixels)}
    expected = save(
        open_image(tiff_file(picture(1, 8, 1), (LEVELS * 255).astype("u1").tobytes())), format="PNG"
    )
    assert difference(read(tiff_file(tags, pixels, order)).pixels, read(expected).pixels) < 2


@pytest.mark.parametrize("bits", [16, 12])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [1, 8])
def test_planes_of_16_bits_are_read_as_such(order: str, compression: int, bits: int) -> None:
    """Without compression Pillow took each for two of 8."""
    planes = [LEVELS, LEVELS[::-1], LEVELS[:, ::-1]]
    parts = [(plane * (2**bits - 1)).round().astype(order + "u2").tobytes() for plane in planes]
    parts = [zlib.compress(part) if compression == 8 else part for part in parts]
    places = tuple(8 + sum(len(part) for part in parts[:place]) for place in range(3))
    tags: Tags = picture(2, 16, 3, compression, t284=2) | {
        273: places,
        279: tuple(len(part) for part in parts),
    }
    whole = np.stack([(plane * 255).round() for plane in planes], -1).astype("u1")
    expected = tiff_file(picture(), whole.tobytes())
    most = 2 if bits == 16 or compression == 1 else 8  # of compressed planes the high bytes alone can be had
    assert difference(read(tiff_file(tags, b"".join(parts), order)).pixels, read(expected).pixels) < most


def test_ycbcr_of_whole_colours_is_read() -> None:
    assert read(tiff_file(picture(6), bytes([128]) * WIDTH * HEIGHT * 3)).colors == ["gray"]
