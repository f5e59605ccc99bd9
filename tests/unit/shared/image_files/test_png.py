"""PNGs whose other chunks are wrong: what they look like is read as of a sound one."""

import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from shared.errors import ItemError
from tests.icc_profiles import DISPLAY_P3
from tests.sample_files import CHROMATICITIES, CODE_POINTS, chunk, png, png_with
from tests.unit.shared.imaging.pictures import failure, photo, read, save

# Pillow warns of the damage that these tests do on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

PHOTO = save(photo(96, 64), format="PNG")
PALETTE = save(photo(96, 64).quantize(16), format="PNG")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description '
    b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreateDate="2020-01-01T00:00:00Z"/></r:RDF>'
)
CHUNKS = {
    b"tEXt": b"Comment\0hello",
    b"zTXt": b"long\0\0" + zlib.compress(b"z" * 500),
    b"iTXt": b"Title\0\0\0\0\0x",
    b"iCCP": b"sRGB\0\0" + zlib.compress(PROFILE),
    b"tRNS": bytes(6),
    b"gAMA": struct.pack(">I", 45_455),
    b"cHRM": bytes(32),
    b"sRGB": b"\0",
    b"cICP": b"\1\15\0\1",
    b"pHYs": bytes(9),
    b"tIME": b"\x07\xe8\x06\x01\x0c\0\0",
    b"eXIf": b"II*\0\x08\0\0\0\0\0",
    b"acTL": struct.pack(">II", 3, 0),
    b"fcTL": bytes(26),
    b"caBX": b"c2pa",
    b"vpAg": bytes(9),
}


def wrong(name: bytes, body: bytes) -> bytes:
    whole = chunk(name, body)
    return whole[:-1] + bytes([whole[-1] ^ 1])


def behind(data: bytes, more: bytes) -> bytes:
    end = data.rindex(b"IEND") - 4
    return data[:end] + more + data[end:]


def assert_same(data: bytes, sound: bytes = PHOTO) -> None:
    assert np.array_equal(read(data).pixels, read(sound).pixels)


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize(
    "made", [wrong, lambda name, body: chunk(name, body[:1]), lambda name, _: chunk(name, b"")]
)
def test_a_chunk_that_makes_no_pixels_costs_itself_alone(name: bytes, made: Any) -> None:
    one = made(name, CHUNKS[name])
    assert_same(PHOTO[:33] + one + PHOTO[33:])
    assert_same(behind(PHOTO, one))


@pytest.mark.parametrize("length", [0, 3, 60, 2**31 - 1, 2**32 - 1])
def test_a_wrong_length_of_such_a_chunk_costs_itself_alone(length: int) -> None:
    assert_same(PHOTO[:33] + struct.pack(">I", length) + wrong(b"tEXt", b"a\0comment")[4:] + PHOTO[33:])


@pytest.mark.parametrize(
    "body",
    [b"a\0\0" + zlib.compress(bytes(2**22)), b"a\0\0no zlib", b"a\0\7unknown"],
    ids=["long", "bad", "other"],
)
@pytest.mark.parametrize("name", [b"zTXt", b"iCCP"])
def test_what_is_too_long_or_not_unpacked_is_left_out(name: bytes, body: bytes) -> None:
    assert_same(png_with(PHOTO, (name, body)))
    assert_same(behind(PHOTO, chunk(name, body)))


def test_what_says_how_it_looks_is_kept() -> None:
    exif = Image.Exif()
    exif[274] = 6
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x/>"
    turned = save(photo(96, 64), format="PNG", exif=exif.tobytes(), icc_profile=PROFILE)
    damaged = png_with(turned, (b"iTXt", xmp), (b"tRNS", bytes(6)))
    damaged = png_with(damaged, (b"tEXt", b"a\0b"), wrong=True)
    picture = read(damaged)
    assert (picture.width, picture.height) == (64, 96)
    assert_same(damaged, png_with(turned, (b"tRNS", bytes(6))))


@pytest.mark.parametrize("name", [b"gAMA", b"cHRM", b"sRGB", b"cICP", b"iCCP"])
def test_damage_elsewhere_changes_no_colours(name: bytes) -> None:
    bodies = CHUNKS | {b"gAMA": struct.pack(">I", 100_000), CHROMATICITIES[0]: CHROMATICITIES[1]}
    bodies |= {b"iCCP": b"P3\0\0" + zlib.compress(DISPLAY_P3), CODE_POINTS[0]: CODE_POINTS[1]}
    coloured = png_with(PHOTO, (b"gAMA", bodies[b"gAMA"])) if name == b"sRGB" else PHOTO
    coloured = png_with(coloured, (name, bodies[name]))
    assert_same(png_with(coloured, (b"tEXt", b"a\0b"), wrong=True), coloured)


