"""TIFF directories, read within bounds, and the kinds of TIFF that the decoder lacks."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

from PIL.TiffImagePlugin import TiffImageFile

from shared.image_files.other_kinds import jpeg_kind

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, MAKE, SAMPLES = 256, 257, 258, 259, 262, 271, 277
_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES = 273, 279, 324, 325
_PLANAR, _SUB_DIRECTORIES, _FORMAT = 284, 330, 339
_MAX_DIRECTORIES = 16
_MAX_TAGS = 1_000  # of a directory; cameras write some dozens
_MAX_VALUES = 100_000  # of a tag: see decompression_bombs.MAX_STRIPS
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "B", 7: "B", 13: "I", 16: "Q", 18: "Q"}

_NUMBERS = (b"*\0", b"\0*", b"+\0", b"\0+", b"U\0")  # TIFF and BigTIFF, either way round; Panasonic's raw

_READ = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34925, 50000})
_COMPRESSIONS = {
    9: "JBIG",
    10: "JBIG",
    22610: "JPEG XR",
    32766: "the method of NeXT",
    32895: "the method of IT8",
    32896: "the method of IT8",
    32897: "the method of IT8",
    32898: "the method of IT8",
    32908: "the method of Pixar",
    32909: "the method of Pixar",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34663: "JBIG 2",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    34715: "JBIG 2",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_COLOURS = {
    0: "grey, white is zero",
    1: "grey",
    2: "RGB",
    3: "palette",
    4: "a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    9: "ICC LAB",
    10: "ITU LAB",
    32844: "LogL",
    32845: "LogLuv",
    51177: "a depth map",
}
_NATIVE = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;32B": "I;32N", "I;16BS": "I;16NS"}
# Pillow's words; where they change, a test of the kinds fails.
_UNKNOWN_PIXELS = ("unknown pixel mode", "unknown data organization", "Invalid value for samples per pixel")
_FORMATS = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}


@dataclass(frozen=True, slots=True)
class Directory:
    """The entries of one directory, by tag: (type, count, where its values lie)."""

    data: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]
    next: int
    is_cut_off: bool

    def numbers(self, tag: int, most: int = 64) -> tuple[int, ...]:
        """Return at most `most` whole numbers or bytes; none of a tag that is missing or outside the file."""
        kind, count, place = self.entries.get(tag, (0, 0, 0))
        letter = _TYPES.get(kind, "")
        count = min(count, most)
        if not letter or place + count * struct.calcsize(letter) > len(self.data):
            return ()
        return struct.unpack_from(f"{self.order}{count}{letter}", self.data, place)

    def number(self, tag: int, default: int = 0) -> int:
        return next(iter(self.numbers(tag, 1)), default)

    def text(self, tag: int) -> str:
        values = self.numbers(tag)
        return bytes(values).decode("ascii", "replace").strip("\0 ") if max(values, default=0) < 256 else ""


def directories(data: bytes) -> list[Directory]:
    """Return the first directory of a file built as TIFF is, and those below it (SubIFDs). Never raises.

    The next ones count while none holds a picture. All is bounded: a directory may name others without end,
    or itself.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16 or data[2:4] not in _NUMBERS:
        return []
    big = b"+" in data[2:4]
    waiting = list(struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4))
    found: dict[int, Directory] = {}
    while waiting and len(found) < _MAX_DIRECTORIES:
        place = waiting.pop(0)
        if place not in found and (directory := _directory(data, order, big, place)):
            found[place] = directory
            waiting += directory.numbers(_SUB_DIRECTORIES, _MAX_DIRECTORIES)
            if not any(WIDTH in one.entries for one in found.values()):
                waiting.append(directory.next)
    return list(found.values())


