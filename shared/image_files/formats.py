"""Which format an image file is of, by its content, and why another is refused."""

from __future__ import annotations

import contextlib
import io
import warnings

import pillow_heif
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from shared.errors import ItemError
from shared.image_files.camera_raw import camera_raw
from shared.image_files.cut_off import damaged
from shared.image_files.other_files import content_name, picture_format
from shared.image_files.other_kinds import other_kind
from shared.image_files.png import only_pixels
from shared.image_files.tiff import BIG_ENDIAN_BIGTIFF, mend_tiles, tiff_kind
from shared.image_metadata.exif import hide_from_pillow

# The names are Pillow's. JPEG comes first because most pictures are.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
_FORMAT_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG",  # sent as a text, the rest of its mark is damaged
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"II\0*",  # the number's bytes the wrong way round
    b"MM*\0",
)
_HEIF_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
JPEGS = frozenset({"JPEG", "MPO"})

pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
# Pixels are counted before they are decoded, and a warning would be printed for every big picture.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")


def open_image(data: bytes) -> Image.Image:
    """Open a file by its headers alone, before its pixels are counted.

    Raises ItemError: not_an_image, unsupported_format, corrupt_image or too_many_pixels.
    """
    if raw := camera_raw(data):
        raise ItemError(
            "unsupported_format", f"{raw} is not read: develop it to JPEG, TIFF or PNG and send that"
        )
    if data.startswith(BIG_ENDIAN_BIGTIFF):
        raise unreadable(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if isinstance(image, TiffImageFile):
            hide_from_pillow(image)
            mend_tiles(image)
    except MemoryError:
        raise too_big_for_memory() from None
    except Exception:
        for sound in only_pixels(data):
            with contextlib.suppress(Exception):
                return Image.open(io.BytesIO(sound), formats=("PNG",))
        raise unreadable(data) from None
    if image.format == "PNG" and image.mode == "P" and image.palette is None:  # Pillow would show black
        raise damaged(data)
    return image


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


def unreadable(data: bytes, failure: Exception | None = None) -> ItemError:
    """Return why a file is refused that did not open, or whose pixels a decoder refused with `failure`."""
    opened = failure is not None
    if kind := tiff_kind(data, opened) if data[:2] in (b"II", b"MM") else other_kind(data):
        return ItemError("unsupported_format", kind)
    if opened or _is_accepted_format(data):
        return damaged(data, failure)
    if name := picture_format(data):
        return ItemError("unsupported_format", f"{name} files are not supported")
    if content := content_name(data):
        return ItemError("not_an_image", f"the content is {content}, not a picture")
    return ItemError("not_an_image", "the content is no picture, or of a format that is not known")


def _is_accepted_format(data: bytes) -> bool:
    """Return whether the first bytes are those of a format that `decode` takes."""
    if data.startswith(_FORMAT_STARTS):
        return True
    if data.startswith(b"RIFF"):
        return data[8:12] == b"WEBP"
    if data.startswith(b"BM"):  # words may start so too; a bitmap's reserved bytes are zero
        return data[6:10] == bytes(4)
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS
