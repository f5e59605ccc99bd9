"""Colours: what a file says that its numbers mean is what is seen, and nothing broken costs a picture.

What is expected is computed here by hand, from the matrices that standards print.
"""

import io
import random
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from shared.imaging import color_profiles
from shared.imaging.color_profiles import to_srgb
from shared.imaging.decode import open_query_image, open_stored
from tests.decoder_process import DecoderProcess
from tests.icc_profiles import (
    ADOBE,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    Floats,
    chain,
    converted,
    gray,
    icc,
    inked,
    lab_bytes,
    levels,
    linear,
    press,
    scanner,
)
from tests.mutations import damaged
from tests.sample_files import CHROMATICITIES, CODE_POINTS, GAMMA, png_with, samples
from tests.unit.shared.imaging.pictures import CLIP, SAVED, difference, photo, read, save

# Light of Display P3 as light of sRGB: https://www.w3.org/TR/css-color-4/#color-conversion-code
P3_TO_SRGB = np.array(
    [
        (1.2249401762805598, -0.2249401762805598, 0),
        (-0.0420569547096881, 1.0420569547096881, 0),
        (-0.0196375545903344, -0.0786360455506319, 1.0982736001409663),
    ]
)
# Light of Adobe RGB (1998) as XYZ (D65), section 4.3.6.1, and XYZ (D65) as light of sRGB, IEC 61966-2-1
ADOBE_TO_XYZ = np.array(
    [(0.57667, 0.18556, 0.18823), (0.29734, 0.62736, 0.07529), (0.02703, 0.07069, 0.99134)]
)
XYZ_TO_SRGB = np.array([(3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570)])
EMBEDDING = ("jpeg", "png", "webp", "tiff", "avif", "heic")
BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "noise": random.Random(1).randbytes(3000),
    "zeros": bytes(4 * 2**20),
    "cut off": DISPLAY_P3[:200],
    "cut off in its header": DISPLAY_P3[:130],
    "another size in its header": struct.pack(">I", 2**31) + DISPLAY_P3[4:140],
    "a million tags": DISPLAY_P3[:128] + struct.pack(">I", 10**6) + DISPLAY_P3[132:],
    "a link between devices": icc(b"link", b"RGB ", b"RGB ", {}),
    "named colours": icc(b"nmcl", b"RGB ", b"Lab ", {}),
    "no tags": icc(b"mntr", b"RGB ", b"XYZ ", {}),
    "of version 5": icc(b"mntr", b"RGB ", b"XYZ ", {}, 0x05000000),
    "of six inks": icc(b"prtr", b"6CLR", b"Lab ", {}),
    "of inks": press(3),
    "of greys": gray(1.0),
    "a table of too few inputs": press(3)[:16] + b"RGB " + press(3)[20:],
    "too large": DISPLAY_P3 + bytes(4 * 2**20),
}


def colours(count: int = 4096, channels: int = 3) -> Image.Image:
    """Any, each some pixels wide, the greys among them."""
    values = np.random.default_rng(1).integers(0, 256, (count, channels), np.uint8)
    values[:256] = np.arange(256)[:, None]
    return Image.fromarray(values.reshape(64, -1, channels), "CMYK" if channels == 4 else None)


def pixels(data: bytes) -> Floats:
    """Of a picture that is too small to be made smaller."""
    return np.asarray(open_stored(data, CLIP, 10**7), dtype=float)


def by_hand(image: Image.Image) -> Floats:
    """Display P3 as sRGB's levels."""
    return levels(linear(np.asarray(image, dtype=float)) @ P3_TO_SRGB.T)


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess("tests.icc_profiles.applied", deadline_s=20) as running:
        yield running


def test_display_p3_is_what_its_matrix_says() -> None:
    found = pixels(save(colours(), format="PNG", icc_profile=DISPLAY_P3))
    assert np.abs(found - by_hand(colours())).max() <= 2
    assert np.abs(np.asarray(colours()) - by_hand(colours())).max() > 20


