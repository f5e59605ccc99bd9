"""Decompression bombs: files that cost far more time or memory than their pixels, known by their headers.

The limits are far above what any encoder writes. Beyond them, 50 MB of empty segments, scans or strips keep a
core busy for minutes or hours, or take gigabytes.
"""

import struct

from PIL.ExifTags import Base as Tag

from shared.image_files.jpeg_scans import END_OF_IMAGE, START_OF_SCAN, segments
from shared.image_metadata.tiff_tags import Directory

MAX_SCANS = 64  # of a JPEG; encoders write about ten
MAX_SEGMENTS = 20_000  # of a JPEG, and comments of a GIF; a large colour profile makes some hundreds
MAX_JUNK_BYTES = 64 * 1024  # bytes between a JPEG's segments
MAX_STRIPS = 100_000  # or tiles, or tags, or numbers in one of them, of a TIFF
MAX_RUN_PIXELS = 2**22  # of a BMP of runs, which Pillow unpacks in Python

# Pillow makes an object of each number of these as it opens a file.
_READ_TAGS = frozenset(
    {Tag.StripOffsets, Tag.StripByteCounts, Tag.TileOffsets, Tag.TileByteCounts, Tag.BitsPerSample}
    | {Tag.Orientation, Tag.XResolution, Tag.YResolution, Tag.ResolutionUnit, Tag.ColorMap, Tag.ExtraSamples}
    | {Tag.SampleFormat, Tag.YCbCrSubSampling, Tag.XMLPacket, Tag.InterColorProfile}
)
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
    return f"{MAX_STRIPS:,} strips, tiles, tags or numbers in one of them" if _has_many_values(data) else None


def _jpeg_bomb_of(data: bytes) -> str | None:
    position, junk, scans = 2, 0, 0
    for number, segment in enumerate(segments(data), 1):
        if scans and segment.code == END_OF_IMAGE:
            return None
        scans += segment.code == START_OF_SCAN
        junk += 0 if scans else segment.start - position  # between scans lie the pixels
        if scans > MAX_SCANS:
            return f"{MAX_SCANS:,} scans"
        if number > MAX_SEGMENTS:
            return f"{MAX_SEGMENTS:,} segments"
        if junk > MAX_JUNK_BYTES:
            break
        position = segment.end
    if junk > MAX_JUNK_BYTES or (not scans and len(data) - position > MAX_JUNK_BYTES):
        return f"{MAX_JUNK_BYTES:,} bytes between its segments that belong to none"
    return None


def _bmp_pixels(data: bytes) -> int:
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(int(width) * int(height))


def _has_many_values(data: bytes) -> bool:
    """Return whether a TIFF's first directory claims too many tags, or numbers in one (as of strips)."""
    return any(
        number > MAX_STRIPS or (entry.length > MAX_STRIPS and entry.form and entry.tag in _READ_TAGS)
        for number, entry in enumerate(Directory(data).table(), 1)
    )
