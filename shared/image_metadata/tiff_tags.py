"""The tags of EXIF and of TIFF: whatever a file claims, few bytes of each value are read.

Pillow makes an object of each number in a directory (5 seconds for 10 MB of them), and reads nothing of what
is behind a damaged entry.
"""

import math
import struct
from collections.abc import Mapping

Value = bytes | tuple[float, ...]  # bytes are a text, or of no known meaning
Tags = Mapping[int, Value]

ORIENTATION, XMP, CAMERA, GPS, INTEROPERABILITY = 274, 700, 34665, 34853, 40965
_EXIF_START = b"Exif\0\0"
_ORDERS = {b"II": "<", b"MM": ">"}
_BYTES = (1, 2, 7, 129)  # types
_NUMBERS = {3: "H", 4: "L", 5: "LL", 6: "b", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d", 13: "L", 16: "Q"}
_MAX_ENTRIES = 4_096
_MAX_NUMBERS = 8
_MAX_BYTES = 1_024
_MAX_XMP = 2**20


class TiffTags:
    """The tags of a file's `first` directory, and those of the others by what they are about."""

    def __init__(self, data: bytes) -> None:
        """Read a TIFF file, or EXIF, which is one, without what is damaged. Never raises."""
        data = data.removeprefix(_EXIF_START).removeprefix(_EXIF_START)
        self._data = data if data[:2] in _ORDERS else b""
        self._order = _ORDERS.get(data[:2], "<")
        self._big = 43 in data[2:4]
        self._offset = "Q" if self._big else "L"
        self.first = self._directory(
            self._numbers(self._offset, self._data[8:16] if self._big else self._data[4:8])
        )
        self.camera = self._directory(self.first.get(CAMERA))
        self.gps = self._directory(self.first.get(GPS))
        self.interoperability = self._directory(self.camera.get(INTEROPERABILITY))

    def _directory(self, pointer: Value | None) -> Tags:
        offset = pointer[0] if pointer else None
        if not isinstance(offset, int) or offset < 0:
            return {}
        entry = struct.Struct(self._order + ("HHQ8s" if self._big else "HHL4s"))
        start = offset + (8 if self._big else 2)
        count = self._numbers("Q" if self._big else "H", self._data[offset:start])
        size = min(int(count[0]), _MAX_ENTRIES) * entry.size if count else 0
        table = self._data[start : start + size]
        found: dict[int, Value] = {}
        for tag, kind, length, own in entry.iter_unpack(table[: len(table) - len(table) % entry.size]):
            if tag not in found and (value := self._value(tag, kind, length, own)):
                found[tag] = value
        return found

    def _value(self, tag: int, kind: int, length: int, own: bytes) -> Value | None:
        """Return the start of a value, which is in the entry's `own` bytes or where these point to."""
        numbers = _NUMBERS.get(kind)
        if numbers is None and kind not in _BYTES:
            return None
        unit = struct.calcsize(f"<{numbers}") if numbers else 1
        most = _MAX_NUMBERS if numbers else _MAX_XMP if tag == XMP else _MAX_BYTES
        place = self._numbers(self._offset, own) if length * unit > len(own) else None
        start, data = (int(place[0]), self._data) if place else (0, own)
        value = data[start : start + min(length, most) * unit]
        return self._numbers(numbers, value) if numbers else value

    def _numbers(self, kinds: str, data: bytes) -> tuple[float, ...]:
        """Return the whole numbers or fractions that are there; NaN for 0/0."""
        kinds = self._order + kinds
        values = struct.iter_unpack(kinds, data[: len(data) - len(data) % struct.calcsize(kinds)])
        return tuple(one[0] if len(one) == 1 else one[0] / one[1] if one[1] else math.nan for one in values)
