"""Which format an image file is of, by its content, and why another is refused."""

from __future__ import annotations

import io
import warnings

import pillow_heif
from PIL import Image, TiffImagePlugin

from shared.errors import ItemError
from shared.image_files.archives import archive_name

# The names are Pillow's. JPEG comes first because most pictures are.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
_FORMAT_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
)
_HEIF_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
# Pictures, but of formats that are refused: their decoders are rare, scriptable, vectorial or unmaintained.
_REFUSED_STARTS = {
    b"8BPS": "Photoshop",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"\0\0\x01\0": "icon",
    b"\0\0\x02\0": "cursor",
    b"icns": "icon",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"gimp xcf": "GIMP",
    b"DDS ": "DirectDraw surface",
    b"qoif": "QOI",
    b"SIMPLE  =": "FITS",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance",
    b"FUJIFILMCCD-RAW": "camera raw",
    b"BPG\xfb": "BPG",
    b"\xd7\xcd\xc6\x9a": "Windows metafile",
    **{b"P%d%c" % (number, space): "Netpbm" for number in range(1, 8) for space in b"\n\r "},
}
JPEGS = frozenset({"JPEG", "MPO"})

pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
# Deep grey that Pillow's table lacks, though it has what reading it takes: unsigned, or with zero for white.
TiffImagePlugin.OPEN_INFO.update(
    {
        (b"II", 0, (1,), 1, (12,), ()): ("I;16", "I;12"),
        (b"MM", 0, (1,), 1, (12,), ()): ("I;16", "I;12"),
        (b"MM", 1, (1,), 1, (12,), ()): ("I;16", "I;12"),
        (b"MM", 0, (1,), 1, (16,), ()): ("I;16B", "I;16B"),
        (b"II", 0, (1,), 1, (32,), ()): ("I", "I;32"),
        (b"MM", 0, (1,), 1, (32,), ()): ("I", "I;32B"),
        (b"MM", 1, (1,), 1, (32,), ()): ("I", "I;32B"),
    }
)
# Pixels are counted before they are decoded, and a warning would be printed for every big picture.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")


def open_image(data: bytes) -> Image.Image:
    """Open a file by its headers alone, before its pixels are counted.

    Raises ItemError: not_an_image, unsupported_format, corrupt_image or too_many_pixels.
    """
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except MemoryError:
        raise too_big_for_memory() from None
    except Exception:
        raise _unopened(data) from None


def format_name(image: Image.Image) -> str:
    """Return a format's name as users see it: `jpeg`, `heic`, `tiff`."""
    if image.format == "MPO":  # a JPEG with further pictures behind it, as phones write them
        return "jpeg"
    if image.format == "HEIF":
        return "heic" if "heic" in getattr(image, "custom_mimetype", "") else "heif"
    return str(image.format).lower()


def too_big_for_memory() -> ItemError:
    """Return the error of a picture that memory does not hold."""
    return ItemError("too_many_pixels", "the picture does not fit into memory")


def _unopened(data: bytes) -> ItemError:
    for start, name in _REFUSED_STARTS.items():
        if data.startswith(start):
            return ItemError("unsupported_format", f"{name} files are not supported")
    if data[40:44] == b" EMF":
        return ItemError("unsupported_format", "Windows metafile files are not supported")
    if _is_accepted_format(data):
        return ItemError("corrupt_image", "the picture is damaged or incomplete")
    if archive := archive_name(data):
        return ItemError("not_an_image", f"the content is {archive}, not a picture")
    return ItemError("not_an_image", "the content is not a picture")


def _is_accepted_format(data: bytes) -> bool:
    """Return whether the first bytes are those of a format that `decode` takes."""
    if data.startswith(_FORMAT_STARTS):
        return True
    if data.startswith(b"RIFF"):
        return data[8:12] == b"WEBP"
    if data.startswith(b"BM"):  # words may start so too; a bitmap's reserved bytes are zero
        return data[6:10] == bytes(4)
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS
