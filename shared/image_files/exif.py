"""EXIF: what a camera wrote about an image: which side is up, when and where it was taken."""

import calendar
import contextlib
import math
import re
import time
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

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
_OFFSET = re.compile(r"([+-])([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Exif:
    """What is known by EXIF: `transpose` makes the image upright, `swaps_axes` if it turns width into height.

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


def read_exif(image: Image.Image) -> Exif:
    """Read an image's EXIF, without what is damaged: the image stays usable. Never raises."""
    transpose, taken_at, place = None, None, None
    with contextlib.suppress(Exception):
        tags = image.getexif()
        if not tags:
            return Exif()
        with contextlib.suppress(Exception):
            transpose = _TRANSPOSES.get(tags.get(ExifTags.Base.Orientation, 1))
        with contextlib.suppress(Exception):
            taken_at = _taken_at(tags.get_ifd(ExifTags.IFD.Exif))
        with contextlib.suppress(Exception):
            place = _place(tags.get_ifd(ExifTags.IFD.GPSInfo))
    lat, lon = place or (None, None)
    return Exif(transpose, taken_at, lat, lon)


def _taken_at(tags: dict[int, Any]) -> float:
    """Return when it was taken, UTC without an offset. Raises ValueError or KeyError without a time."""
    local = time.strptime(_text(tags[ExifTags.Base.DateTimeOriginal]), "%Y:%m:%d %H:%M:%S")
    offset = _OFFSET.fullmatch(_text(tags.get(ExifTags.Base.OffsetTimeOriginal, "")))
    seconds = 0
    if offset:
        sign, hours, minutes = offset.groups()
        seconds = int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60)
    taken_at = float(calendar.timegm(local) - seconds)
    if not in_range("taken_at", taken_at):
        raise ValueError(f"{taken_at} is in no year from 1 to 9999")
    return taken_at


def _place(tags: dict[int, Any]) -> tuple[float, float] | None:
    lat = _degrees(tags[ExifTags.GPS.GPSLatitude], _text(tags[ExifTags.GPS.GPSLatitudeRef]), "S")
    lon = _degrees(tags[ExifTags.GPS.GPSLongitude], _text(tags[ExifTags.GPS.GPSLongitudeRef]), "W")
    return (lat, lon) if in_range("lat", lat) and in_range("lon", lon) else None


def _degrees(parts: Any, reference: str, negative: str) -> float:
    """Return the degrees of (degrees, minutes, seconds); NaN, which no range check passes, for a part 0/0."""
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return math.copysign(value, -1.0 if reference.upper().startswith(negative) else 1.0)


def _text(value: str | bytes) -> str:
    text = value.decode("ascii") if isinstance(value, bytes) else value
    return text.strip("\0 ")
