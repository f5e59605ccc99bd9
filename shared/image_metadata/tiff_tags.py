"""TIFF directories, of files and of EXIF: whatever one claims, few bytes of each value are read.

Pillow makes an object of each number in a directory (5 seconds for 10 MB of them), and reads nothing of what
is behind a damaged entry.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from PIL.ExifTags import Base as Tag

Value = bytes | tuple[float, ...]  # bytes are a text, or of no known meaning

_EXIF_START = b"Exif\0\0"
_ORDERS = {b"II": "<", b"MM": ">"}
# How a number of each type lies in a file; those of two letters are fractions.
_FORMS = {3: "H", 4: "L", 5: "LL", 6: "b", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d", 13: "L", 16: "Q"}
_FORMS |= {17: "q", 18: "Q"}
_SIZES = dict.fromkeys((1, 2, 7, 129), 1) | {
    kind: struct.calcsize("=" + form) for kind, form in _FORMS.items()
}
_MAX_ENTRIES = 4_096
_MAX_NUMBERS = 8
_MAX_BYTES = 1_024
_MAX_XMP = 2**20


class Entry(NamedTuple):
    """What a directory says of one tag: `length` values, of `size` bytes in all, begin at `place`."""

    tag: int
    form: str  # how a number lies in the file, for `struct`; empty for bytes
    length: int
    size: int  # 0 for values of an unknown type
    place: int


class Directory:
    """A directory of a TIFF file, or of EXIF, which is one. Nothing raises, whatever the bytes are."""

    def __init__(self, data: bytes, place: int | None = None) -> None:
        """Read the directory at a place, without one the file's first: the first sound entry of each tag."""
        self.data = data if data[:2] in _ORDERS else b""
        self._order = _ORDERS.get(data[:2], "<")
        is_big = b"+" in data[2:4]
        self._pointer = "Q" if is_big else "L"
        self._entry = struct.Struct(f"{self._order}HH{self._pointer * 2}")
        if place is None:
            place = self._number(self._pointer, 8 if is_big else 4)
        self.place = place
        claimed = self._number("Q" if is_big else "H", place) if place else 0
        self._start = place + (8 if is_big else 2)
        self.end = self._start + claimed * self._entry.size  # which a file that is cut off does not have
        self.next = self._number(self._pointer, self.end)
        self.entries: dict[int, Entry] = {}
        for entry in islice(self.table(), _MAX_ENTRIES):
            if entry.size and entry.place < len(self.data):
                self.entries.setdefault(entry.tag, entry)

    def table(self) -> Iterator[Entry]:
        """Yield all entries that are in the file, however many, sound or not."""
        inline = struct.calcsize("=" + self._pointer)
        last = min(self.end, len(self.data)) - self._entry.size
        for start in range(self._start, last + 1, self._entry.size):
            tag, kind, length, pointer = self._entry.unpack_from(self.data, start)
            size = length * _SIZES.get(kind, 0)
            place = pointer if size > inline else start + self._entry.size - inline
            yield Entry(tag, _FORMS.get(kind, ""), length, size, place)

    def get(self, tag: int) -> Value | None:
        """Return the start of a tag's value: at most 8 numbers or 1,024 bytes, of XMP a mebibyte."""
        if (entry := self.entries.get(tag)) is None:
            return None
        if entry.form:
            return self._unpacked(entry.form, entry.place, min(entry.length, _MAX_NUMBERS))
        most = _MAX_XMP if tag == Tag.XMLPacket else _MAX_BYTES
        return self.data[entry.place : entry.place + min(entry.size, most)]

    def numbers(self, tag: int, most: int = 64) -> tuple[int, ...]:
        """Return at most `most` whole numbers or bytes; none of a tag that is missing or outside the file."""
        entry = self.entries.get(tag)
        if entry is None:
            return ()
        count = min(entry.length, most)
        found = self._unpacked(entry.form or "B", entry.place, count)
        return tuple(one for one in found if isinstance(one, int)) if len(found) == count else ()

    def number(self, tag: int, default: int = 0) -> int:
        return next(iter(self.numbers(tag, 1)), default)

    def text(self, tag: int) -> str:
        """Return a tag's text; nothing for numbers."""
        return text_of(self.get(tag))

    def below(self, tag: int) -> Directory:
        """Return the directory that a tag points to, which is empty where there is none."""
        return Directory(self.data, max(0, self.number(tag)))

    def _number(self, letter: str, place: int) -> int:
        return next((int(number) for number in self._unpacked(letter, place)), 0)

    def _unpacked(self, form: str, place: int, count: int = 1) -> tuple[float, ...]:
        """Return the whole numbers or fractions that are there; NaN for 0/0."""
        value = struct.Struct(self._order + form)
        data = self.data[place : place + count * value.size]
        values = value.iter_unpack(data[: len(data) - len(data) % value.size])
        return tuple(one[0] if len(one) == 1 else one[0] / one[1] if one[1] else math.nan for one in values)


def exif_directory(data: bytes) -> Directory:
    """Return the first directory of EXIF, which begins with its name once, twice or not at all."""
    return Directory(data.removeprefix(_EXIF_START).removeprefix(_EXIF_START))


def text_of(value: Value | None) -> str:
    """Return the text that a value is; nothing for numbers."""
    return value.decode("latin-1").strip("\0 ") if isinstance(value, bytes) else ""
