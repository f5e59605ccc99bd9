"""What a camera or an editor wrote about an image: which side is up, when and where it was taken."""

import contextlib
import re
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

from shared.image_metadata.capture_time import moment, offset_s
from shared.image_metadata.tiff_tags import Directory, Value, exif_directory, text_of
from shared.image_metadata.xmp import TIMES, read_xmp
from shared.models import in_range

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The first says best when a picture was taken. With each the tags of its offset and of its fraction.
_TIMES = (
    (ExifTags.Base.DateTimeOriginal, ExifTags.Base.OffsetTimeOriginal, ExifTags.Base.SubsecTimeOriginal),
    (ExifTags.Base.DateTimeDigitized, ExifTags.Base.OffsetTimeDigitized, ExifTags.Base.SubsecTimeDigitized),
    (ExifTags.Base.DateTime, ExifTags.Base.OffsetTime, ExifTags.Base.SubsecTime),
)
_XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
_NOTHING = Directory(b"")
_RAW_PROFILES = ("Raw profile type exif", "Raw profile type APP1", "Raw profile type xmp")


@dataclass(frozen=True, slots=True)
class Exif:
    """What is known of an image: `transpose` makes it upright, `swaps_axes` if it turns width into height.

    `taken_at` is seconds since the epoch; `lat` and `lon` are degrees, both or neither.
    """

    transpose: Image.Transpose | None = None
    taken_at: float | None = None
    lat: float | None = None
    lon: float | None = None

    @property
    def swaps_axes(self) -> bool:
        return self.transpose in (
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        )


def read_exif(image: Image.Image, data: bytes) -> Exif:
    """Read a loaded image's EXIF, else its XMP, without what is damaged; `data` is its file. Never raises."""
    transpose, taken_at, place, packet = None, None, None, b""
    first = _NOTHING
    with contextlib.suppress(Exception):
        first, packet = _metadata(image, data)
    if not first.entries and not packet:
        return Exif()
    camera, gps = first.below(ExifTags.IFD.Exif), first.below(ExifTags.IFD.GPSInfo)
    with contextlib.suppress(Exception):
        if image.format != "TIFF":  # which Pillow turns itself
            (side,) = _numbers(first.get(ExifTags.Base.Orientation))
            transpose = _TRANSPOSES.get(int(side))
    with contextlib.suppress(Exception):
        place = _place(gps)
    with contextlib.suppress(Exception):
        taken_at = _taken_at(camera, first)
    if packet and (taken_at is None or (place is None and b"GPSLatitude" in packet)):
        with contextlib.suppress(Exception):
            xmp = read_xmp(packet)
            taken_at = _taken_at_by_xmp(xmp, _offset(camera, first)) if taken_at is None else taken_at
            place = place or _place_by_xmp(xmp)
    if taken_at is None:
        with contextlib.suppress(Exception):
            taken_at = _taken_at_by_gps(gps)
    lat, lon = place or (None, None)
    return Exif(transpose, taken_at, lat, lon)


def hide_from_pillow(tiff: Image.Image) -> None:
    """Hide what Pillow, loading pixels, would turn a TIFF by beside its tag, read at length or fail at."""
    tiff.info.pop("xmp", None)
    tags = tiff.getexif()
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop):
        if tag in tags:
            del tags[tag]


def _metadata(image: Image.Image, data: bytes) -> tuple[Directory, bytes]:
    """Return the tags and the XMP, which image.getexif() would mix: it has orientations of XMP, too."""
    if image.format == "TIFF":
        first = Directory(data)
        packet = first.get(ExifTags.Base.XMLPacket)
    else:
        profiles = _raw_profiles(image.info)
        candidates = (image.info.get("exif"), *filter(_is_exif, profiles))
        read = (exif_directory(one) for one in candidates if one)
        first = next((one for one in read if one.entries), _NOTHING)
        packet = image.info.get("xmp") or next((one for one in profiles if not _is_exif(one)), b"")
    return first, packet.removeprefix(_XMP_START) if isinstance(packet, bytes) else b""