def test_adobe_rgb_is_what_its_matrix_says() -> None:
    light = (np.asarray(colours()) / 255) ** (563 / 256)
    expected = levels(light @ ADOBE_TO_XYZ.T @ XYZ_TO_SRGB.T)
    found = pixels(save(colours(), format="PNG", icc_profile=ADOBE))
    assert difference(found, expected) < 0.5
    assert np.abs(found - expected).max() <= 4  # LittleCMS counts the darkest in steps of one


@pytest.mark.parametrize(
    "profile", [DISPLAY_P3, ADOBE, PROPHOTO, scanner()], ids=["p3", "adobe", "prophoto", "scanner"]
)
def test_greys_stay_grey(profile: bytes) -> None:
    grey = Image.linear_gradient("L")
    for image in (grey, grey.convert("RGB")):
        found = pixels(save(image, format="PNG", icc_profile=profile))
        assert np.ptp(found, axis=-1).max() <= (2 if profile == scanner() else 0)
        assert found[0].max() == 0
        assert found[-1].min() >= 254


@pytest.mark.parametrize("name", EMBEDDING)
@pytest.mark.parametrize("profile", [DISPLAY_P3, PROPHOTO, scanner()], ids=["p3", "prophoto", "scanner"])
def test_a_picture_looks_as_its_twin_in_every_format_that_holds_a_profile(name: str, profile: bytes) -> None:
    plain = photo(2000, 1200).convert("RGB").resize((500, 300))  # without grain, that each format blurs
    other = swapped(plain) if profile == scanner() else converted(plain, profile)
    twin = read(save(plain, **SAVED[name]))
    made = read(save(other, **SAVED[name], icc_profile=profile))
    ignored = read(save(other, **SAVED[name]))
    for one in ("pixels", "thumbnail", "rendition"):
        apart = difference(shown(made, one), shown(twin, one))
        assert apart < 4
        assert apart < difference(shown(ignored, one), shown(twin, one)) / 2
    assert set(made.colors) == set(twin.colors)
    assert bin(int(made.phash, 16) ^ int(twin.phash, 16)).count("1") <= 2


def swapped(image: Image.Image) -> Image.Image:
    return Image.merge("RGB", image.split()[::-1])


def shown(decoded: Any, name: str) -> Floats:
    value = getattr(decoded, name)
    return np.asarray(Image.open(io.BytesIO(value)) if isinstance(value, bytes) else value, dtype=float)


