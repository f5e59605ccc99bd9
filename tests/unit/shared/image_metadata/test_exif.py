"""EXIF: when and where a picture was taken, whatever else is damaged in it."""

import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from shared.image_metadata.exif import Exif, read_exif
from tests.sample_files import chunk
from tests.unit.shared.imaging.pictures import SAVED, photo, read, save

# Pillow warns of the damage that these tests do on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def plain(name: str) -> dict[str, Any]:
    """How to save a format; with its compression, Pillow writes no directories into a TIFF."""
    options: Any = SAVED[name]
    return {**options, "compression": None}


def exif_of(camera: dict[int, Any], gps: dict[int, Any]) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "A camera"
    exif.get_ifd(ExifTags.IFD.Exif).update(camera)
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    return exif


ZURICH: dict[int, Any] = {1: "N", 2: (47.0, 22.0, 30.0), 3: "E", 4: (8.0, 30.0, 0.0)}
NOON: dict[int, Any] = {ExifTags.Base.DateTimeOriginal: "2024:06:01 12:00:00"}
FIRST: dict[int, Any] = {ExifTags.Base.DateTimeOriginal: "0001:01:01 00:00:00"}
LAST: dict[int, Any] = {ExifTags.Base.DateTimeOriginal: "9999:12:31 23:59:59"}


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "avif", "heic"])
def test_time_and_place_are_read(name: str) -> None:
    camera = NOON | {ExifTags.Base.OffsetTimeOriginal: "+02:00"}
    exif = exif_of(camera, ZURICH).tobytes()
    picture = read(save(photo(64, 48), exif=exif, **plain(name)))
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
        (ZURICH | {2: (47.375,), 4: (8.0, 30.0)}, (47.375, 8.5)),
        (ZURICH | {1: "n", 3: "East"}, (47.375, 8.5)),
        (ZURICH | {2: (0.0, 0.0, 0.0)}, (0.0, 8.5)),
        (ZURICH | {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}, None),
        (ZURICH | {1: "E", 3: "N"}, None),
        (ZURICH | {3: ""}, None),
        (ZURICH | {2: (47.0, 22.0, 30.0, 0.0)}, None),
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


def of_other_types(north: str, longitude: str | list[int], side: str) -> bytes:
    """EXIF with places as no camera is to write them: as a text, as signed fractions."""
    values = [(1, 2, b"N\0"), (2, 2, north.encode() + b"\0"), (3, 2, side.encode() + b"\0")]
    if isinstance(longitude, str):
        values.append((4, 2, longitude.encode() + b"\0"))
    else:
        values.append((4, 10, struct.pack("<6i", *(part for number in longitude for part in (number, 1)))))
    head = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 34853, 4, 1, 26, 0)
    entries, data = b"", b""
    for tag, kind, value in values:
        place = struct.pack("<I", 26 + 2 + 12 * len(values) + 4 + len(data)) if len(value) > 4 else b""
        data += value if place else b""
        count = len(value) // {2: 1, 10: 8}[kind]
        entries += struct.pack("<HHI4s", tag, kind, count, place or value)
    return b"Exif\0\0" + head + struct.pack("<H", len(values)) + entries + bytes(4) + data


@pytest.mark.parametrize(
    ("north", "longitude", "side", "place"),
    [
        ("47,22,30", "8.5", "E", (47.375, 8.5)),
        ("47 22 30", "8:30:0", "W", (47.375, -8.5)),
        ("47.375", [-8, 30, 0], "E", (47.375, -8.5)),
        ("47.375", [-8, 30, 0], "W", (47.375, -8.5)),
        ("47.375", [8, -30, 0], "E", None),
        ("47.N", "8.5", "E", None),
        ("nan", "inf", "E", None),
        ("1" * 5_000, "8", "E", None),
        (",,,", "", "E", None),
    ],
)
def test_a_place_in_other_types_is_read_if_it_is_one(
    north: str, longitude: str | list[int], side: str, place: tuple[float, float] | None
) -> None:
    exif = of_other_types(north, longitude, side)
    picture = read(save(photo(64, 48), exif=exif, format="JPEG"), keep="none")
    assert (picture.lat, picture.lon) == (place or (None, None))


TEXT = "2024:06:01 12:00:00"
OTHER = "2020:01:01 00:00:00"
MOMENT, OTHER_MOMENT = 1717243200.0, 1577836800.0
ORIGINAL, DIGITIZED, MODIFIED = 36867, 36868, 306
OFFSETS: dict[Any, Any] = {"any": 36880, ORIGINAL: 36881, DIGITIZED: 36882}
UTC_NOON: dict[int, Any] = {29: "2024:06:01", 7: (12.0, 0.0, 0.0)}


