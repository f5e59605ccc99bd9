"""Decompression bombs: files that cost far more time or memory than their pixels, known by their headers.

The limits are far above what any encoder writes. Beyond them, 50 MB of empty segments, scans or strips keep a
core busy for minutes or hours, or take gigabytes.
"""

import struct

from shared.image_files.jpeg_scans import END_OF_IMAGE, MARKER, START_OF_SCAN, WITHOUT_LENGTH

MAX_SCANS = 64  # of a JPEG; encoders write about ten
MAX_SEGMENTS = 20_000  # of a JPEG, and comments of a GIF; a large colour profile makes some hundreds
MAX_JUNK_BYTES = 64 * 1024  # bytes between a JPEG's segments
MAX_STRIPS = 100_000  # or tiles, or tags, or numbers in one of them, of a TIFF
MAX_RUN_PIXELS = 2**22  # of a BMP of runs, which Pillow unpacks in Python

# Pillow makes an object of each number of these as it opens a file. The first four are of strips and tiles.
_READ_TAGS = frozenset({273, 279, 324, 325, 258, 274, 282, 283, 296, 320, 338, 339, 530, 700, 34675})
_BYTES = (1, 2, 7)  # types, which are read as they are
_RUNS = (b"\1\0\0\0", b"\2\0\0\0")


def bomb_of(data: bytes) -> str | None:
    """Return which limit a JPEG, GIF, BMP or TIFF is over, as `100,000 strips`; None for anything else."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_bomb_of(data)
    if data.startswith(b"GIF8"):
        return f"{MAX_SEGMENTS:,} comments" if data.count(b"!\xfe") > MAX_SEGMENTS else None
    if data.startswith(b"BM"):
        is_bomb = data[30:34] in _RUNS and _bmp_pixels(data) > MAX_RUN_PIXELS
        return f"{MAX_RUN_PIXELS:,} pixels that are compressed in runs" if is_bomb else None
    try:
        is_bomb = data[:2] in (b"II", b"MM") and _most_strips(data) > MAX_STRIPS
    except (struct.error, OverflowError):  # cut off
        return None
    return f"{MAX_STRIPS:,} strips, tiles, tags or numbers in one of them" if is_bomb else None


def _jpeg_bomb_of(data: bytes) -> str | None:
    position, segments, junk, scans = 2, 0, 0, 0
    while marker := MARKER.search(data, position):
        code = data[marker.end() - 1]
        if scans and code == END_OF_IMAGE:
            return None
        segments += 1
        scans += code == START_OF_SCAN
        junk += 0 if scans else marker.start() - position  # between scans lie the pixels
        if scans > MAX_SCANS:
            return f"{MAX_SCANS:,} scans"
        if segments > MAX_SEGMENTS:
            return f"{MAX_SEGMENTS:,} segments"
        if junk > MAX_JUNK_BYTES:
            break
        length = 0 if code in WITHOUT_LENGTH else int.from_bytes(data[marker.end() : marker.end() + 2])
        position = marker.end() + length
    if junk > MAX_JUNK_BYTES or (not scans and len(data) - position > MAX_JUNK_BYTES):
        return f"{MAX_JUNK_BYTES:,} bytes between its segments that belong to none"
    return None


def _bmp_pixels(data: bytes) -> int:
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(int(width) * int(height))


def _most_strips(data: bytes) -> int:
    """Return the most tags, or numbers in one (as of strips), that a TIFF's first directory claims."""
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
        tag, kind, count = struct.unpack_from(order + entry, data, first + place * size)
        most = max(most, count if tag in _READ_TAGS and kind not in _BYTES else 0)
    return most
