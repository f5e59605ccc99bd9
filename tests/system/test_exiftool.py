"""Times and places of many files, as exiftool reads them and as we do."""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from shared.image_files.formats import open_image
from shared.image_metadata.exif import read_exif
from tests.system import programs

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "heic": "HEIF", "avif": "AVIF"}
TIME, OTHER, ZEROS = "2024:06:01 12:34:56", "2020:02:29 00:00:00", "0000:00:00 00:00:00"
ORIGINAL, DIGITIZED, MODIFIED = "EXIF:DateTimeOriginal", "EXIF:CreateDate", "EXIF:ModifyDate"
GPS_TIME = {"GPS:GPSDateStamp": "2024:06:01", "GPS:GPSTimeStamp": "12:34:56.25"}
XMP = (
    "XMP-exif:DateTimeOriginal",
    "XMP-photoshop:DateCreated",
    "XMP-exif:DateTimeDigitized",
    "XMP-xmp:CreateDate",
)
# In which order exiftool's answers are asked; its own composites have the offset and the fraction.
TIMES = (
    "Composite:SubSecDateTimeOriginal",
    "ExifIFD:DateTimeOriginal",
    "Composite:SubSecCreateDate",
    "ExifIFD:CreateDate",
    "Composite:SubSecModifyDate",
    "IFD0:ModifyDate",
    *XMP,
    "Composite:GPSDateTime",
)
PLACES = (
    ("Composite:GPSLatitude", "Composite:GPSLongitude"),
    ("XMP-exif:GPSLatitude", "XMP-exif:GPSLongitude"),
)
PILLOWS = {ORIGINAL: 36867, DIGITIZED: 36868, MODIFIED: 306}
PILLOWS |= {"EXIF:OffsetTime": 36880, "EXIF:OffsetTimeOriginal": 36881, "EXIF:OffsetTimeDigitized": 36882}
PILLOWS |= {"EXIF:SubSecTime": 37520, "EXIF:SubSecTimeOriginal": 37521}
PILLOWS |= {"GPS:GPSLatitudeRef": 1, "GPS:GPSLatitude": 2, "GPS:GPSLongitudeRef": 3, "GPS:GPSLongitude": 4}
PILLOWS |= {"GPS:GPSTimeStamp": 7, "GPS:GPSDateStamp": 29}


def place(lat: float | str, north: str, lon: float | str, east: str) -> dict[str, Any]:
    return {
        "GPS:GPSLatitude": lat,
        "GPS:GPSLatitudeRef": north,
        "GPS:GPSLongitude": lon,
        "GPS:GPSLongitudeRef": east,
    }


# By what the file says, as exiftool writes it.
CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "three times": {ORIGINAL: TIME, DIGITIZED: OTHER, MODIFIED: OTHER},
    "two times": {DIGITIZED: TIME, MODIFIED: OTHER},
    "one time": {MODIFIED: TIME},
    "own offset": {ORIGINAL: TIME, "EXIF:OffsetTimeOriginal": "+02:00", "EXIF:OffsetTime": "-03:00"},
    "own offset of digitized": {DIGITIZED: TIME, "EXIF:OffsetTimeDigitized": "-05:30"},
    "own offset of modified": {MODIFIED: TIME, "EXIF:OffsetTime": "+14:00"},
    "own fraction": {ORIGINAL: TIME, "EXIF:SubSecTimeOriginal": "25", "EXIF:SubSecTime": "75"},
    "fraction and offset": {
        ORIGINAL: TIME,
        "EXIF:SubSecTimeOriginal": "999",
        "EXIF:OffsetTimeOriginal": "+05:45",
    },
    "text with offset": {ORIGINAL: f"{TIME}+02:00"},
    "text with fraction": {ORIGINAL: f"{TIME}.125"},
    "text of XMP's kind": {ORIGINAL: "2024-06-01T12:34:56"},
    "before 1970": {ORIGINAL: "1969:07:20 20:17:40"},
    "first year": {ORIGINAL: "0001:01:01 00:00:00"},
    "last year": {ORIGINAL: "9999:12:31 23:59:59"},
    "leap day": {ORIGINAL: OTHER},
    "satellites": GPS_TIME,
    "camera before satellites": GPS_TIME | {ORIGINAL: OTHER},
    **{name: {name: f"{TIME}+02:00"} for name in XMP},
    **{f"{name}, no offset": {name: TIME} for name in XMP},
    "XMP, fraction": {XMP[0]: f"{TIME}.5Z"},
    "XMP, minutes": {XMP[1]: "2024:06:01 12:34Z"},
    "XMP, a day": {XMP[1]: "2024:06:01"},
    "EXIF before XMP": {ORIGINAL: TIME, XMP[0]: OTHER},
    "XMP before satellites": GPS_TIME | {XMP[1]: f"{OTHER}Z"},
    "XMP, all": dict(zip(XMP, (f"{TIME}Z", OTHER, OTHER, OTHER), strict=True)),
    "north east": place(47.375, "N", 8.5, "E"),
    "south west": place(33.856784, "S", 151.215297, "W"),
    "the equator": place(0, "N", 8.5, "E"),
    "Greenwich": place(51.477928, "N", 0, "W"),
    "a pole": place(90, "S", 180, "W"),
    "XMP's place": {"XMP-exif:GPSLatitude": -33.856784, "XMP-exif:GPSLongitude": 151.215297},
    "everything": {ORIGINAL: TIME, "EXIF:OffsetTimeOriginal": "+02:00"}
    | GPS_TIME
    | place(47.375, "N", 8.5, "E"),
    "any offset": {ORIGINAL: TIME, "EXIF:OffsetTime": "+02:00"},
    "zeros": {ORIGINAL: ZEROS, MODIFIED: TIME},
    "blanks": {ORIGINAL: "    :  :     :  :  ", MODIFIED: TIME},
    "month 13": {ORIGINAL: "2024:13:01 12:34:56", MODIFIED: TIME},
    "a blank for a zero": {ORIGINAL: "2024:06:01 08:47: 6"},
    "hour 24": {ORIGINAL: "2018:10:13 24:24:27"},
    "second 60": {ORIGINAL: "2016:12:31 23:59:60"},
    "slashes": {ORIGINAL: "2024/06/01 12:34:56"},
    "dots": {ORIGINAL: "2024.06.01 12.34.56"},
    "no separators": {ORIGINAL: "20240601T123456"},
    "afternoon": {ORIGINAL: "2024:06:01 01:34:56 PM"},
    "a year": {XMP[1]: "2024"},
    "a month": {XMP[1]: "2024:06"},
    "offset of 15 hours": {ORIGINAL: TIME, "EXIF:OffsetTimeOriginal": "+15:00"},
    "nowhere": place(0, "N", 0, "E"),
    "no side": {"GPS:GPSLatitude": 47.375, "GPS:GPSLongitude": 8.5},
}
# What is read otherwise than exiftool does, on purpose.
DIFFERENT = {
    "any offset": "an offset is that of each time without its own",
    "offset of 15 hours": "there is none of more than 14",
    "hour 24": "some phones write it for the first hour of that day",
    "second 60": "a leap second, or a camera that rounds",
    "dots": "are no fraction of a second",
    "no separators": "are a spelling of ISO 8601",
    "afternoon": "is written behind a clock of twelve hours",
    "first year": "exiftool turns no time before 1900 into seconds",
    "last year": "nor one after 2038",
    "a year": "is no time; exiftool says its first day",
    "a month": "is none either",
    "nowhere": "0, 0 is what is written where no place is known",
}


