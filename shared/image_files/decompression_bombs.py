"""Decompression bombs: files that cost far more time or memory than their pixels, known by their headers.

The limits are far above what any encoder writes. Beyond them, 50 MB of empty segments, scans or strips keep a
core busy for minutes or hours, or take gigabytes.
"""

import struct

from PIL.ExifTags import Base as Tag

from shared.image_files.jpeg_scans import END_OF_IMAGE, START_OF_SCAN, segments
from shared.image_metadata.tiff_tags import Directory

MAX_SCANS = 64  # of a JPEG; encoders write about ten
MAX_SEGMENTS = 20_000  # of a JPEG; a large colour profile makes some hundreds
MAX_EXIF_SEGMENTS = 16  # of a JPEG, each of which Pillow adds to a copy of all before; cameras write one
MAX_CHUNKS = 100_000  # of a PNG or WebP; encoders write one for eight kilobytes or more, or for a frame
MAX_BLOCKS = 200_000  # of a GIF before its first frame, and bytes that belong to none
MAX_JUNK_BYTES = 64 * 1024  # bytes between a JPEG's segments
MAX_STRIPS = 100_000  # or tiles, or tags, or numbers in one of them, of a TIFF
MAX_STRIP_BYTES = 2**28  # in all strips of a TIFF smaller than that, which may be the same bytes each
MAX_RUN_PIXELS = 2**22  # of a BMP of runs, which Pillow unpacks in Python

# Pillow makes an object of each number of these as it opens a file.
_READ_TAGS = frozenset(
    {Tag.StripOffsets, Tag.StripByteCounts, Tag.TileOffsets, Tag.TileByteCounts, Tag.BitsPerSample}
    | {Tag.Orientation, Tag.XResolution, Tag.YResolution, Tag.ResolutionUnit, Tag.ColorMap, Tag.ExtraSamples}
    | {Tag.SampleFormat, Tag.YCbCrSubSampling, Tag.XMLPacket, Tag.InterColorProfile}
)
_APP1 = 0xE1
_RUNS = (b"\1\0\0\0", b"\2\0\0\0")


def bomb_of(data: bytes) -> str | None:
    """Return which limit a file is over, as `100,000 strips`; None for a sound one, and for other formats."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_bomb_of(data)
    if data.startswith((b"\x89PNG", b"RIFF")):
        return f"{MAX_CHUNKS:,} chunks" if _has_many_chunks(data) else None
    if data.startswith(b"GIF8"):
        return f"{MAX_BLOCKS:,} blocks before its first frame" if _has_many_blocks(data) else None
    if data.startswith(b"BM"):
        is_bomb = data[30:34] in _RUNS and _bmp_pixels(data) > MAX_RUN_PIXELS
        return f"{MAX_RUN_PIXELS:,} pixels that are compressed in runs" if is_bomb else None
    first = Directory(data)
    if _has_many_values(first):
        return f"{MAX_STRIPS:,} strips, tiles, tags or numbers in one of them"
    return f"{MAX_STRIP_BYTES:,} bytes in its strips or tiles" if _has_many_bytes(first) else None


def _jpeg_bomb_of(data: bytes) -> str | None:
    position, junk, scans, exifs = 2, 0, 0, 0
    for number, segment in enumerate(segments(data), 1):
        if scans and segment.code == END_OF_IMAGE:
            return None
        scans += segment.code == START_OF_SCAN
        exifs += segment.code == _APP1 and data.startswith(b"Exif\0", segment.body + 2)
        junk += 0 if scans else segment.start - position  # between scans lie the pixels
        if scans > MAX_SCANS:
            return f"{MAX_SCANS:,} scans"
        if number > MAX_SEGMENTS:
            return f"{MAX_SEGMENTS:,} segments"
        if exifs > MAX_EXIF_SEGMENTS:
            return f"{MAX_EXIF_SEGMENTS:,} segments of EXIF"
        if junk > MAX_JUNK_BYTES:
            break
        position = segment.end
    if junk > MAX_JUNK_BYTES or (not scans and len(data) - position > MAX_JUNK_BYTES):
        return f"{MAX_JUNK_BYTES:,} bytes between its segments that belong to none"
    return None


def _bmp_pixels(data: bytes) -> int:
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(int(width) * int(height))


def _has_many_chunks(data: bytes) -> bool:
    """Return whether a PNG or WebP has too many chunks, without what stands behind its end."""
    is_webp = data.startswith(b"RIFF")
    position = 16 if is_webp else 8  # of a length
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little") if is_webp else len(data))
    for _ in range(MAX_CHUNKS):
        name = data[position + 4 : position + 8]
        length = int.from_bytes(data[position : position + 4], "little" if is_webp else "big")
        position += 8 + length + length % 2 if is_webp else 12 + length
        if position >= end or name == b"IEND":
            return False
    return True


def _has_many_blocks(data: bytes) -> bool:
    """Return whether a GIF has too many blocks before its first frame, which Pillow reads one by one."""
    position = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10:11] >= b"\x80" else 0)
    is_within = False  # an extension, whose blocks have a length each, until one of none
    for _ in range(MAX_BLOCKS):
        if position >= len(data):
            return False
        first = data[position]
        if is_within:
            position += 1 + first
            is_within = first > 0
        elif first in b",;":
            return False
        else:
            is_within = first == 0x21
            position += 2 if is_within else 1
    return True


def _has_many_bytes(first: Directory) -> bool:
    sizes = (first.numbers(tag, MAX_STRIPS) for tag in (Tag.StripByteCounts, Tag.TileByteCounts))
    most = max(MAX_STRIP_BYTES, len(first.data))
    return any(sum(min(size, len(first.data)) for size in one) > most for one in sizes)


def _has_many_values(first: Directory) -> bool:
    """Return whether a TIFF's first directory claims too many tags, or numbers in one (as of strips)."""
    return any(
        number > MAX_STRIPS or (entry.length > MAX_STRIPS and entry.form and entry.tag in _READ_TAGS)
        for number, entry in enumerate(first.table(), 1)
    )
