"""Decompression bombs: files that cost far more time or memory than their pixels, known by their headers.

The limits are far above what any encoder writes. Beyond them, 50 MB of empty segments, scans or strips keep a
core busy for minutes or hours, or take gigabytes.
"""

import re
import struct

MAX_SCANS = 64  # of a JPEG; encoders write about ten
MAX_SEGMENTS = 20_000  # of a JPEG, and comments of a GIF; a large colour profile makes some hundreds
MAX_JUNK_BYTES = 64 * 1024  # bytes between a JPEG's segments
MAX_STRIPS = 100_000  # or tiles, or tags, of a TIFF
MAX_RUN_PIXELS = 2**22  # of a BMP of runs, which Pillow unpacks in Python

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_FRAMES = _PROGRESSIVE | {0xC0, 0xC1, 0xC9}
_WITHOUT_LENGTH = frozenset({0x01, 0xD8, _END_OF_IMAGE})
_STRIP_TAGS = frozenset({273, 279, 324, 325})  # offsets and sizes of strips and tiles
_RUNS = (b"\1\0\0\0", b"\2\0\0\0")


def is_decompression_bomb(data: bytes) -> bool:
    """Return whether a JPEG, GIF, BMP or TIFF is a bomb; False for anything else. Never raises."""
    if data.startswith(b"\xff\xd8"):
        return _is_jpeg_bomb(data)
    if data.startswith(b"GIF8"):
        return data.count(b"!\xfe") > MAX_SEGMENTS
    if data.startswith(b"BM"):
        return data[30:34] in _RUNS and _bmp_pixels(data) > MAX_RUN_PIXELS
    try:
        return data[:2] in (b"II", b"MM") and _most_strips(data) > MAX_STRIPS
    except (struct.error, OverflowError):  # cut off
        return False


def _is_jpeg_bomb(data: bytes) -> bool:
    position, segments, junk, scans = 2, 0, 0, 0
    while marker := _MARKER.search(data, position):
        code = data[marker.end() - 1]
        if scans and code == _END_OF_IMAGE:
            return False
        segments += 1
        scans += code == _START_OF_SCAN
        junk += 0 if scans else marker.start() - position  # between scans lie the pixels
        if segments > MAX_SEGMENTS or scans > MAX_SCANS or junk > MAX_JUNK_BYTES:
            return True
        length = 0 if code in _WITHOUT_LENGTH else int.from_bytes(data[marker.end() : marker.end() + 2])
        position = marker.end() + length
    return not scans and len(data) - position > MAX_JUNK_BYTES


def keeps_coefficients(data: bytes) -> bool:
    """Return whether a JPEG's pixels lie in several scans, so that a decoder keeps all their coefficients."""
    position, components = 2, 0
    while marker := _MARKER.search(data, position):
        code, body = data[marker.end() - 1], marker.end()
        if code in _PROGRESSIVE:
            return True
        if code in _FRAMES:
            components = int.from_bytes(data[body + 7 : body + 8])
        elif code == _START_OF_SCAN:
            return data[body + 2 : body + 3] != bytes([components])
        position = body + (0 if code in _WITHOUT_LENGTH else int.from_bytes(data[body : body + 2]))
    return False


def _bmp_pixels(data: bytes) -> int:
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(int(width) * int(height))


def _most_strips(data: bytes) -> int:
    """Return the most strips, tiles or tags that the first directory of a TIFF, or BigTIFF, claims."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    head, number, entry = ("8xQ", "Q", "HHQ8x") if big else ("4xI", "H", "HHI4x")
    (start,) = struct.unpack_from(order + head, data)
    (entries,) = struct.unpack_from(order + number, data, start)
    first = start + struct.calcsize(order + number)
    size = struct.calcsize(order + entry)
    most: int = min(
        entries, (len(data) - first) // size
    )  # what a directory that is cut off has, Pillow takes
    for place in range(min(most, MAX_STRIPS)):
        tag, _, count = struct.unpack_from(order + entry, data, first + place * size)
        most = max(most, count if tag in _STRIP_TAGS else 0)
    return most