def jpeg(first: dict[int, Any], camera: dict[int, Any], gps: dict[int, Any], xmp: bytes = b"") -> bytes:
    exif = exif_of(camera, gps)
    for tag, value in first.items():
        exif[tag] = value
    return save(photo(64, 48), exif=exif.tobytes(), format="JPEG", **({"xmp": xmp} if xmp else {}))


def xmp_of(*attributes: str) -> bytes:
    spaces = ["exif/1.0/", "photoshop/1.0/", "xap/1.0/", "tiff/1.0/"]
    names = "".join(
        f' xmlns:{name}="http://ns.adobe.com/{space}"'
        for name, space in zip(("exif", "photoshop", "xmp", "tiff"), spaces, strict=True)
    )
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{rdf}"><rdf:Description{names} '
        f"{' '.join(attributes)}/></rdf:RDF></x:xmpmeta>"
    ).encode()


CREATED = xmp_of('photoshop:DateCreated="2024-06-01T14:00:00+02:00"')
ON_ITS_SIDE = xmp_of('tiff:Orientation="6"', 'photoshop:DateCreated="2024-06-01T12:00:00Z"')


@pytest.mark.parametrize(
    ("first", "camera", "gps", "xmp"),
    [
        ({MODIFIED: OTHER}, {ORIGINAL: TEXT, DIGITIZED: OTHER}, {}, b""),
        ({MODIFIED: OTHER}, {DIGITIZED: TEXT}, {}, b""),
        ({MODIFIED: TEXT}, {}, {29: "2020:01:01", 7: (0.0, 0.0, 0.0)}, xmp_of('xmp:CreateDate="2020-01-01"')),
        ({MODIFIED: TEXT}, {ORIGINAL: "0000:00:00 00:00:00", DIGITIZED: "    :  :     :  :  "}, {}, b""),
        ({MODIFIED: TEXT}, {ORIGINAL: (20, 24), DIGITIZED: 2024}, {}, b""),
        ({}, {ORIGINAL: "2024:13:01 00:00:00"}, {29: "2020:01:01", 7: (0.0, 0.0, 0.0)}, CREATED),
        ({}, {}, UTC_NOON, b""),
        ({}, {}, UTC_NOON, xmp_of('photoshop:DateCreated="soon"')),
        ({ORIGINAL: TEXT}, {}, {}, b""),
        ({ORIGINAL: TEXT}, {ORIGINAL: "nonsense"}, {}, b""),
        ({}, {ORIGINAL: b"2024:06:01 12:00:00\0"}, {}, b""),
        ({}, {ORIGINAL: TEXT + " " * 60_000}, {}, b""),
        ({}, {ORIGINAL: "x" * 60_000, DIGITIZED: TEXT}, {}, b""),
    ],
)
def test_a_time_is_taken_from_the_first_source_that_has_one(
    first: dict[int, Any], camera: dict[int, Any], gps: dict[int, Any], xmp: bytes
) -> None:
    assert read(jpeg(first, camera, gps, xmp), keep="none").taken_at == MOMENT


@pytest.mark.parametrize(
    ("camera", "hours"),
    [
        ({ORIGINAL: TEXT, OFFSETS[ORIGINAL]: "+02:00", OFFSETS["any"]: "+05:00"}, 2),
        ({DIGITIZED: TEXT, OFFSETS[ORIGINAL]: "+02:00", OFFSETS[DIGITIZED]: "+05:00"}, 5),
        ({ORIGINAL: TEXT, OFFSETS["any"]: "+02:00"}, 2),
        ({ORIGINAL: TEXT, OFFSETS[ORIGINAL]: "+15:00", OFFSETS["any"]: "-02:00"}, -2),
        ({ORIGINAL: f"{TEXT}+03:00", OFFSETS[DIGITIZED]: "+02:00"}, 2),
        ({ORIGINAL: f"{TEXT}+03:00", OFFSETS[ORIGINAL]: "   :  "}, 3),
        ({ORIGINAL: TEXT, OFFSETS[ORIGINAL]: "Z", OFFSETS["any"]: "+02:00"}, 0),
    ],
)
def test_the_offset_is_the_one_that_belongs_to_it_or_any_or_the_texts(
    camera: dict[int, Any], hours: int
) -> None:
    assert read(jpeg({}, camera, {}), keep="none").taken_at == MOMENT - hours * 3600


