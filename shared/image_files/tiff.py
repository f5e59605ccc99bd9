"""The kinds of TIFF that the decoder lacks, and those that it must be told how to read."""

from __future__ import annotations

import io
from itertools import islice
from typing import Any

from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import OPEN_INFO, TiffImageFile

from shared.image_files.decompression_bombs import MAX_STRIPS
from shared.image_files.other_kinds import jpeg_kind
from shared.image_metadata.tiff_tags import Directory

# Pillow takes it for a TIFF whose directory is elsewhere, in which nobody has counted strips.
BIG_ENDIAN_BIGTIFF = b"MM\0+"
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
_NEEDED = frozenset(
    {Tag.BitsPerSample, Tag.StripOffsets, Tag.StripByteCounts, Tag.TileOffsets, Tag.TileByteCounts}
)
_SAMPLE_FORMATS = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}

# Grey that Pillow's table lacks, though it has what reading it takes: deep and unsigned, deep with zero for
# white; signed of 8 bits, which it takes for unsigned. The table is public and not documented, and there is
# no other way to add to it; where it changes, the tests of deep grey fail. Its keys: byte order, colours,
# sample format, fill order, bits, extra samples.
OPEN_INFO.update(
    {
        (b"II", 1, (2,), 1, (8,), ()): ("I", "I;8S"),
        (b"MM", 1, (2,), 1, (8,), ()): ("I", "I;8S"),
        (b"II", 0, (1,), 1, (12,), ()): ("I;16", "I;12"),
        (b"MM", 0, (1,), 1, (12,), ()): ("I;16", "I;12"),
        (b"MM", 1, (1,), 1, (12,), ()): ("I;16", "I;12"),
        (b"MM", 0, (1,), 1, (16,), ()): ("I;16B", "I;16B"),
        (b"II", 0, (1,), 1, (32,), ()): ("I", "I;32"),
        (b"MM", 0, (1,), 1, (32,), ()): ("I", "I;32B"),
        (b"MM", 1, (1,), 1, (32,), ()): ("I", "I;32B"),
    }
)


def tile_size(first: Directory) -> tuple[int, int]:
    """Return the width and height of a TIFF's tiles, which may be larger than its picture, or zeros."""
    return first.number(Tag.TileWidth), first.number(Tag.TileLength)


def mend_tiles(image: TiffImageFile) -> None:
    """Have samples read as they are that Pillow would make noise of. Raises ValueError where that can't be.

    These are deep samples of a compressed big-endian file, which libtiff gives in the machine's order and
    Pillow takes for the file's; planes of 16 bits without compression, which it takes for 8; and YCbCr of
    fewer colours than pixels without compression, which it takes for whole.
    """
    tags: Any = image.tag_v2
    sizes = tags.get(Tag.StripByteCounts, tags.get(Tag.TileByteCounts, ()))
    if image.mode == "YCbCr" and sum(sizes) < 3 * image.width * image.height:
        raise ValueError("subsampled")
    in_planes = tags.get(Tag.PlanarConfiguration) == 2 and tags.get(Tag.BitsPerSample, (8,))[0] == 16
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
    first = Directory(data)
    if first.end > len(data) or not _is_whole(first):
        return None
    compression = first.number(Tag.Compression, 1)
    if compression not in _READ:
        name = _COMPRESSIONS.get(compression, f"an unknown method ({compression})")
        return f"a TIFF compressed with {name} is not read: save it with LZW, Deflate or none"
    if compression in (6, 7) and (kind := _jpeg_within(first)):
        return f"a TIFF that holds {kind} is not read: save it with LZW, Deflate or none"
    if data.startswith(BIG_ENDIAN_BIGTIFF):
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
    places = strips(first)
    bits = first.numbers(Tag.BitsPerSample) or (1,)
    needed = (entry for entry in islice(first.table(), MAX_STRIPS) if entry.tag in _NEEDED)
    return (
        all(entry.place + entry.size <= len(first.data) for entry in needed)
        and first.number(Tag.ImageWidth) > 0
        and first.number(Tag.ImageLength) > 0
        and 1 <= first.number(Tag.SamplesPerPixel, 1) <= 1024
        and all(1 <= one <= 128 for one in bits)
        and first.number(Tag.PhotometricInterpretation) in _COLOURS
        and len(places) > 0
        and all(0 < start < len(first.data) and end <= len(first.data) for start, end in places)
    )


def strips(first: Directory) -> list[tuple[int, int]]:
    """Return where each strip or tile begins and ends; nothing where a directory contradicts itself."""
    is_tiled = Tag.StripOffsets not in first.entries
    starts = first.numbers(Tag.TileOffsets if is_tiled else Tag.StripOffsets, MAX_STRIPS)
    sizes = first.numbers(Tag.TileByteCounts if is_tiled else Tag.StripByteCounts, MAX_STRIPS)
    sizes = sizes or (0,) * len(starts)
    return (
        [(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        if len(starts) == len(sizes)
        else []
    )


def _is_laid_out_oddly(first: Directory) -> bool:
    """Return whether Pillow knows such pixels, and neither it nor we can tell where they lie."""
    colours, samples = first.number(Tag.PhotometricInterpretation), first.number(Tag.SamplesPerPixel, 1)
    is_raw, in_planes = first.number(Tag.Compression, 1) == 1, first.number(Tag.PlanarConfiguration, 1) == 2
    if colours == 6:
        return is_raw or in_planes
    extra = samples - {2: 3, 5: 4, 8: 3}.get(colours, 1)
    return is_raw and in_planes and (extra > 0 or (colours == 5 and first.number(Tag.BitsPerSample) == 16))


def _jpeg_within(first: Directory) -> str | None:
    (start, _), *_ = strips(first)
    return jpeg_kind(first.data[start:])


def _pixels(first: Directory) -> str:
    samples, bits = (
        first.number(Tag.SamplesPerPixel, 1),
        sorted(set(first.numbers(Tag.BitsPerSample) or (1,))),
    )
    kinds = [
        _COLOURS[first.number(Tag.PhotometricInterpretation)],
        _SAMPLE_FORMATS.get(first.number(Tag.SampleFormat, 1), ""),
        "in planes" if first.number(Tag.PlanarConfiguration, 1) == 2 else "",
        "reversed bits" if first.number(Tag.FillOrder, 1) == 2 else "",
    ]
    depth = " and ".join(str(one) for one in bits) + (" bit" if bits == [1] else " bits")
    return (
        f"{samples} sample{'s' if samples > 1 else ''} of {depth} ({', '.join(one for one in kinds if one)})"
    )
