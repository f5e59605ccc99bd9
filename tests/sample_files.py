"""Sound little files of every format that is read, in many variants: what hostile files are made from."""

import functools
import io
import struct
import tarfile
import zlib
from typing import Any

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image

from tests.icc_profiles import ADOBE, DISPLAY_P3, gray, press, scanner
from tests.image_server import make_photo
from tests.tiff_files import HEIGHT, WIDTH, deep_tiff

SIZE = (WIDTH, HEIGHT)
PNG_START = b"\x89PNG\r\n\x1a\n"
CHROMATICITIES = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
GAMMA = (b"gAMA", struct.pack(">I", 55556))
CODE_POINTS = (b"cICP", bytes([12, 13, 0, 1]))  # Display P3

pillow_heif.register_heif_opener()  # to write them, too


def save(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, name, **options)  # saving a JPEG leaves its settings on the image
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(header: tuple[int, int, int, int], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (width, height, bit depth, colour type) and further chunks."""
    ihdr = (b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0))
    return PNG_START + b"".join(chunk(*one) for one in (ihdr, *chunks, (b"IEND", b"")))


def png_with(data: bytes, *chunks: tuple[bytes, bytes], wrong: bool = False) -> bytes:
    """A PNG with more chunks before its pixels, perhaps of wrong checksums."""
    place = data.index(b"IDAT") - 4
    made = (chunk(*one) for one in chunks)
    return data[:place] + b"".join(one[:-1] + bytes([one[-1] ^ wrong]) for one in made) + data[place:]


def jpeg_of_planes(photo: Image.Image) -> bytes:
    """A baseline JPEG whose three colours have a scan each."""
    planes = [save(plane, "JPEG", quality=90) for plane in photo.convert("YCbCr").split()]
    frame, scan = planes[0].index(b"\xff\xc0"), planes[0].index(b"\xff\xda")
    size = planes[0][frame + 4 : frame + 9]
    colours = b"".join(bytes([name, 0x11, 0]) for name in (1, 2, 3))
    head = planes[0][:frame] + b"\xff\xc0\0\x11" + size + b"\3" + colours + planes[0][frame + 13 : scan]
    scans = (
        b"\xff\xda\0\x08\1" + bytes([name, 0, 0, 63, 0]) + plane[plane.index(b"\xff\xda") + 10 : -2]
        for name, plane in enumerate(planes, 1)
    )
    return head + b"".join(scans) + b"\xff\xd9"


def tiff(tags: dict[int, int | bytes], data: bytes = b"", counts: dict[int, int] | None = None) -> bytes:
    """A little-endian TIFF: `data` lies at byte 8; a tag's value is a number, or four bytes."""
    entries = b"".join(
        struct.pack("<HHI", tag, 4, (counts or {}).get(tag, 1))
        + (struct.pack("<I", value) if isinstance(value, int) else value)
        for tag, value in sorted(tags.items())
    )
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def deep_png(values: NDArray[Any]) -> bytes:
    """A PNG of 16 bits a sample: values (height, width), or (height, width, samples of a pixel)."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return png((values.shape[1], values.shape[0], 16, kind), (b"IDAT", zlib.compress(rows)))


def bmp_with_alpha(image: Image.Image) -> bytes:
    """A BMP of 32 bits that says that the fourth byte is alpha."""
    pixels = np.asarray(image.convert("RGBA"))[::-1, :, [2, 1, 0, 3]].tobytes()
    info = struct.pack("<IiiHHIIiiII", 108, *image.size, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    info += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    return struct.pack("<2sIHHI", b"BM", 14 + len(info) + len(pixels), 0, 0, 14 + len(info)) + info + pixels


@functools.cache
def samples() -> dict[str, bytes]:
    """By `format` or `format, variant`; always the same."""
    photo = Image.open(io.BytesIO(make_photo(1, *SIZE))).convert("RGB")
    frames = [Image.open(io.BytesIO(make_photo(seed, *SIZE))).convert("RGB") for seed in (2, 3)]
    alpha = photo.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(SIZE))
    grey = photo.convert("L")
    deep = grey.convert("I").point(lambda value: value * 257).convert("I;16")
    palette = photo.quantize(32)
    values = np.asarray(grey).astype(np.uint16) * 16
    animated: dict[str, Any] = {"save_all": True, "append_images": frames, "duration": 50, "loop": 0}
    exif = _exif()
    return {
        "jpeg": save(photo, "JPEG", quality=90, exif=exif),
        "jpeg, progressive": save(photo, "JPEG", progressive=True, optimize=True),
        "jpeg, CMYK": save(photo.convert("CMYK"), "JPEG"),
        "jpeg, YCCK": _ycck(photo),
        "jpeg, grey": save(grey, "JPEG", restart_marker_blocks=4),
        "jpeg, Display P3": save(photo, "JPEG", icc_profile=DISPLAY_P3),
        "jpeg, of a press": save(photo.convert("CMYK"), "JPEG", icc_profile=press(3)),
        "jpeg, planes": jpeg_of_planes(photo),
        "jpeg, without its end": save(photo, "JPEG", quality=90, restart_marker_blocks=8)[:-2],
        "jpeg, several": save(photo, "MPO", save_all=True, append_images=[frame.copy() for frame in frames]),
        "png": save(photo, "PNG", exif=exif),
        "png, alpha": save(alpha, "PNG", icc_profile=bytes(300)),
        "png, palette": save(palette, "PNG", transparency=3),
        "png, 16 bits": save(deep, "PNG"),
        "png, 16 bits RGB": png((4, 4, 16, 2), (b"IDAT", zlib.compress((b"\0" + bytes(range(24))) * 4))),
        "png, 12 bits of 16, alpha": deep_png(np.asarray(alpha).astype(np.uint16) * 16),
        "png, grey, 12 bits of 16, alpha": deep_png(np.asarray(alpha.convert("LA")).astype(np.uint16) * 16),
        "png, grey profile": save(alpha.convert("LA"), "PNG", icc_profile=gray(1.8)),
        "png, wide colours": png_with(save(photo, "PNG"), CHROMATICITIES, GAMMA, CODE_POINTS),
        "png, one bit": save(photo.convert("1"), "PNG"),
        "png, wrong checksums": png_with(
            save(photo, "PNG"), (b"tEXt", b"a\0b"), (b"tRNS", bytes(6)), wrong=True
        ),
        "png, animated": save(photo, "PNG", **animated),
        "webp": save(photo, "WEBP", exif=exif),
        "webp, lossless": save(alpha, "WEBP", lossless=True),
        "webp, alpha": save(alpha, "WEBP"),
        "webp, Adobe RGB": save(alpha, "WEBP", icc_profile=ADOBE),
        "webp, animated": save(photo, "WEBP", **animated),
        "gif": save(palette, "GIF", transparency=3, comment=b"a comment"),
        "gif, interlaced": save(grey, "GIF", interlace=True),
        "gif, animated": save(palette, "GIF", **animated),
        "bmp": save(photo, "BMP"),
        "bmp, palette": save(palette, "BMP"),
        "bmp, runs": _bmp_of_runs(),
        "bmp, alpha": bmp_with_alpha(alpha),
        "avif": save(photo, "AVIF", exif=exif, speed=10),
        "avif, alpha": save(alpha, "AVIF", speed=10),
        "avif, animated": save(photo, "AVIF", speed=10, **animated),
        "heic": save(photo, "HEIF", exif=exif),
        "heic, alpha": save(alpha, "HEIF"),
        "heic, Display P3": save(photo, "HEIF", icc_profile=DISPLAY_P3),
        "heic, several": save(photo, "HEIF", save_all=True, append_images=frames),
        "tiff": save(photo, "TIFF", exif=exif),
        "tiff, alpha": save(alpha, "TIFF", compression="tiff_lzw"),
        "tiff, 16 bits": save(deep, "TIFF"),
        "tiff, 32 bits": save(grey.convert("I"), "TIFF", compression="tiff_adobe_deflate"),
        "tiff, floats": save(grey.convert("F"), "TIFF"),
        "tiff, 12 bits": deep_tiff(values, 12, white_is_zero=True),
        "tiff, 16 bits signed": deep_tiff(values.astype(np.int16) - 1024, big_endian=True, deflated=True),
        "tiff, 32 bits unsigned": deep_tiff(values.astype(np.uint32) << 20, white_is_zero=True),
        "tiff, floats without data": deep_tiff(values.astype(np.float32) - 9999, no_data="-9999"),
        "tiff, CMYK": save(photo.convert("CMYK"), "TIFF", compression="packbits"),
        "tiff, JPEG": save(photo, "TIFF", compression="jpeg"),
        "tiff, fax": save(photo.convert("1"), "TIFF", compression="group4"),
        "tiff, palette": save(palette, "TIFF", compression="tiff_lzw"),
        "tiff, big": save(photo, "TIFF", big_tiff=True),
        "tiff, of a scanner": save(photo, "TIFF", icc_profile=scanner(3)),
        "tiff, LAB": save(Image.merge("LAB", photo.split()), "TIFF"),
        "tiff, several": save(photo, "TIFF", save_all=True, append_images=frames),
        "tiff, tiles": _tiled(),
    }


def _exif() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:06:01 12:00:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (47.0, 22.0, 30.0), 3: "E", 4: (8.0, 30.0, 0.0)})
    return exif.tobytes()


def _ycck(photo: Image.Image) -> bytes:
    """As Photoshop writes it: a CMYK JPEG whose Adobe marker says that its planes are YCCK, inverted."""
    planes = [*photo.convert("YCbCr").split(), Image.new("L", photo.size)]
    data = save(Image.merge("CMYK", planes), "JPEG", quality=95, subsampling=0)
    place = data.index(b"Adobe") + 11
    return data[:place] + b"\x02" + data[place + 1 :]


def _bmp_of_runs() -> bytes:
    """RLE8: each row is one run of its own colour."""
    width, height = SIZE
    pixels = b"".join(bytes([width, row, 0, 0]) for row in range(height)) + b"\0\1"
    colours = b"".join(bytes([level, 255 - level, 0, 0]) for level in range(256))
    offset = 54 + len(colours)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 2835, 2835, 256, 0)
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + info + colours + pixels


def _tiled() -> bytes:
    """64 x 48 grey pixels in six tiles of 32 x 16."""
    tile = zlib.compress(bytes(range(128)) * 4)
    table = struct.pack("<12I", *([56] * 6), *([len(tile)] * 6))
    tags: dict[int, int | bytes] = {256: 64, 257: 48, 258: 8, 259: 8, 262: 1, 277: 1, 322: 32, 323: 16}
    return tiff(tags | {324: 8, 325: 32}, table + tile, {324: 6, 325: 6})


def make_tar(entries: dict[str, bytes], mode: str = "w:") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