@pytest.mark.parametrize("size", [(300, 200), (2048, 1536), (3000, 2000)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_decoded_at_any_share_of_its_size_has_its_colours(size: tuple[int, int], mode: str) -> None:
    plain, profile = photo(*size).convert(mode), scanner() if mode == "RGB" else gray(1.0)
    whole = np.asarray(to_srgb(plain.copy(), profile))
    small = read(save(plain, format="JPEG", quality=95, icc_profile=profile))
    twin = read(save(Image.fromarray(whole), format="JPEG", quality=95))
    assert difference(small.pixels, twin.pixels) < 3
    assert difference(shown(small, "rendition"), shown(twin, "rendition")) < 5  # of grain, twice a JPEG


def test_what_is_saved_carries_no_profile_as_it_is_srgb() -> None:
    for size in ((200, 100), (3000, 2000)):
        made = read(save(photo(*size), format="JPEG", icc_profile=DISPLAY_P3))
        assert made.rendition is not None
        for data in (made.thumbnail, made.rendition):
            assert not Image.open(io.BytesIO(data)).info.get("icc_profile")
            assert b"acsp" not in data


def test_a_query_and_a_heat_map_have_the_colours_of_what_is_indexed() -> None:
    data = samples()["jpeg, of a press"]
    assert np.array_equal(open_query_image(data, CLIP, 10**6), read(data).pixels)
    data = save(Image.new("RGB", (900, 900), (255, 0, 0)), format="PNG", icc_profile=scanner())
    assert difference(np.asarray(open_stored(data, CLIP, 10**6))[0, 0], np.array([0, 0, 255])) < 4


# Greys, inks, L*a*b*


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile_is_a_greys_and_leaves_transparency(mode: str) -> None:
    grey = Image.linear_gradient("L")
    light = (np.arange(256.0) / 255) ** 1.8
    image = grey.copy() if mode == "L" else Image.merge("LA", [grey, Image.new("L", grey.size, 51)])
    expected = levels(light) if mode == "L" else levels(light) * 0.2 + 255 * 0.8
    for name in ("PNG", "TIFF"):
        found = pixels(save(image, format=name, icc_profile=gray(1.8)))
        assert np.abs(found - expected[:, None, None]).max() <= 3


def test_deep_and_one_bit_greys_and_a_transparent_level_have_their_profile_too() -> None:
    deep = Image.fromarray(np.full((20, 20), 0x8000, np.uint16))
    expected = levels(np.array((128 / 255) ** 1.0))
    data = save(deep, format="PNG", icc_profile=gray(1.0))
    if pixels(save(deep, format="PNG")).max() == 128:  # whatever the white level is
        assert np.abs(pixels(data) - expected).max() <= 2
    keyed = save(Image.new("L", (20, 20), 128), format="PNG", icc_profile=gray(1.0), transparency=3)
    assert np.abs(pixels(keyed) - expected).max() <= 2
    for white in (0, 1):
        bits = save(Image.new("1", (20, 20), white), format="PNG", icc_profile=gray(1.0))
        assert pixels(bits).max() == white * 255


def test_a_grey_picture_with_a_profile_of_rgb_is_rgb_first() -> None:
    data = save(Image.new("L", (20, 20), 100), format="PNG", icc_profile=PROPHOTO)
    assert np.abs(pixels(data) - levels(np.array((100 / 255) ** 1.8))).max() <= 2


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_a_profile_is_of_a_palettes_colours_and_leaves_transparency(mode: str) -> None:
    image = colours().convert("RGB").quantize(200) if mode == "P" else colours().copy()
    plain = image.convert("RGB")
    if mode == "RGBA":
        image.putalpha(51)
    expected = by_hand(plain) if mode == "P" else by_hand(plain) * 0.2 + 255 * 0.8
    found = pixels(save(image, format="PNG", icc_profile=DISPLAY_P3))
    assert np.abs(found - expected).max() <= 2
    masked = image.copy()
    masked.info["transparency"] = 0
    found = pixels(save(masked, format="PNG", icc_profile=DISPLAY_P3))
    assert difference(found, expected) < 5


@pytest.mark.parametrize("name", ["TIFF", "JPEG"])
def test_inks_are_what_the_press_makes_of_them(name: str) -> None:
    inks = np.array(
        [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (255, 255, 0, 0), (96, 32, 160, 32)]
    )
    tiles = Image.fromarray(np.repeat(np.repeat(inks[None].astype(np.uint8), 32, 0), 32, 1), "CMYK")
    options: dict[str, Any] = {"quality": 100, "subsampling": 0} if name == "JPEG" else {}
    found = pixels(save(tiles, format=name, icc_profile=press(), **options))[16, 16::32]
    assert np.abs(found - inked(inks / 255)).max() <= 12  # of a coarse table, its black moved to black
    plain = pixels(save(tiles, format=name, **options))[16, 16::32]
    assert np.abs(plain[1] - (0, 255, 255)).max() <= 2


def test_no_ink_is_white_and_all_ink_is_black() -> None:
    both = Image.merge("CMYK", [Image.linear_gradient("L")] * 4)
    found = pixels(save(both, format="TIFF", icc_profile=press()))
    assert found[0].min() >= 254
    assert found[-1].max() <= 2


@pytest.mark.parametrize("kind", ["adobe", "ycck"])
def test_inverted_inks_of_adobe_are_turned_before_their_profile(kind: str) -> None:
    name = {"adobe": "jpeg, CMYK", "ycck": "jpeg, YCCK"}[kind]
    data = samples()[name]
    image = Image.open(io.BytesIO(data))
    assert b"Adobe" in data
    expected = to_srgb(image.copy(), press())
    segment = b"ICC_PROFILE\0\1\1" + press()
    embedded = data[:2] + b"\xff\xe2" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    assert difference(pixels(embedded), np.asarray(expected)) < 1


def test_lab_is_read() -> None:
    rgb = np.asarray(colours(), dtype=float)
    planes = [Image.fromarray(plane) for plane in np.moveaxis(lab_bytes(rgb), -1, 0)]
    data = save(Image.merge("LAB", planes), format="TIFF")
    assert difference(pixels(data), rgb) < 3  # eight bits of a* and b* are coarse
    assert np.ptp(pixels(data).reshape(-1, 3)[:256], axis=-1).max() <= 4
    large = Image.merge("LAB", [Image.new("L", (3000, 2000), value) for value in (136, 208, 195)])
    assert difference(read(save(large, format="TIFF")).pixels[100, 100], np.array([255, 0, 0])) < 8


# Colours that are said without a profile


def avif_of(code_points: bytes, name: str = "AVIF") -> bytes:
    data = save(colours(), format=name, quality=100, **({"subsampling": "4:4:4"} if name == "AVIF" else {}))
    place = data.index(b"colrnclx") + 8
    return data[:place] + code_points + data[place + 4 :]


@pytest.mark.parametrize("name", ["AVIF", "HEIF"])
def test_code_points_of_avif_and_heic_are_followed(name: str) -> None:
    plain = pixels(avif_of(bytes([0, 1, 0, 13]), name))
    for curve in (1, 13):
        found = pixels(avif_of(bytes([0, 12, 0, curve]), name))
        assert np.abs(found - levels(linear(plain) @ P3_TO_SRGB.T)).max() <= 2
    for others in ((0, 1, 0, 1), (0, 2, 0, 2), (0, 12, 0, 16)):  # unknown, and HDR
        assert np.array_equal(pixels(avif_of(bytes(others), name)), plain)


def test_code_points_and_chromaticities_of_png_are_followed() -> None:
    plain, values = save(colours(), format="PNG"), np.asarray(colours(), dtype=float)
    p3, srgb = by_hand(colours()), (b"sRGB", b"\0")
    linear_gamma, usual = (b"gAMA", struct.pack(">I", 100_000)), (b"gAMA", struct.pack(">I", 45_455))
    expectations: list[tuple[tuple[tuple[bytes, bytes], ...], Floats]] = [
        ((CODE_POINTS,), p3),
        ((CODE_POINTS, linear_gamma), p3),
        ((CHROMATICITIES,), p3),
        ((CHROMATICITIES, usual), p3),
        ((usual,), values),
        ((linear_gamma,), levels(values / 255)),
        ((GAMMA,), levels((values / 255) ** 1.8)),
        ((srgb, CHROMATICITIES, GAMMA), values),
        (((b"cICP", bytes([9, 16, 0, 1])),), values),
        (((b"cICP", b"\x0c"),), values),
        (((b"cHRM", bytes(32)),), values),
        (((b"cHRM", b"\xff" * 32), GAMMA), values),
        (((b"gAMA", bytes(4)),), values),
    ]
    for chunks, expected in expectations:
        assert np.abs(pixels(png_with(plain, *chunks)) - expected).max() <= 3, chunks
    own = save(colours(), format="PNG", icc_profile=SRGB)
    assert np.array_equal(pixels(png_with(own, CODE_POINTS, CHROMATICITIES)), values)


@pytest.mark.parametrize(
    ("space", "interop", "wide"),
    [(0xFFFF, "R03", True), (2, None, True), (1, "R03", False), (1, "R98", False), (0xFFFF, "R98", False)],
)
def test_adobe_rgb_as_cameras_say_it_without_a_profile(space: int, interop: str | None, wide: bool) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = space
    if interop:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: interop}
    image = Image.new("RGB", (64, 64), (60, 200, 60))
    twin = save(image, format="JPEG", quality=100, **({"icc_profile": ADOBE} if wide else {}))
    assert np.array_equal(pixels(save(image, format="JPEG", quality=100, exif=exif)), pixels(twin))


# What must cost nothing


@pytest.mark.parametrize("profile", [SRGB, None])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_srgb_changes_no_pixel(profile: bytes | None, mode: str) -> None:
    image = colours().convert(mode)
    assert to_srgb(image, profile) is image
    assert np.array_equal(pixels(save(image, format="PNG", icc_profile=profile)), np.asarray(colours()))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_profile_is_ignored(name: str, decoder: DecoderProcess) -> None:
    profile = BROKEN[name]
    for mode in ("RGB", "RGBA", "P"):
        image = colours().convert(mode)
        assert to_srgb(image.copy(), profile).convert("RGB").tobytes() == image.convert("RGB").tobytes()
    data = save(photo(100, 80), format="JPEG", quality=90, icc_profile=profile[: 255 * 65519])
    assert np.array_equal(read(data).pixels, read(save(photo(100, 80), format="JPEG", quality=90)).pixels)
    assert decoder.read(profile).kind == "picture"


def test_a_profile_of_others_pixels_is_ignored() -> None:
    for mode, profile in (("CMYK", DISPLAY_P3), ("CMYK", gray(1.0)), ("L", press(3)), ("RGB", press(3))):
        image = colours(channels=4) if mode == "CMYK" else colours().convert(mode)
        assert to_srgb(image.copy(), profile).tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize(
    "build",
    [
        lambda: chain(20_000),
        lambda: press(26),
        lambda: scanner(100),
        lambda: claiming(press(3), 80),  # for which LittleCMS takes memory, and reads then
        lambda: claiming(scanner(3), 255),
    ],
    ids=["chain", "inks", "table", "inks claimed", "table claimed"],
)
def test_a_costly_profile_is_bounded_in_time_and_memory(
    build: Callable[[], bytes], decoder: DecoderProcess
) -> None:
    assert decoder.read(SRGB).kind == "picture"
    ending = decoder.read(build())
    assert ending.kind == "picture", ending
    assert ending.seconds < 5
    assert ending.peak_bytes < 40 * 2**20


def claiming(profile: bytes, grid: int) -> bytes:
    """A profile whose table is said to be larger than it is."""
    place = profile.index(b"mft1") + 10
    return profile[:place] + bytes([grid]) + profile[place + 1 :]


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_damaged_profiles_do_no_harm(start: int, decoder: DecoderProcess) -> None:
    sound = (DISPLAY_P3, ADOBE, SRGB, gray(1.8), press(5), scanner(9), chain(3))
    for seed in range(start, start + 100):
        rng = random.Random(seed)
        ending = decoder.read(bytes(damaged(rng, rng.choice(sound))))
        assert ending.kind == "picture", (seed, ending)


def test_what_was_made_of_profiles_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(color_profiles, "_cached", {})
    image = Image.new("RGB", (1, 1), (0, 0, 200))
    first = to_srgb(image.copy(), DISPLAY_P3).getpixel((0, 0))
    for number in range(100):
        to_srgb(image.copy(), DISPLAY_P3 + bytes([number]))
        assert len(color_profiles._cached) <= 32
    started = time.process_time()
    for _ in range(100):
        assert to_srgb(image.copy(), DISPLAY_P3).getpixel((0, 0)) == first
    assert time.process_time() - started < 0.2


def test_threads_share_what_was_made_of_a_profile() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (400, 400, 3), np.uint8))
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: to_srgb(image.copy(), scanner()).tobytes(), range(64)))
    assert len(set(made)) == 1


def test_strips_are_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo(900, 700).convert("RGB")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = save(image, format="PNG", icc_profile=DISPLAY_P3)
    whole = read(data)
    monkeypatch.setattr("shared.imaging.to_rgb._STRIP_PIXELS", 900 * 64)
    assert np.array_equal(read(data).pixels, whole.pixels)