@pytest.mark.parametrize(
    "text",
    [
        (
            b"zTXt",
            b"Raw profile type xmp\0\0" + zlib.compress(b"\nxmp\n%d\n" % len(XMP) + XMP.hex().encode()),
        ),
        (b"tEXt", b"Raw profile type APP1\0\nAPP1\n9\n" + XMP.hex().encode()),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    ],
    ids=["xmp", "APP1", "deflated", "plain"],
)
def test_damage_elsewhere_costs_no_time_of_taking(text: tuple[bytes, bytes]) -> None:
    assert read(png_with(png_with(PHOTO, text), (b"tEXt", b"a\0b"), wrong=True)).taken_at == 1_577_836_800


@pytest.mark.parametrize(("mode", "size"), [("L", (64, 64)), ("L", (128, 128)), ("RGBA", (2, 16_000))])
def test_damage_elsewhere_costs_no_row_of_a_drawing(mode: str, size: tuple[int, int]) -> None:
    """Many of its rows are in its last bytes."""
    image = Image.new(mode, size)
    image.paste(1 if mode == "L" else (9,) * 4, (0, 0, size[0] // 2, size[1] // 3))
    drawing = save(image, format="PNG")
    assert_same(png_with(drawing, (b"tEXt", b"a\0b"), wrong=True), drawing)


@pytest.mark.parametrize("cut", [1, 8, 12, 16, 19])
def test_one_that_lacks_its_end_and_checksums_is_whole(cut: int) -> None:
    assert_same(PHOTO[:-cut])
    assert_same(behind(PHOTO, chunk(b"tEXt", b"a\0" + bytes(90)))[: -cut - 12])


@pytest.mark.parametrize("cut", [40, 600])
def test_one_that_is_cut_off_says_so(cut: int) -> None:
    with pytest.raises(ItemError, match="cut off") as caught:
        read(PHOTO[:-cut])
    assert caught.value.code == "corrupt_image"


@pytest.mark.parametrize("tail", [b"junk" * 99, b"IDAT" * 99, PHOTO, wrong(b"tEXt", b"x")])
def test_what_stands_behind_the_end_means_nothing(tail: bytes) -> None:
    assert_same(PHOTO + tail)
    assert_same(png_with(PHOTO, (b"tEXt", b"x"), wrong=True) + tail)


def test_a_wrong_checksum_of_all_pixels_costs_nothing_where_their_chunks_are_right() -> None:
    place = PHOTO.index(b"IDAT")
    body = PHOTO[place + 4 : place + 4 + int.from_bytes(PHOTO[place - 4 : place])]
    assert_same(PHOTO[: place - 4] + chunk(b"IDAT", body[:-1] + bytes([body[-1] ^ 1])) + chunk(b"IEND", b""))


@pytest.mark.parametrize("data", [PHOTO, PALETTE], ids=["header", "palette"])
def test_what_the_pixels_need_must_be_right(data: bytes) -> None:
    place = data.index(b"PLTE" if b"PLTE" in data else b"IHDR") + 9
    for other in (data, png_with(data, (b"tEXt", b"x"), wrong=True)):
        assert failure(other[:place] + bytes([other[place] ^ 1]) + other[place + 1 :]) == "corrupt_image"
    middle = data.index(b"IDAT") + 60
    assert failure(data[:middle] + bytes(9) + data[middle + 9 :]) == "corrupt_image"
    assert failure(png((8, 8, 8, 2), (b"tEXt", b"x"))) == "corrupt_image"
    assert failure(png((1, 1, 8, 3), (b"IDAT", zlib.compress(bytes(2))))) == "corrupt_image"


def test_an_animation_with_a_wrong_frame_is_its_first_picture() -> None:
    animated = save(photo(96, 64), format="PNG", save_all=True, append_images=[photo(96, 64, 2)])
    for name in (b"acTL", b"fcTL", b"fdAT"):
        place = animated.index(name)
        assert_same(animated[: place + 4] + b"\xff" * 4 + animated[place + 8 :])


def test_a_sound_one_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("image_files.formats", "imaging.decode"):
        monkeypatch.setattr(f"shared.{module}.only_pixels", lambda _: pytest.fail("it is sound"))
    assert read(PHOTO).format == "png"


@pytest.mark.parametrize(
    "more",
    [
        wrong(b"teSt", b"") * 95_000,
        wrong(b"tRNS", b"") * 95_000,
        wrong(b"tEXt", b"x") + chunk(b"eXIf", b"") * 95_000,
        wrong(b"tEXt", b"x") + chunk(b"IDAT", b"") * 95_000,
        b"\0\0\0\xfftEXtab" * 95_000,
        b"\xff\0\0\0teSt" + b"abcdIDAT" * 95_000,
    ],
    ids=["chunks", "transparency", "EXIF", "pixels", "lengths", "names"],
)
def test_many_of_them_take_no_longer_than_they_are_long(more: bytes) -> None:
    started = time.monotonic()
    try:
        read(PHOTO[:33] + more + PHOTO[33:])
    except ItemError as error:
        assert error.code == "corrupt_image"
    assert time.monotonic() - started < 20