def _raw_profiles(info: dict[Any, Any]) -> list[bytes]:
    """Return what ImageMagick keeps in texts of a PNG: a line with its name, its length, hexadecimals."""
    found = []
    for name in _RAW_PROFILES:
        with contextlib.suppress(KeyError, ValueError):
            found.append(bytes.fromhex("".join(info[name].split("\n")[3:])))
    return found


def _is_exif(profile: bytes) -> bool:
    return profile.startswith((b"Exif\0\0", b"II", b"MM"))


def _taken_at(*directories: Directory) -> float | None:
    """Return when it was taken; some writers keep the camera's tags in the first directory of all."""
    any_offset = _offset(*directories)
    for time_tag, offset_tag, fraction_tag in _TIMES:
        for one in directories:
            if not (text := one.text(time_tag)):
                continue
            offset = offset_s(one.text(offset_tag))
            taken_at = moment(
                text,
                fraction=one.text(fraction_tag),
                offset=any_offset if offset is None else offset,
            )
            if taken_at is not None:
                return taken_at
    return None


def _offset(*directories: Directory) -> int | None:
    """Return the first offset from UTC that a tag has, whichever time it belongs to."""
    texts = (one.text(tag) for _, tag, _ in _TIMES for one in directories)
    return next((offset for text in texts if (offset := offset_s(text)) is not None), None)


def _taken_at_by_xmp(xmp: dict[str, str], offset: int | None) -> float | None:
    moments = (moment(xmp.get(name, ""), else_offset=offset or 0) for name in TIMES)
    return next((taken_at for taken_at in moments if taken_at is not None), None)


def _taken_at_by_gps(gps: Directory) -> float | None:
    """Return the time of the satellites, which is UTC. Raises where there is none."""
    day = moment(gps.text(ExifTags.GPS.GPSDateStamp)[:10])
    hours, minutes, seconds = _numbers(gps.get(ExifTags.GPS.GPSTimeStamp))
    clock = hours * 3600 + minutes * 60 + seconds
    if day is None or not 0 <= clock < 86_401:
        return None
    taken_at = (day * 1000 + round(clock * 1000)) / 1000
    return taken_at if in_range("taken_at", taken_at) else None


def _place(gps: Directory) -> tuple[float, float] | None:
    lat = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.text(ExifTags.GPS.GPSLatitudeRef), "NS")
    lon = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.text(ExifTags.GPS.GPSLongitudeRef), "EW")
    return _known(lat, lon)


def _place_by_xmp(xmp: dict[str, str]) -> tuple[float, float] | None:
    """Return the place of texts such as 47,22.5N and 8,30,0E."""
    lat, lon = xmp["GPSLatitude"], xmp["GPSLongitude"]
    return _known(_degrees(lat[:-1], lat[-1:], "NS"), _degrees(lon[:-1], lon[-1:], "EW"))


def _known(lat: float, lon: float) -> tuple[float, float] | None:
    """Return a place; None for 0, 0, which is what is written where none is known."""
    return (lat, lon) if in_range("lat", lat) and in_range("lon", lon) and (lat or lon) else None


def _degrees(value: Value | str | None, reference: str, sides: str) -> float:
    """Return the degrees of degrees, minutes and seconds, of which the last may lack; NaN for a part 0/0.

    Raises ValueError without a side of the equator or of Greenwich.
    """
    degrees, minutes, seconds = (*_numbers(value), 0.0, 0.0)[:3]
    side = reference.strip().upper()[:1]
    if not side or side not in sides or minutes < 0 or seconds < 0:
        raise ValueError(f"{reference} is not one of {sides}")
    size = abs(degrees) + minutes / 60 + seconds / 3600
    return -size if size and (side == sides[1] or degrees < 0) else size


def _numbers(value: Value | str | None) -> tuple[float, ...]:
    """Return the one to three numbers of a value, or of its text. Raises ValueError for others."""
    text = value if isinstance(value, str) else text_of(value)
    parts = value if isinstance(value, tuple) else re.split(r"[,:;\s]+", text.strip("\0 \t\r\n"))
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"{len(parts)} parts")
    return tuple(float(part) for part in parts)
