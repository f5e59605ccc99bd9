"""JPEG: its segments and scans, known by their headers."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset({0x01, 0xD8, END_OF_IMAGE})
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_FRAMES = _PROGRESSIVE | {0xC0, 0xC1, 0xC9}
_COEFFICIENTS = frozenset(range(64))


class Segment(NamedTuple):
    """A marker's code and place, where what follows it begins, and ends; the scan itself is behind that."""

    code: int
    start: int
    body: int
    end: int


def keeps_coefficients(data: bytes) -> bool:
    """Return whether a JPEG's pixels lie in several scans, so that a decoder keeps all their coefficients."""
    components = 0
    for code, _, body, _ in segments(data):
        if code in _PROGRESSIVE:
            return True
        if code in _FRAMES:
            components = int.from_bytes(data[body + 7 : body + 8])
        elif code == START_OF_SCAN:
            return data[body + 2 : body + 3] != bytes([components])
    return False


def has_end(data: bytes) -> bool:
    """Return whether a JPEG has its end marker, behind its last segment or scan."""
    return any(segment.code == END_OF_IMAGE for segment in segments(data))


def pixels_end(data: bytes) -> int | None:
    """Return where the last scan that a JPEG's pixels need ends; None if one is missing."""
    missing: dict[int, frozenset[int]] = {}
    progressive = whole = False
    for code, start, body, _ in segments(data):
        if whole or code == END_OF_IMAGE:
            return start if whole else None
        if code in (0xC0, 0xC1, 0xC2):  # of arithmetic coding no decoder says where it ends
            progressive = code in _PROGRESSIVE
            count = int.from_bytes(data[body + 7 : body + 8])
            missing = dict.fromkeys(data[body + 8 : body + 8 + 3 * count : 3], _COEFFICIENTS)
        elif code == START_OF_SCAN:
            count = int.from_bytes(data[body + 2 : body + 3])
            names, last = data[body + 3 : body + 3 + 2 * count : 2], data[body + 3 + 2 * count :][:3]
            first_bits = progressive and last[2:] and last[2] & 15
            if len(last) == 3 and not first_bits:
                read = frozenset(range(last[0], last[1] + 1)) if progressive else _COEFFICIENTS
                missing = {name: left - read if name in names else left for name, left in missing.items()}
            whole = bool(missing) and not any(missing.values())
    return len(data) if whole else None


def segments(data: bytes) -> Iterator[Segment]:
    """Yield what a JPEG's markers begin, without those of restarts, which lie in scans."""
    position = 2
    while marker := _MARKER.search(data, position):
        code, body = data[marker.end() - 1], marker.end()
        position = body + (0 if code in _WITHOUT_LENGTH else int.from_bytes(data[body : body + 2]))
        yield Segment(code, marker.start(), body, position)
