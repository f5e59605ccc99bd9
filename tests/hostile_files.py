"""Files that were made to do harm, by theme: name -> (how to build it, what it must end as)."""

import functools
import re
import struct
import zlib
from collections.abc import Callable

from PIL import Image

from tests.sample_files import PNG_START, png, samples, save, tiff
from tests.tiff_files import tiff_file

PICTURE, CORRUPT, UNSUPPORTED = "picture", "corrupt_image", "unsupported_format"
NO_IMAGE, TOO_MANY = "not_an_image", "too_many_pixels"

Hostile = tuple[Callable[[], bytes], str]

MB = 2**20
SIDE = 4_000  # squared, far below the limit of pixels: memory is bounded by the pixel
PIXELS_8 = (b"IDAT", zlib.compress(bytes(8 * 25)))  # of an 8 x 8 RGB PNG


@functools.cache
def zeros(count: int) -> bytes:
    """`count` zero bytes, deflated: about a thousandth of them."""
    deflate = zlib.compressobj(9)
    whole, rest = divmod(count, MB)
    parts = [deflate.compress(bytes(MB)) for _ in range(whole)]
    return b"".join([*parts, deflate.compress(bytes(rest)), deflate.flush()])


def sample(name: str) -> bytes:
    return samples()[name]


def jpeg_with(segments: bytes) -> bytes:
    data = sample("jpeg")
    return data[:2] + segments + data[2:]


def jpeg_of_scans(count: int, side: int = 512) -> bytes:
    """Its last scan comes again and again."""
    data = save(Image.new("RGB", (side, side), "teal"), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    scan = data[data.rindex(b"\xff\xc4") : end]
    return data[:end] + scan * count + data[end:]


def gif_with(blocks: bytes) -> bytes:
    """With more blocks before its first frame."""
    data = sample("gif, interlaced")
    frame = re.search(rb",\0\0\0\0@\0\x30\0", data)
    assert frame is not None
    return data[: frame.start()] + blocks + data[frame.start() :]


def gif_of_size(width: int, height: int) -> bytes:
    """Whose frame is larger than its screen."""
    return gif_with(b",\0\0\0\0" + struct.pack("<HH", width, height))


def webp_canvas(width: int, height: int) -> bytes:
    """An animation whose one frame has one pixel."""
    still = save(Image.new("RGBA", (1, 1)), "WEBP", lossless=True)
    pixel = still[still.index(b"VP8L") :]
    frame = bytes(12) + struct.pack("<I", 100)[:3] + b"\0" + pixel
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    parts = ((b"VP8X", b"\x12\0\0\0" + size), (b"ANIM", bytes(6)), (b"ANMF", frame))
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(part)) + part for name, part in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_with(chunks: bytes) -> bytes:
    """With more chunks behind its pixels."""
    data = sample("webp, alpha")
    return data[:4] + struct.pack("<I", len(data) + len(chunks) - 8) + data[8:] + chunks


def with_size(data: bytes, box: bytes, width: int, height: int) -> bytes:
    """An AVIF or HEIC that claims another size than its pixels have."""
    place = data.index(box) + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


def bmp_with_size(width: int, height: int) -> bytes:
    data = sample("bmp")
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


def bmp_of_runs(width: int, height: int, pixels: bytes) -> bytes:
    data = sample("bmp, runs")
    head = data[:18] + struct.pack("<ii", width, height) + data[26:34] + struct.pack("<I", len(pixels))
    return head + data[38:1078] + pixels