def test_times_and_places_are_those_that_exiftool_reads(tmp_path: Path) -> None:
    files = written_by_exiftool(tmp_path) | written_by_pillow(tmp_path)
    different: dict[str, list[Path]] = {}
    for path, document in read_by_exiftool(list(files)).items():
        data = path.read_bytes()
        image = open_image(data)
        image.load()
        ours = read_exif(image, data)
        place = None if ours.lat is None or ours.lon is None else (ours.lat, ours.lon)
        if not (same(ours.taken_at, time_in(document)) and same_place(place, place_in(document))):
            different.setdefault(files[path], []).append(path)
    assert different.keys() == DIFFERENT.keys()
    both = Counter(name for name in files.values() if name in DIFFERENT)
    assert {name: len(paths) for name, paths in different.items()} == both, "in every format"


def written_by_exiftool(folder: Path) -> dict[Path, str]:
    """Every case in every format; return its name by the file."""
    files, arguments = {}, []
    for suffix, kind in FORMATS.items():
        for number, (name, tags) in enumerate(CASES.items()):
            path = folder / f"exiftool {number}.{suffix}"
            picture().save(path, kind)
            files[path] = name
            if tags:
                arguments += [f"-{tag}#={value}" for tag, value in tags.items()]
                arguments += ["-overwrite_original", "-q", "-m", str(path), "-execute"]
    exiftool(arguments)
    return files


def written_by_pillow(folder: Path) -> dict[Path, str]:
    """Every case without XMP in every format; return its name by the file."""
    files = {}
    for number, (name, tags) in enumerate(CASES.items()):
        if not tags.keys() <= PILLOWS.keys():
            continue
        exif = Image.Exif()
        for tag, value in tags.items():
            directory = exif.get_ifd(0x8825 if tag.startswith("GPS:") else 0x8769)
            (exif if tag == MODIFIED else directory)[PILLOWS[tag]] = (
                (value, 0.0, 0.0) if isinstance(value, int | float)
                else tuple(map(float, value.split(":"))) if tag == "GPS:GPSTimeStamp"
                else value
            )  # fmt: skip
        for suffix, kind in FORMATS.items():
            path = folder / f"Pillow {number}.{suffix}"
            picture().save(path, kind, **({"exif": exif.tobytes()} if tags else {}))
            files[path] = name
    return files


def picture() -> Image.Image:
    return Image.new("RGB", (64, 64), "green")


def read_by_exiftool(paths: list[Path]) -> dict[Path, dict[str, Any]]:
    """Return what exiftool says of each: times in seconds, those without an offset as UTC."""
    wanted = ["-time:all", *(f"-{name}#" for pair in PLACES for name in pair)]
    text = exiftool(["-json", "-G1", "-a", "-d", "%s%3f", *wanted, *map(str, paths)])
    return {Path(document["SourceFile"]): document for document in json.loads(text)}


def exiftool(arguments: list[str]) -> str:
    program = programs.find("exiftool")
    assert program is not None
    done = subprocess.run(
        [program, "-@", "-"],
        input="\n".join(arguments),
        env=os.environ | {"TZ": "UTC"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout


def time_in(document: dict[str, Any]) -> float | None:
    """Return the first time that exiftool understood; what it did not is text as it stands in the file."""
    times = (document.get(name) for name in TIMES)
    return next((float(value) for value in times if isinstance(value, int | float)), None)


def place_in(document: dict[str, Any]) -> tuple[float, float] | None:
    for lat, lon in PLACES:
        if lat in document and lon in document:
            return float(document[lat]), float(document[lon])
    return None


def same(ours: float | None, theirs: float | None) -> bool:
    return ours == theirs if ours is None or theirs is None else abs(ours - theirs) < 1e-6


def same_place(ours: tuple[float, float] | None, theirs: tuple[float, float] | None) -> bool:
    if ours is None or theirs is None:
        return ours == theirs
    return same(ours[0], theirs[0]) and same(ours[1], theirs[1])
