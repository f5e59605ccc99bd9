"""TIFFs from scratch, of any tags and directories: rare kinds, and what is built as camera raw is."""

import struct
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Tags = dict[int, Any]  # a number, some, a text, bytes, or for SubIFDs a list of further Tags
_SHORTS = frozenset({258, 259, 262, 277, 284, 317, 338, 339, 530})
WIDTH, HEIGHT = 64, 48


def tiff_file(tags: Tags, pixels: bytes = b"", order: str = "<", *, big: bool = False) -> bytes:
    """Whose `pixels` lie at byte 8, or 16 of a BigTIFF."""
    mark = b"II" if order == "<" else b"MM"
    offset, number = ("Q", "Q") if big else ("I", "H")
    start = 16 if big else 8
    body = bytearray(pixels + bytes(len(pixels) % 2))

    def add(values: Tags) -> int:
        """Append a directory, those below it first; return its place."""
        entries = []
        for tag, value in sorted(values.items()):
            letter, kind, given = _encoded(tag, [add(one) for one in value] if _is_below(value) else value)
            packed = struct.pack(f"{order}{len(given)}{letter}", *given)
            if len(packed) > struct.calcsize(offset):
                place = start + len(body)
                body.extend(packed + bytes(len(packed) % 2))
                packed = struct.pack(order + offset, place)
            entries.append(
                struct.pack(order + "HH" + offset, tag, kind, len(given))
                + packed.ljust(struct.calcsize("=" + offset), b"\0")
            )
        place = start + len(body)
        body.extend(struct.pack(order + number, len(entries)) + b"".join(entries) + bytes(8))
        return place

    first = add(tags)
    head = struct.pack(order + "2sHHHQ", mark, 43, 8, 0, first) if big else b""
    return (head or struct.pack(order + "2sHI", mark, 42, first)) + body


def _is_below(value: Any) -> bool:
    return isinstance(value, list)


def _encoded(tag: int, value: Any) -> tuple[str, int, Any]:
    if isinstance(value, str):
        return "B", 2, value.encode() + b"\0"
    if isinstance(value, bytes):
        return "B", 1, value
    values = value if isinstance(value, tuple | list) else (value,)
    return ("H", 3, values) if tag in _SHORTS else ("I", 4, values)


def picture(
    colours: int = 2, bits: int = 8, samples: int = 3, compression: int = 1, *, start: int = 8, **more: Any
) -> Tags:
    """The tags of WIDTH by HEIGHT pixels in one strip behind the head; `more` by number, as `t284=2`."""
    size = (WIDTH * bits * samples + 7) // 8 * HEIGHT
    tags = {256: WIDTH, 257: HEIGHT, 258: (bits,) * samples, 259: compression, 262: colours, 277: samples}
    return {**tags, 273: start, 278: HEIGHT, 279: size, **{int(name[1:]): one for name, one in more.items()}}


def grey_levels(count: int, bits: int = 8) -> bytes:
    """Pixels that are not all alike."""
    return bytes(place * 7 % 256 for place in range(count * bits // 8))


def deep_tiff(
    values: NDArray[Any],
    bits: int = 0,
    *,
    white_is_zero: bool = False,
    big_endian: bool = False,
    deflated: bool = False,
    no_data: str = "",
) -> bytes:
    """A TIFF of grey values as they are; those of 12 `bits` lie two in three bytes."""
    order: Literal["<", ">"] = ">" if big_endian else "<"
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if bits == 12:
        left, right = values[:, ::2], values[:, 1::2]
        body = (
            np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], -1).astype(np.uint8).tobytes()
        )
    data = zlib.compress(body) if deflated else body
    height, width = values.shape
    tags: Tags = {256: width, 257: height, 258: bits or 8 * values.itemsize, 259: 8 if deflated else 1}
    tags |= {262: int(not white_is_zero), 273: 8, 277: 1, 278: height, 279: len(data)}
    tags |= {339: "uif".index(values.dtype.kind) + 1} | ({42113: no_data} if no_data else {})  # GDAL's
    return tiff_file(tags, data, order)


PREVIEW = grey_levels(WIDTH * HEIGHT * 3)


def raw_file(make: str, below: Tags | None = None, order: str = "<", **more: Any) -> bytes:
    """As cameras write them: a small sound picture first, and what the sensor saw in a SubIFD."""
    tags = picture(t271=make, t254=1, **more)
    sensor = picture(32803, 12, 1, t33421=(2, 2), t33422=b"\0\1\1\2")
    return tiff_file({**tags, 330: [sensor if below is None else below]}, PREVIEW, order)