def test_fractions_are_kept_to_the_millisecond() -> None:
    assert read(jpeg({}, {ORIGINAL: TEXT, 37521: "5 "}, {}), keep="none").taken_at == MOMENT + 0.5
    assert read(jpeg({}, {ORIGINAL: TEXT, 37520: "5"}, {}), keep="none").taken_at == MOMENT
    assert read(jpeg({}, {}, UTC_NOON | {7: (12.0, 0.0, 1.25)}), keep="none").taken_at == MOMENT + 1.25


@pytest.mark.parametrize(
    "gps",
    [
        {29: "2024:06:01"},
        {7: (12.0, 0.0, 0.0)},
        UTC_NOON | {7: (25.0, 0.0, 0.0)},
        UTC_NOON | {7: (12.0, TiffImagePlugin.IFDRational(0, 0), 0.0)},
        UTC_NOON | {29: "2024:13:01"},
        {29: "9999:12:31", 7: (24.0, 0.0, 0.0)},
    ],
)
def test_half_a_time_of_the_satellites_is_none(gps: dict[int, Any]) -> None:
    assert read(jpeg({}, {}, gps), keep="none").taken_at is None


def test_xmp_says_when_and_where_if_exif_does_not() -> None:
    place = xmp_of('exif:GPSLatitude="47,22.5N"', 'exif:GPSLongitude="8,30,0W"')
    picture = read(jpeg({}, NOON, {}, place), keep="none")
    assert (picture.taken_at, picture.lat, picture.lon) == (MOMENT, 47.375, -8.5)
    picture = read(jpeg({}, NOON, ZURICH, place), keep="none")
    assert (picture.lat, picture.lon) == (47.375, 8.5)
    nowhere = {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}
    assert read(jpeg({}, NOON, nowhere, place), keep="none").lon == -8.5
    shifted = read(jpeg({}, {OFFSETS["any"]: "+02:00"}, {}, xmp_of('xmp:CreateDate="2024-06-01T14:00"')))
    assert shifted.taken_at == MOMENT


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "avif", "heic"])
def test_xmp_dates_a_picture_but_turns_none(name: str) -> None:
    options = plain(name)
    if name == "png":
        options["pnginfo"] = info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", ON_ITS_SIDE.decode())
    elif name == "tiff":
        options["tiffinfo"] = {700: ON_ITS_SIDE}
    else:
        options["xmp"] = ON_ITS_SIDE
    data = save(photo(64, 48), **options)
    if name == "heic":  # pillow-heif turns what it is to write by the XMP: leave the pixels as they were
        data = save(photo(64, 48), **{**options, "xmp": ON_ITS_SIDE.replace(b"tiff:", b"none:")})
        data = data.replace(b"none:Orientation", b"tiff:Orientation")
    picture = read(data, keep="none")
    assert (picture.width, picture.height, picture.taken_at) == (64, 48, MOMENT)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "avif", "heic"])
def test_exif_turns_a_picture_whatever_its_xmp_says(name: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    picture = read(save(photo(64, 48), **plain(name), exif=exif.tobytes()))
    assert (picture.width, picture.height) == (48, 64)


def raw_profile(kind: str, data: bytes, late: bool = False) -> bytes:
    """As ImageMagick writes it, in front of the pixels or behind them."""
    text = f"\n{kind}\n{len(data):8}\n" + "\n".join(
        data[start : start + 36].hex() for start in range(0, len(data), 36)
    )
    png = save(photo(64, 48), format="PNG")
    body = chunk(b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text.encode()))
    place = len(png) - 12 if late else 33
    return png[:place] + body + png[place:]


@pytest.mark.parametrize("late", [False, True])
def test_what_imagemagick_keeps_in_the_texts_of_a_png_is_read(late: bool) -> None:
    exif = exif_of(NOON, ZURICH)
    exif[ExifTags.Base.Orientation] = 6
    for kind in ("exif", "APP1"):
        picture = read(raw_profile(kind, exif.tobytes(), late), keep="none")
        assert (picture.width, picture.height) == (48, 64)
        assert picture.taken_at == MOMENT
        assert picture.lat == pytest.approx(47.375)
    for start in (b"", b"\xef\xbb\xbf", b"http://ns.adobe.com/xap/1.0/\0"):
        assert read(raw_profile("xmp", start + CREATED, late), keep="none").taken_at == MOMENT
    assert read(raw_profile("exif", b"", late), keep="none").taken_at is None
    broken = raw_profile("exif", exif.tobytes(), late)
    broken = broken[:33] + chunk(b"eXIf", b"broken") + broken[33:]
    assert read(broken, keep="none").taken_at == MOMENT


