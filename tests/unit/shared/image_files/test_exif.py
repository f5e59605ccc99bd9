"""EXIF: when and where a picture was taken, whatever else is damaged in it."""

import struct
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from shared.image_files.exif import read_exif
from tests.unit.shared.imaging.pictures import SAVED, photo, read, save

# Pillow warns of the damage that these tests do on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def exif_of(camera: dict[int, Any], gps: dict[int, Any]) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "A camera"
    exif.get_ifd(ExifTags.IFD.Exif).update(camera)
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    return exif


ZURICH = {1: "N", 2: (47.0, 22.0, 30.0), 3: "E", 4: (8.0, 30.0, 0.0)}
NOON = {ExifTags.Base.DateTimeOriginal: "2024:06:01 12:00:00"}
FIRST = {ExifTags.Base.DateTimeOriginal: "0001:01:01 00:00:00"}
LAST = {ExifTags.Base.DateTimeOriginal: "9999:12:31 23:59:59"}


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "avif", "heic"])
def test_time_and_place_are_read(name: str) -> None:
    camera = NOON | {ExifTags.Base.OffsetTimeOriginal: "+02:00"}
    exif = exif_of(camera, ZURICH).tobytes()
    picture = read(save(photo(64, 48), exif=exif, **{**SAVED[name], "compression": None}))
    assert picture.taken_at == 1717236000.0
    assert picture.lat == pytest.approx(47.375)
    assert picture.lon == pytest.approx(8.5)


@pytest.mark.parametrize(
    ("camera", "taken_at"),
    [
        (NOON, 1717243200.0),
        (NOON | {ExifTags.Base.OffsetTimeOriginal: "-05:30"}, 1717263000.0),
        (NOON | {ExifTags.Base.OffsetTimeOriginal: "local"}, 1717243200.0),
        ({ExifTags.Base.DateTimeOriginal: "0000:00:00 00:00:00"}, None),
        (NOON | {ExifTags.Base.OffsetTimeOriginal: "+99:99"}, 1717243200.0),
        (FIRST, -62135596800.0),
        (FIRST | {ExifTags.Base.OffsetTimeOriginal: "+01:00"}, None),
        (LAST, 253402300799.0),
        (LAST | {ExifTags.Base.OffsetTimeOriginal: "-05:00"}, None),
        ({ExifTags.Base.DateTimeOriginal: "yesterday"}, None),
        ({ExifTags.Base.DateTimeOriginal: ""}, None),
        ({}, None),
    ],
)
def test_a_time_without_offset_is_utc_and_what_cannot_be_told_is_none(
    camera: dict[int, Any], taken_at: float | None
) -> None:
    assert read(save(photo(64, 48), exif=exif_of(camera, {}), format="JPEG")).taken_at == taken_at


@pytest.mark.parametrize(
    ("gps", "place"),
    [
        (ZURICH | {1: "S", 3: "W"}, (-47.375, -8.5)),
        (ZURICH | {2: (97.0, 0.0, 0.0)}, None),
        (ZURICH | {4: (181.0, 0.0, 0.0)}, None),
        (ZURICH | {2: (47.0, 22.0)}, None),
        ({1: "N", 2: (47.0, 22.0, 30.0)}, None),
        (ZURICH | {2: (TiffImagePlugin.IFDRational(0, 0),) * 3}, None),
    ],
)
def test_a_place_is_both_numbers_or_none(gps: dict[int, Any], place: tuple[float, float] | None) -> None:
    picture = read(save(photo(64, 48), exif=exif_of({}, gps), format="JPEG"))
    if place is None:
        assert (picture.lat, picture.lon) == (None, None)
    else:
        assert (picture.lat, picture.lon) == pytest.approx(place)


def test_damaged_exif_does_not_cost_the_picture() -> None:
    good = exif_of(NOON, ZURICH).tobytes()
    rng = np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(good)
        for position in rng.integers(6, len(good), 3):
            damaged[position] = int(rng.integers(0, 256))
        picture = read(save(Image.new("RGB", (16, 12)), format="JPEG", exif=bytes(damaged)), keep="none")
        assert sorted((picture.width, picture.height)) == [12, 16]
        assert picture.lat is None or -90 <= picture.lat <= 90


def test_a_reader_that_raises_yields_empty_exif() -> None:
    class Broken(Image.Image):
        def getexif(self) -> Image.Exif:
            raise struct.error("broken")

    assert read_exif(Broken()).transpose is None
