"""PNG: the picture alone, of a file whose other chunks are damaged or more than Pillow takes.

As browsers do it: a wrong checksum of a chunk that makes no pixels costs that chunk alone.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from shared.image_files.decompression_bombs import MAX_CHUNKS

_START = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"PLTE")
_KEPT = (*_CRITICAL, b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf")
# What else may say which side is up, when and where; the latter are ImageMagick's.
_KEPT_TEXTS = (
    b"XML:com.adobe.xmp\0",
    *(b"Raw profile type %s\0" % name for name in (b"exif", b"APP1", b"xmp")),
)
_MAX_TEXT = 2**20  # bytes of one of these
_KNOWN = re.compile(b"|".join((*_KEPT, b"IDAT", b"IEND")))
_HEAD, _CHECKSUM = 8, 4  # bytes of a chunk before its body, and behind it
# Of the checksum that ends the deflated pixels: what is left of it is not compared, and without any byte of
# it Pillow would leave rows in the buffer.
_LAST_BYTE = 1


def only_pixels(data: bytes) -> Iterator[bytes]:
    """Yield a PNG anew, of the chunks that say how it looks, and then of those that it cannot do without.

    Nothing comes of another file, of one without pixels, or whose header or palette is damaged.
    """
    if not data.startswith(_START):
        return
    kept: dict[bytes, bytes] = {}
    pixels, are_sound = bytearray(), True
    for name, body, checksum in _chunks(data):
        if name == b"IDAT":
            pixels += body
            are_sound &= zlib.crc32(name + body) == checksum
        elif name in _KEPT or (body.startswith(_KEPT_TEXTS) and len(body) <= _MAX_TEXT):
            if zlib.crc32(name + body) == checksum:
                kept.setdefault(name if name in _KEPT else body[:20], _chunk(name, body))
            elif name in _CRITICAL:
                return
    if are_sound:  # by the checksums of their chunks: the other one is not needed
        del pixels[-_LAST_BYTE:]
    if pixels:
        name = b"IDAT"
        head, checksum = struct.pack(">I4s", len(pixels), name), zlib.crc32(pixels, zlib.crc32(name))
        end = (head, pixels, struct.pack(">I", checksum), _chunk(b"IEND", b""))  # with one copy of them
        for names in dict.fromkeys((tuple(kept), tuple(name for name in _CRITICAL if name in kept))):
            yield b"".join((_START, *(kept[name] for name in names), *end))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield names, bodies and checksums; behind a wrong length, go on at the next name that is known."""
    position, size = len(_START), len(data)
    for _ in range(MAX_CHUNKS):
        if position + _HEAD > size:
            return
        length, name = struct.unpack_from(">I4s", data, position)
        start, end = position + _HEAD, position + _HEAD + length
        position = end + _CHECKSUM
        if name == b"IEND":
            return
        next_name = data[position + 4 : position + _HEAD]
        if next_name.isalpha() or position == size or name in (*_CRITICAL, b"IDAT"):
            yield name, data[start:end], int.from_bytes(data[end:position])
        elif found := _KNOWN.search(data, start - 3):
            position = found.start() - 4
        else:
            return


def _chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(name))
    return b"".join((struct.pack(">I", len(body)), name, body, struct.pack(">I", checksum)))