@pytest.mark.parametrize(
    ("tag", "kind", "value"),
    [
        (34665, 9, b"\xfb\xff\xff\xff"),  # a pointer to before the file
        (34665, 11, b"\0\0\xc0\x3f"),
        (34665, 4, b"\xff\xff\xff\x7f"),
        (34853, 9, b"\xfb\xff\xff\xff"),
        (700, 3, b"abcd"),  # XMP as numbers, as a text
        (700, 2, b"abc\0"),
        (274, 2, b"6\0\0\0"),
    ],
)
def test_a_tiff_with_a_tag_of_another_type_is_no_damaged_picture(tag: int, kind: int, value: bytes) -> None:
    tags: dict[int, int] = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4}
    entries = {one: struct.pack("<HHII", one, 4, 1, number) for one, number in tags.items()}
    entries[tag] = struct.pack("<HHI", tag, kind, {2: 4, 3: 2}.get(kind, 1)) + value
    directory = struct.pack("<H", len(entries)) + b"".join(entries[one] for one in sorted(entries))
    picture = read(struct.pack("<2sHI4s", b"II", 42, 12, b"abcd") + directory + bytes(4), keep="none")
    assert (picture.width, picture.height) == (2, 2)


def directory(entries: dict[int, tuple[int, int, bytes]], start: int) -> bytes:
    """Of (type, count, value) by the tag, as it is at byte `start`: values of over 4 bytes are behind it."""
    table, data = struct.pack("<H", len(entries)), b""
    for tag, (kind, count, value) in sorted(entries.items()):
        place = struct.pack("<I", start + 2 + 12 * len(entries) + 4 + len(data)) if len(value) > 4 else value
        data += value if len(value) > 4 else b""
        table += struct.pack("<HHI4s", tag, kind, count, place)
    return table + bytes(4) + data


def test_a_damaged_tag_costs_none_behind_it() -> None:
    first = {
        270: (2, 90, struct.pack("<I", 2**31)),  # a description behind the end of the file
        271: (99, 1, b"abcd"),  # of no known type
        272: (2, 2**32 - 1, struct.pack("<I", 8)),
        274: (3, 1, b"\6\0"),
        306: (2, 20, f"{TEXT}\0".encode()),
    }
    exif = b"Exif\0\0II*\0\x08\0\0\0" + directory(first, 8)
    for data in (exif, exif[:-1], exif + b"\xff" * 99):
        picture = read(save(photo(64, 48), exif=data, format="JPEG"), keep="none")
        assert (picture.width, picture.height, picture.taken_at) == (48, 64, MOMENT)


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])  # a JPEG of as many is a bomb
def test_millions_of_numbers_take_neither_time_nor_memory(name: str) -> None:
    numbers = (5, 1_000_000, b"\x11" * 8_000_000)
    start = 8 + 2 + 12 * 12 + 4
    entries = {one: (4, 1, struct.pack("<I", 1)) for one in (256, 257, 259, 262, 273, 277, 278, 279)}
    entries |= {258: (4, 1, struct.pack("<I", 8)), 306: (2, 4, b"abc\0")}
    entries |= {one: (4, 1, struct.pack("<I", start)) for one in (34665, 34853)}
    second = directory({2: numbers, 4: numbers, 36867: numbers, 36868: (2, 20, f"{TEXT}\0".encode())}, start)
    data = b"II*\0\x08\0\0\0" + directory(entries, 8) + second
    if name != "TIFF":
        data = save(Image.new("RGB", (1, 1)), format=name, exif=data)
    tracemalloc.start()
    picture = read(data, keep="none")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture.taken_at == MOMENT
    assert peak < 6 * len(data)  # copies of it, as Pillow keeps it in parts, too


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


def test_what_is_no_exif_at_all_yields_none() -> None:
    image = Image.new("RGB", (2, 2))
    for exif in (7, "text", b"", b"II", b"Exif\0\0", b"MM\0*", b"II*\0\xff\xff\xff\xff"):
        image.info = {"exif": exif, "xmp": exif, "Raw profile type exif": exif}
        assert read_exif(image, b"") == Exif()