def grey_tiff(width: int, height: int, **more: int) -> bytes:
    """One deflated strip; `more` tags by number, as `t258=16`."""
    tags: dict[int, int | bytes] = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 278: height}
    tags |= {int(name[1:]): value for name, value in more.items()}
    strip = zeros(width * height * int(tags[258]) // 8)
    return tiff(tags | {273: 8, 279: len(strip)}, strip)


def tiff_of_strips(count: int) -> bytes:
    """Each is the same row."""
    tags: dict[int, int | bytes] = {
        256: 8,
        257: count,
        258: 8,
        259: 1,
        262: 1,
        277: 1,
        278: 1,
        273: 8,
        279: 8,
    }
    return tiff(tags, struct.pack("<I", 8) * count, {273: count, 279: count})


def bigtiff_of_strips(count: int) -> bytes:
    """A big-endian BigTIFF that is a TIFF of `count` strips, too: as such Pillow would read it."""
    tags = {256: 8, 257: count, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1, 273: (8,) * count, 279: (8,) * count}
    return b"MM\0+" + tiff_file(tags, order=">")[4:]


def tiff_of_tags(count: int, size: int) -> bytes:
    """Whose tags all claim the same `size` bytes."""
    tags: dict[int, int | bytes] = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 278: 8, 273: 8, 279: 64}
    extra = range(40_000, 40_000 + count)
    return tiff(tags | dict.fromkeys(extra, 8), bytes(size), dict.fromkeys(extra, size // 4))


def tiff_of_numbers(tag: int) -> bytes:
    tags: dict[int, int | bytes] = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 278: 8, 279: 64}
    return tiff(tags | {tag: 8}, bytes(8 * MB), {tag: 2 * MB})


def tiff_that_loops() -> bytes:
    """Whose next directory is its first."""
    data = grey_tiff(8, 8)
    return data[:-4] + data[4:8]


def png_of_two_headers() -> bytes:
    """Pillow counts the last one's pixels, in which the filter of the second row is none."""
    large = (20_000, 20_000, 8, 0)
    small = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    return png(large, small, (b"IDAT", zlib.compress(bytes(9) + b"\x4d" * 9 + bytes(20_000 * 20_001))))


BOMBS: dict[str, Hostile] = {
    "PNG, pixels": (lambda: png((40_000, 40_000, 8, 2), (b"IDAT", b"")), TOO_MANY),
    "PNG, sides": (lambda: png((2**31 - 1, 2**31 - 1, 8, 2), (b"IDAT", b"")), TOO_MANY),
    "PNG, ratio": (lambda: png((SIDE, SIDE, 8, 2), (b"IDAT", zeros(SIDE * (3 * SIDE + 1)))), PICTURE),
    "PNG, ratio, RGBA of 16 bits": (
        lambda: png((SIDE, SIDE, 16, 6), (b"IDAT", zeros(SIDE * (8 * SIDE + 1)))),
        PICTURE,
    ),
    "PNG, one bit": (lambda: png((SIDE, SIDE, 1, 0), (b"IDAT", zeros(SIDE * (SIDE // 8 + 1)))), PICTURE),
    "PNG, more pixels than claimed": (lambda: png((8, 8, 8, 2), (b"IDAT", zeros(512 * MB))), PICTURE),
    "PNG, ICC profile": (lambda: png((8, 8, 8, 2), (b"iCCP", b"x\0\0" + zeros(512 * MB)), PIXELS_8), PICTURE),
    "PNG, text": (lambda: png((8, 8, 8, 2), (b"zTXt", b"x\0\0" + zeros(512 * MB)), PIXELS_8), PICTURE),
    "PNG, text of UTF-8": (
        lambda: png((8, 8, 8, 2), (b"iTXt", b"x\0\1\0\0\0" + zeros(512 * MB)), PIXELS_8),
        PICTURE,
    ),
    "PNG, many texts": (
        lambda: png((8, 8, 8, 2), *[(b"zTXt", b"x\0\0" + zeros(MB - 1))] * 100, PIXELS_8),
        PICTURE,
    ),
    "PNG, many chunks": (lambda: png((8, 8, 8, 2), *[(b"teSt", b"")] * 4 * MB, PIXELS_8), UNSUPPORTED),
    "PNG, many chunks of pixels": (
        lambda: png((8, 8, 8, 2), PIXELS_8, *[(b"IDAT", b"")] * 4 * MB),
        UNSUPPORTED,
    ),
    "PNG, some chunks": (lambda: png((8, 8, 8, 2), *[(b"teSt", b"")] * 90_000, PIXELS_8), PICTURE),
    "PNG, a long side": (lambda: png((1, 5 * 10**7, 16, 6), (b"IDAT", zeros(9))), TOO_MANY),
    "PNG, two headers, of which the larger fits the pixels": (png_of_two_headers, CORRUPT),
    "PNG, many frames": (
        lambda: png((8, 8, 8, 2), (b"acTL", struct.pack(">II", 2**31 - 1, 0)), PIXELS_8),
        PICTURE,
    ),
    "GIF, frame": (lambda: gif_of_size(65_535, 65_535), TOO_MANY),
    "GIF, many frames": (lambda: _gif_of_frames(20_000), PICTURE),
    "GIF, many comments": (lambda: gif_with(b"!\xfe\1a\0" * 2 * MB), UNSUPPORTED),
    "GIF, some comments": (lambda: gif_with(b"!\xfe\1a\0" * 50_000), PICTURE),
    "GIF, many extensions": (lambda: gif_with(b"!\xf9\4\0\0\0\0\0" * 6 * MB), UNSUPPORTED),
    "GIF, an extension of many blocks": (lambda: gif_with(b"!\xab" + b"\1a" * 24 * MB + b"\0"), UNSUPPORTED),
    "GIF, much junk": (lambda: gif_with(b"\xab" * 48 * MB), UNSUPPORTED),
    "GIF, a long comment": (lambda: gif_with(b"!\xfe" + (b"\xff" + bytes(255)) * 40_000 + b"\0"), PICTURE),
    "WebP, canvas": (lambda: webp_canvas(16_383, 16_383), TOO_MANY),
    "WebP, wide canvas": (lambda: webp_canvas(2**24, 100), CORRUPT),
    "WebP, many chunks": (lambda: webp_with(b"JUNK\0\0\0\0" * 6 * MB), UNSUPPORTED),
    "WebP, some chunks": (lambda: webp_with(b"JUNK\0\0\0\0" * 90_000), PICTURE),
    "WebP, ratio": (lambda: webp_canvas(SIDE, SIDE), PICTURE),
    "BMP, pixels": (lambda: bmp_with_size(60_000, 60_000), TOO_MANY),
    "BMP, sides": (lambda: bmp_with_size(2**31 - 1, -(2**31)), TOO_MANY),
    "BMP, a skip in runs": (lambda: bmp_of_runs(SIDE, SIDE, b"\0\2\xff\xff" * 2**15), UNSUPPORTED),
    "BMP, rows of one pixel in runs": (
        lambda: bmp_of_runs(SIDE, SIDE, b"\1\1\0\0" * SIDE + b"\0\1"),
        UNSUPPORTED,
    ),
    "AVIF, pixels": (lambda: with_size(sample("avif"), b"ispe", 40_000, 40_000), CORRUPT),
    "HEIC, pixels": (lambda: with_size(sample("heic"), b"ispe", 40_000, 40_000), CORRUPT),
    "JPEG, pixels": (lambda: _jpeg_of_size(65_535, 65_535), TOO_MANY),
    "JPEG, ratio": (lambda: save(Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True), PICTURE),
    "JPEG, many scans": (lambda: jpeg_of_scans(5_000), UNSUPPORTED),
    "JPEG, some scans": (lambda: jpeg_of_scans(20), PICTURE),
    "JPEG, many segments": (lambda: jpeg_with(b"\xff\xe5\0\2" * MB), UNSUPPORTED),
    "JPEG, many comments": (lambda: jpeg_with(b"\xff\xfe\0\2" * MB), UNSUPPORTED),
    "JPEG, many segments after an end": (lambda: jpeg_with(b"\xff\xd9" + b"\xff\xe5\0\2" * MB), UNSUPPORTED),
    "JPEG, much fill": (lambda: jpeg_with(b"\xff" * 8 * MB), UNSUPPORTED),
    "JPEG, much junk": (lambda: jpeg_with(b"\xff\xfe\0\2" + bytes(8 * MB)), UNSUPPORTED),
    "JPEG, much junk and nothing else": (lambda: b"\xff\xd8\xff\xfe\0\2" + bytes(8 * MB), UNSUPPORTED),
    "JPEG, much EXIF": (
        lambda: jpeg_with((b"\xff\xe1\x0a\0Exif\0\0" + bytes(2_552)) * 19_000),
        UNSUPPORTED,
    ),
    "JPEG, some EXIF": (lambda: jpeg_with((b"\xff\xe1\xff\0Exif\0\0" + bytes(65_272)) * 14), PICTURE),
    "JPEG, many restarts": (lambda: jpeg_with(b"\xff\xd0" * 4 * MB), UNSUPPORTED),
    "JPEG, a profile of 16 MB": (
        lambda: jpeg_with(
            b"".join(
                b"\xff\xe2\xff\xffICC_PROFILE\0" + bytes([part, 255]) + bytes(65_519)
                for part in range(1, 256)
            )
        ),
        PICTURE,
    ),
    "TIFF, pixels": (lambda: tiff({256: 60_000, 257: 60_000, 258: 8, 259: 8, 262: 1, 273: 8}), TOO_MANY),
    "TIFF, ratio": (lambda: grey_tiff(SIDE, SIDE), PICTURE),
    "TIFF, floats": (lambda: grey_tiff(SIDE, SIDE, t258=32, t339=3), PICTURE),
    "TIFF, 32 bits": (lambda: grey_tiff(SIDE, SIDE, t258=32, t339=2), PICTURE),
    "TIFF, many strips": (lambda: tiff_of_strips(2 * MB), UNSUPPORTED),
    "TIFF, strips of the same blocks of nothing": (lambda: _tiff_of_one_strip(20_000), UNSUPPORTED),
    "TIFF, a tile's size as a text": (
        lambda: grey_tiff(8, 8, t259=1, t322=8).replace(b"\x42\1\4\0", b"\x42\1\2\0"),
        PICTURE,
    ),
    "TIFF, many orientations": (lambda: tiff_of_numbers(274), UNSUPPORTED),
    "TIFF, many resolutions": (lambda: tiff_of_numbers(282), UNSUPPORTED),
    "TIFF, XMP of numbers": (lambda: tiff_of_numbers(700), UNSUPPORTED),
    "TIFF, profile of numbers": (lambda: tiff_of_numbers(34675), UNSUPPORTED),
    "TIFF, many tags": (lambda: tiff_of_tags(20_000, MB), PICTURE),
    "BigTIFF, many strips as a TIFF": (lambda: bigtiff_of_strips(MB // 2), CORRUPT),
    "TIFF, many strips, cut off": (lambda: _cut_off_directory(tiff_of_strips(2 * MB)), UNSUPPORTED),
    "BigTIFF, many tags": (
        lambda: b"II+\0\x08\0\0\0\x10" + bytes(7) + struct.pack("<Q", MB) + bytes(20 * MB),
        UNSUPPORTED,
    ),
    "TIFF, many samples": (lambda: grey_tiff(512, 512, t277=65_535), CORRUPT),
    "TIFF, no bits": (lambda: grey_tiff(512, 512, t258=0), CORRUPT),
    "TIFF, a loop": (tiff_that_loops, PICTURE),
}


def _cut_off_directory(data: bytes) -> bytes:
    """Its directory, the last thing in the file, claims one tag more than it has."""
    (start,) = struct.unpack_from("<I", data, 4)
    return data[:start] + bytes([data[start] + 1]) + data[start + 1 : -4]


def _tiff_of_one_strip(count: int) -> bytes:
    """Each row is the same strip, of a megabyte of empty blocks before its eight pixels."""
    strip = b"\x78\x9c" + b"\0\0\0\xff\xff" * 200_000 + b"\1\x08\0\xf7\xff" + bytes(8) + b"\0\x08\0\1"
    body = strip + struct.pack("<I", 8) * count + struct.pack("<I", len(strip)) * count
    tags: dict[int, int | bytes] = {256: 8, 257: count, 258: 8, 259: 8, 262: 1, 277: 1, 278: 1}
    tags |= {273: 8 + len(strip), 279: 8 + len(strip) + 4 * count}
    return tiff(tags, body, {273: count, 279: count})


def _gif_of_frames(count: int) -> bytes:
    data = sample("gif, interlaced")
    start = data.index(b",\0\0\0\0@\0\x30\0")
    return data[:start] + data[start:-1] * count + b";"


def _jpeg_of_size(width: int, height: int) -> bytes:
    data = sample("jpeg")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


SCRIPT = b"<html><body><script>alert(document.domain)</script></body></html>"
ZIP = b"PK\3\4" + bytes(26) + b"PK\5\6" + bytes(18)

# What is a sound picture and something else besides is a picture: only its pixels go on, encoded anew.
POLYGLOTS: dict[str, Hostile] = {
    "GIF and script": (lambda: b"GIF89a/*" + sample("gif")[8:] + b"*/=1;alert(1)//", PICTURE),
    "GIF with a script for a comment": (lambda: gif_with(b"!\xfe\x11*/=1;alert(1);/*a\0"), PICTURE),
    "JPEG and ZIP": (lambda: sample("jpeg") + ZIP, PICTURE),
    "JPEG and PHP": (lambda: jpeg_with(b"\xff\xfe\0\x19<?php system($_GET[0]);?>"), PICTURE),
    "JPEG and HTML": (lambda: sample("jpeg") + SCRIPT, PICTURE),
    "PNG and HTML": (lambda: png((8, 8, 8, 2), (b"tEXt", b"a\0" + SCRIPT), PIXELS_8) + SCRIPT, PICTURE),
    "PNG and JAR": (lambda: sample("png") + ZIP, PICTURE),
    "BMP and script": (lambda: sample("bmp")[:6] + b"/**/" + sample("bmp")[10:] + b"//", PICTURE),
    "WebP and PDF": (lambda: sample("webp") + b"%PDF-1.7\n", PICTURE),
    "TIFF and HTML": (lambda: sample("tiff") + SCRIPT, PICTURE),
    "ZIP and JPEG": (lambda: ZIP + sample("jpeg"), NO_IMAGE),
    "HTML and PNG": (lambda: SCRIPT + sample("png"), NO_IMAGE),
    "PDF and JPEG": (lambda: b"%PDF-1.7\n" + sample("jpeg"), NO_IMAGE),
}

IMPOSTORS: dict[str, Hostile] = {
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', NO_IMAGE),
    "SVG with an entity bomb": (
        lambda: b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aa">]><svg>&a;</svg>',
        NO_IMAGE,
    ),
    "SVG that reads a file": (lambda: b'<svg><image href="file:///etc/passwd"/></svg>', NO_IMAGE),
    "compressed SVG": (lambda: b"\x1f\x8b\x08" + bytes(60), NO_IMAGE),
    "PDF": (lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj<</Type/Catalog>>endobj", NO_IMAGE),
    "HTML": (lambda: b"<!doctype html>" + SCRIPT, NO_IMAGE),
    "PostScript": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        UNSUPPORTED,
    ),
    "PostScript from DOS": (lambda: b"\xc5\xd0\xd3\xc6" + bytes(28), UNSUPPORTED),
    "MVG": (lambda: b"push graphic-context\nimage over 0,0 0,0 '|id'\n", NO_IMAGE),
    "MSL": (lambda: b'<?xml version="1.0"?><image><read filename="/etc/passwd"/></image>', NO_IMAGE),
    "PSD": (lambda: b"8BPS\0\1" + bytes(200), UNSUPPORTED),
    "ICO": (lambda: save(Image.new("RGB", (32, 32)), "ICO"), UNSUPPORTED),
    "JPEG 2000": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), UNSUPPORTED),
    "XBM": (lambda: b"#define a_width 8\n#define a_height 8\nstatic char a_bits[] = {0x00};", NO_IMAGE),
    "MP4": (lambda: b"\0\0\0\x18ftypmp42" + bytes(99), NO_IMAGE),
    "program": (lambda: b"\x7fELF\2\1\1" + bytes(99), NO_IMAGE),
    "a link": (lambda: b"GIF89a/../../etc/passwd", CORRUPT),
}

# Every start of a format, and then something that cannot be.
LIARS: dict[str, Hostile] = {
    "PNG of no width": (lambda: png((0, 8, 8, 2), PIXELS_8), CORRUPT),
    "PNG of no height": (lambda: png((8, 0, 8, 2), PIXELS_8), CORRUPT),
    "PNG, a chunk of 4 GB": (lambda: PNG_START + b"\xff\xff\xff\xffIHDR" + bytes(99), CORRUPT),
    "PNG, no pixels": (lambda: png((8, 8, 8, 2)), CORRUPT),
    "PNG, of another depth": (lambda: png((8, 8, 7, 2), PIXELS_8), CORRUPT),
    "PNG, header twice": (
        lambda: png(
            (8, 8, 8, 2), (b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)), PIXELS_8
        ),
        TOO_MANY,
    ),
    "PNG, wrong checksum": (lambda: sample("png")[:30] + b"!" + sample("png")[31:], CORRUPT),
    "GIF of no size": (lambda: gif_of_size(0, 0), CORRUPT),
    "BMP of no size": (lambda: bmp_with_size(0, 0), CORRUPT),
    "BMP, header of 4 GB": (lambda: sample("bmp")[:14] + b"\xff\xff\xff\xff" + sample("bmp")[18:], CORRUPT),
    "JPEG of no size": (lambda: _jpeg_of_size(0, 0), CORRUPT),
    "JPEG, no tables": (lambda: sample("jpeg").replace(b"\xff\xdb", b"\xff\xed"), CORRUPT),
    "WebP, 4 GB": (lambda: b"RIFF\xff\xff\xff\xff" + sample("webp")[8:], CORRUPT),
    "TIFF of no size": (lambda: grey_tiff(8, 8, t256=0), CORRUPT),
    "TIFF, a directory far away": (lambda: b"II*\0\xff\xff\xff\x7f" + bytes(99), CORRUPT),
    "BigTIFF, a directory far away": (lambda: b"II+\0\x08\0\0\0" + b"\xff" * 99, CORRUPT),
    "BigTIFF, 2**63 tags": (
        lambda: b"II+\0\x08\0\0\0\x10" + bytes(14) + b"\x80" + bytes(99),
        CORRUPT,
    ),
    "TIFF, pixels far away": (lambda: tiff({256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 2**31}), CORRUPT),
    "AVIF of no size": (lambda: with_size(sample("avif"), b"ispe", 0, 0), CORRUPT),
    "HEIC of no size": (lambda: with_size(sample("heic"), b"ispe", 0, 0), CORRUPT),
    "EXIF of 4 GB": (lambda: png((8, 8, 8, 2), (b"eXIf", b"II*\0\xff\xff\xff\xff"), PIXELS_8), PICTURE),
    "EXIF, many orientations": (
        lambda: png((8, 8, 8, 2), (b"eXIf", _orientations(4 * MB)), PIXELS_8),
        PICTURE,
    ),
}


def _orientations(count: int) -> bytes:
    return tiff({274: 8}, bytes(4 * count), {274: count})
