"""Kinds of JPEG, PNG, BMP and HEIF files that the decoders lack, known by their headers."""

from __future__ import annotations

import re
import struct
from itertools import islice

from shared.image_files.decompression_bombs import MAX_SEGMENTS
from shared.image_files.jpeg_scans import START_OF_SCAN, segments

_FRAMES = {
    0xC3: "a lossless JPEG",
    0xCB: "a lossless JPEG of arithmetic coding",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "a hierarchical JPEG"),
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC9, 0xCA), "a JPEG"),
    0xF7: "a JPEG-LS picture",
}
_READ = ("a JPEG", "a lossless JPEG")
_BMP_COMPRESSIONS = {
    4: "a JPEG",
    5: "a PNG",
    11: "uncompressed CMYK",
    12: "CMYK in runs",
    13: "CMYK in runs",
}
_OS2_COMPRESSIONS = {3: "Huffman coding", 4: "24-bit runs"}
_MASKS = frozenset({3, 6})
_BMP_HEADERS = frozenset({40, 52, 56, 64, 108, 124})
_HEIF_ITEMS = {
    b"j2k1": "JPEG 2000",
    b"jpeg": "JPEG",
    b"avc1": "H.264",
    b"vvc1": "H.266",
    b"evc1": "EVC",
    b"unci": "uncompressed pixels",
}
_SEQUENCES = (b"hevc", b"hevx", b"msf1")
_ITEM = re.compile(rb"infe(?:\x02...(..)|\x03...(.{4}))..(.{4})", re.DOTALL)
_PRIMARY = re.compile(rb"pitm(?:\0...(..)|\x01...(.{4}))", re.DOTALL)
_HEIF_HEAD = 2**16


def other_kind(data: bytes) -> str | None:
    """Return, as a sentence, what the decoders lack for a JPEG, PNG, BMP or HEIF that could not be read.

    None where nothing is known.
    """
    if data.startswith(b"\xff\xd8"):
        kind = jpeg_kind(data)
    elif data.startswith(b"\x89PNG"):
        kind = "an Apple-optimised PNG (CgBI)" if data[12:16] == b"CgBI" else None
    elif data.startswith(b"BM"):
        kind = _bmp_kind(data)
    else:
        kind = _heif_kind(data) if data[4:8] == b"ftyp" else None
    return kind and f"{kind} is not read: save it as JPEG or PNG"


def jpeg_kind(data: bytes) -> str | None:
    """Return what kind of JPEG begins here, as `a lossless JPEG`; None for one that is read, or damaged."""
    for code, _, body, _ in islice(segments(data), MAX_SEGMENTS):
        if code == START_OF_SCAN:
            return None
        if code in _FRAMES:
            frame = data[body + 2 : body + 8]
            return _frame_kind(_FRAMES[code], frame) if len(frame) == 6 else None
    return None


def _frame_kind(kind: str, frame: bytes) -> str | None:
    bits, components = frame[0], frame[5]
    if not 2 <= bits <= 16 or not components:
        return None
    if bits != 8:
        return f"{kind} of {bits} bits a sample"
    if components not in (1, 3, 4):
        return f"{kind} of {components} components"
    return None if kind in _READ else kind


def _bmp_kind(data: bytes) -> str | None:
    if len(data) < 54:
        return None
    header, width, height, bits, compression = struct.unpack_from("<Iii2xHI", data, 14)
    if header == 64 and compression in _OS2_COMPRESSIONS:
        return f"an OS/2 BMP of {_OS2_COMPRESSIONS[compression]}"
    if header in _BMP_HEADERS and compression in _BMP_COMPRESSIONS:
        return f"a BMP that holds {_BMP_COMPRESSIONS[compression]}"
    row = (width * bits + 31) // 32 * 4
    (offset,) = struct.unpack_from("<I", data, 10)
    if width <= 0 or height == 0 or row * abs(height) > len(data) - offset:
        return None
    (colours,) = struct.unpack_from("<I", data, 46)
    odd = {
        f"a BMP with a palette of {colours} colours": bits <= 8 and 256 < colours <= 65_536,
        f"a BMP with a header of {header} bytes": header not in _BMP_HEADERS and header in range(16, 124, 4),
        f"a BMP of {bits} bits a pixel with unusual colour masks": compression in _MASKS and bits in (16, 32),
        f"a BMP of {bits} bits a pixel": compression == 0 and bits in (2, 64),
    }
    return next((kind for kind, is_it in odd.items() if is_it), None)


def _heif_kind(data: bytes) -> str | None:
    head = data[:_HEIF_HEAD]
    primary = _PRIMARY.search(head)
    if primary is None:
        return "a HEIF sequence without a still picture" if data[8:12] in _SEQUENCES else None
    number = int.from_bytes(primary[1] or primary[2])
    items = {int.from_bytes(item[1] or item[2]): item[3] for item in _ITEM.finditer(head)}
    name = _HEIF_ITEMS.get(items.get(number, b""))
    return name and f"a HEIF of {name}"