def _directory(data: bytes, order: str, big: bool, place: int) -> Directory | None:
    number, entry, inline = (order + "Q", order + "HHQ", 8) if big else (order + "H", order + "HHI", 4)
    size = struct.calcsize(entry) + inline
    first = place + struct.calcsize(number)
    if place == 0 or first > len(data):
        return None
    (count,) = struct.unpack_from(number, data, place)
    entries, end = {}, first + min(count, _MAX_TAGS, (len(data) - first) // size) * size
    for start in range(first, end, size):
        tag, kind, values = struct.unpack_from(entry, data, start)
        where = start + size - inline
        if values * struct.calcsize(_TYPES.get(kind, "Q")) > inline:
            (where,) = struct.unpack_from(order + ("Q" if big else "I"), data, where)
        entries[tag] = (kind, values, where)
    after = int.from_bytes(data[end : end + inline], "little" if order == "<" else "big")
    return Directory(data, order, entries, after, is_cut_off=first + count * size > len(data))


def mend_tiles(image: TiffImageFile) -> None:
    """Have samples read as they are that Pillow would make noise of. Raises ValueError where that can't be.

    These are deep samples of a compressed big-endian file, which libtiff gives in the machine's order and
    Pillow takes for the file's; planes of 16 bits without compression, which it takes for 8; and YCbCr of
    fewer colours than pixels without compression, which it takes for whole.
    """
    tags: Any = image.tag_v2
    sizes = tags.get(_STRIP_SIZES, tags.get(_TILE_SIZES, ()))
    if image.mode == "YCbCr" and sum(sizes) < 3 * image.width * image.height:
        raise ValueError("subsampled")
    in_planes = tags.get(_PLANAR) == 2 and tags.get(BITS, (8,))[0] == 16
    ending = ";16L" if tags.prefix == b"II" else ";16B"
    for place, tile in enumerate(image.tile):
        rawmode, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if tile.codec_name == "libtiff":
            rawmode = _NATIVE.get(rawmode, rawmode)
        elif in_planes and rawmode in ("R", "G", "B", "A"):
            rawmode += ending
        elif in_planes and rawmode in ("C", "M", "Y", "K"):
            raise ValueError("CMYK of 16 bits in planes")
        image.tile[place] = tile._replace(args=(rawmode, *rest))


def tiff_kind(data: bytes, opened: bool) -> str | None:
    """Return what the decoder lacks for a TIFF that it did not open, or opened and did not decode.

    None for one that is damaged, or of a kind that is read.
    """
    first = next(iter(directories(data)), None)
    if first is None or first.is_cut_off or not _is_whole(first):
        return None
    compression = first.number(COMPRESSION, 1)
    if compression not in _READ:
        name = _COMPRESSIONS.get(compression, f"an unknown method ({compression})")
        return f"a TIFF compressed with {name} is not read: save it with LZW, Deflate or none"
    if compression in (6, 7) and (kind := _jpeg_within(first)):
        return f"a TIFF that holds {kind} is not read: save it with LZW, Deflate or none"
    if data.startswith(b"MM\0+"):
        return "a BigTIFF of big-endian byte order is not read: save it in the other order"
    if _is_laid_out_oddly(first) or (not opened and _is_of_unknown_pixels(data)):
        return f"a TIFF of {_pixels(first)} is not read: save it as RGB or grey of 8 or 16 bits"
    return None


def _is_of_unknown_pixels(data: bytes) -> bool:
    """Return whether Pillow says that it knows no such pixels, rather than that something is damaged."""
    try:
        TiffImageFile(io.BytesIO(data))
    except Exception as error:
        return str(error) in _UNKNOWN_PIXELS
    return False


def _is_whole(first: Directory) -> bool:
    """Return whether a directory makes sense and its pixels lie in the file."""
    strips, sizes = _strips(first)
    bits = first.numbers(BITS) or (1,)
    read = first.entries.keys() & {BITS, _STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES}
    return (
        all(first.numbers(tag, _MAX_VALUES) for tag in read)
        and first.number(WIDTH) > 0
        and first.number(HEIGHT) > 0
        and 1 <= first.number(SAMPLES, 1) <= 1024
        and all(1 <= one <= 128 for one in bits)
        and first.number(PHOTOMETRIC) in _COLOURS
        and len(strips) > 0
        and all(0 < place < len(first.data) for place in strips)
        and (not sizes or len(sizes) == len(strips))
        and all(place + size <= len(first.data) for place, size in zip(strips, sizes, strict=False))
    )


def _strips(first: Directory) -> tuple[tuple[int, ...], tuple[int, ...]]:
    places, sizes = (_STRIPS, _STRIP_SIZES) if _STRIPS in first.entries else (_TILES, _TILE_SIZES)
    return first.numbers(places, _MAX_VALUES), first.numbers(sizes, _MAX_VALUES)


def _is_laid_out_oddly(first: Directory) -> bool:
    """Return whether Pillow knows such pixels, and neither it nor we can tell where they lie."""
    colours, samples = first.number(PHOTOMETRIC), first.number(SAMPLES, 1)
    is_raw, in_planes = first.number(COMPRESSION, 1) == 1, first.number(_PLANAR, 1) == 2
    if colours == 6:
        return is_raw or in_planes
    extra = samples - {2: 3, 5: 4, 8: 3}.get(colours, 1)
    return is_raw and in_planes and (extra > 0 or (colours == 5 and first.number(BITS) == 16))


def _jpeg_within(first: Directory) -> str | None:
    (place, *_), _ = _strips(first)
    return jpeg_kind(first.data[place:])


def _pixels(first: Directory) -> str:
    samples, bits = first.number(SAMPLES, 1), sorted(set(first.numbers(BITS) or (1,)))
    kinds = [
        _COLOURS[first.number(PHOTOMETRIC)],
        _FORMATS.get(first.number(_FORMAT, 1), ""),
        "in planes" if first.number(_PLANAR, 1) == 2 else "",
        "reversed bits" if first.number(266, 1) == 2 else "",
    ]
    depth = " and ".join(str(one) for one in bits) + (" bit" if bits == [1] else " bits")
    return (
        f"{samples} sample{'s' if samples > 1 else ''} of {depth} ({', '.join(one for one in kinds if one)})"
    )
