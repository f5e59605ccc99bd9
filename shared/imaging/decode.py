"""Decoding untrusted bytes to a model's input: decode, make upright and RGB, shrink, crop.

Every image is decoded to the smallest size that still serves the rendition, the thumbnail and the crop. That
size depends on the image and the model alone, so the same bytes always give the same crop.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pillow_heif
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from shared.errors import ItemError
from shared.imaging import colors_and_hash
from shared.imaging.archives import archive_name
from shared.imaging.decompression_bombs import is_decompression_bomb
from shared.imaging.exif import Exif, read_exif
from shared.imaging.memory import decoding, footprint
from shared.imaging.preprocess import Preprocess

__all__ = ["DecodedImage", "Preprocess", "decode", "open_query_image"]

Keep = Literal["rendition", "original", "none"]
Pixels = NDArray[np.uint8]

RENDITION_SIDE = 768
THUMBNAIL_SIDE = 256

# Above this many source pixels per pixel of the crop, shrinking first costs no accuracy.
_CROP_MARGIN = 2
# libjpeg-turbo decodes at any eighth of the size, Pillow's draft only at a half, a quarter and an eighth. Of
# the other five, this one alone is as fast: a photo of 2048 pixels then takes 1.3 times less in all.
_BETWEEN_DRAFTS = 3 / 8

# As close to the picture as WebP at 78 would be, for a quarter more bytes in a quarter of the time, which was
# a fifth of all that fetch takes for a photo.
_RENDITION_JPEG = {"quality": 75, "comment": b""}  # else it is the original's, however long
_THUMBNAIL_WEBP = {"quality": 75, "method": 0}
_SMALL_FILES = {"thumbnail": (("WEBP",), THUMBNAIL_SIDE), "rendition": (("JPEG", "WEBP"), RENDITION_SIDE)}

# The names are Pillow's. JPEG comes first because most pictures are.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
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
_JPEGS = frozenset({"JPEG", "MPO"})
_STRIP_PIXELS = 2**22  # converted at a time
_REDUCIBLE = frozenset({"L", "RGB", "CMYK", "YCbCr", "LA", "RGBA"})

pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
# decode() checks the caller's limit before it decodes, and a warning would be printed for every big picture.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One decoded image. `width` and `height` are those of the upright original, in pixels.

    `pixels` is the model's crop, uint8 (height, width, 3); `thumbnail` is a WebP file, `rendition` a JPEG.
    `taken_at` is seconds since the epoch, `lat` and `lon` are degrees; `colors` and `phash` are those of
    colors_and_hash.py.
    """

    format: str
    width: int
    height: int
    taken_at: float | None
    lat: float | None
    lon: float | None
    colors: list[str]
    phash: str
    pixels: Pixels
    thumbnail: bytes
    rendition: bytes | None


@dataclass(frozen=True, slots=True)
class _Decoded:
    """An upright RGB `image` that is `scale` times smaller than the original of `width` by `height`."""

    image: Image.Image
    scale: float
    width: int
    height: int
    format: str
    exif: Exif


def decode(data: bytes, preprocess: Preprocess, *, max_pixels: int, keep: Keep) -> DecodedImage:
    """Decode a file, waiting for a turn where many are decoded at once.

    Raises ItemError: not_an_image, unsupported_format, corrupt_image or too_many_pixels.
    """
    with _decoded(data, preprocess, max_pixels) as decoded:
        return _decoded_image(decoded, preprocess, keep)


def _decoded_image(decoded: _Decoded, preprocess: Preprocess, keep: Keep) -> DecodedImage:
    try:
        pixels = preprocess.crop(decoded.image, decoded.scale, decoded.width, decoded.height)
        rendition = _fit(decoded.image, RENDITION_SIDE)
        thumbnail = _fit(rendition, THUMBNAIL_SIDE)
        small = colors_and_hash.small(thumbnail)
        return DecodedImage(
            format=decoded.format,
            width=decoded.width,
            height=decoded.height,
            taken_at=decoded.exif.taken_at,
            lat=decoded.exif.lat,
            lon=decoded.exif.lon,
            colors=colors_and_hash.dominant_colors(small),
            phash=colors_and_hash.perceptual_hash(small),
            pixels=pixels,
            thumbnail=_saved(thumbnail, "WEBP", _THUMBNAIL_WEBP),
            rendition=_saved(rendition, "JPEG", _RENDITION_JPEG) if keep == "rendition" else None,
        )
    except MemoryError:
        raise _too_big_for_memory() from None


def open_query_image(
    data: bytes, preprocess: Preprocess, max_pixels: int, wait_s: float | None = None
) -> Pixels:
    """Return the model's crop, uint8 (height, width, 3): the same that `decode` gives for these bytes.

    Raises ItemError as `decode` does, and Unavailable when it is not its turn within `wait_s`.
    """
    with _decoded(data, preprocess, max_pixels, wait_s) as decoded:
        return preprocess.crop(decoded.image, decoded.scale, decoded.width, decoded.height)


def open_stored(
    data: bytes, preprocess: Preprocess, max_pixels: int, wait_s: float | None = None
) -> Image.Image:
    """Open a rendition or original, upright and RGB, its longest side at most RENDITION_SIDE.

    Raises as `open_query_image` does.
    """
    with _decoded(data, preprocess, max_pixels, wait_s) as decoded:
        return _fit(decoded.image, RENDITION_SIDE)


def estimate(data: bytes, preprocess: Preprocess, max_pixels: int) -> int:
    """Return a file's bytes of memory to decode, by its headers. Raises ItemError as `decode` does."""
    if is_decompression_bomb(data):
        raise ItemError(
            "unsupported_format", "the file is packed in a way that would take far too long to read"
        )
    image = _open(data)
    _check_pixels(image, max_pixels)
    return footprint(image, data, _shrink(image, preprocess))


def is_small_file(data: bytes, kind: Literal["thumbnail", "rendition"]) -> bool:
    """Return whether these bytes are a thumbnail or rendition such as `decode` makes, or made (WebP) once."""
    formats, side = _SMALL_FILES[kind]
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            fits = max(image.size) <= side
            if fits:
                image.load()
            return fits
    except Exception:  # decoders of hostile bytes raise anything
        return False


@contextmanager
def _decoded(
    data: bytes, preprocess: Preprocess, max_pixels: int, wait_s: float | None = None
) -> Iterator[_Decoded]:
    with decoding(estimate(data, preprocess, max_pixels), wait_s):
        yield _load(data, preprocess)


def _load(data: bytes, preprocess: Preprocess) -> _Decoded:
    image = _open(data)
    width, height = image.size
    room, shrink = _room(width, height, preprocess), _shrink(image, preprocess)
    scale: float
    try:
        if (small := _between_drafts(data, image, room)) is not None:
            upright, scale = small, 1 / _BETWEEN_DRAFTS
        else:
            if image.format in _JPEGS:
                image.draft(None, (width // shrink, height // shrink))
            drafted = max(1, round(width / image.width))
            image.load()
            if drafted == 1:  # a HEIC's header may promise another size than its pixels have
                width, height = image.size
            upright, scale = _to_rgb(image, shrink // drafted), drafted * max(1, shrink // drafted)
        exif = read_exif(image)
        format_name = _format_name(image)
        if exif.transpose is not None:
            upright = upright.transpose(exif.transpose)
    except MemoryError:
        raise _too_big_for_memory() from None
    except ItemError:
        raise
    except Exception:  # decoders of hostile bytes raise anything
        raise ItemError("corrupt_image", "the picture is damaged or incomplete") from None
    if exif.swaps_axes:
        width, height = height, width
    return _Decoded(upright, scale, width, height, format_name, exif)


def _between_drafts(data: bytes, image: Image.Image, room: float) -> Image.Image | None:
    """Decode a JPEG at _BETWEEN_DRAFTS of its size; None where Pillow's draft makes it as small."""
    if image.format not in _JPEGS or image.mode not in ("RGB", "L") or not 1 / _BETWEEN_DRAFTS <= room < 4:
        return None
    width, height = (math.ceil(side * _BETWEEN_DRAFTS) for side in image.size)
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height)
    except ValueError:  # of anything unusual, much of which Pillow reads
        return None
    return Image.fromarray(pixels)


def _open(data: bytes) -> Image.Image:
    """Read headers only: nothing is decoded before the pixels are counted."""
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except MemoryError:
        raise _too_big_for_memory() from None
    except Exception:
        raise _unopened(data) from None


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


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    tags: Any = getattr(image, "tag_v2", {})
    tile = (tags.get(322, 0), tags.get(323, 0))  # a TIFF's tiles may be larger than its picture
    for width, height in (image.size, tile):
        if width * height > max_pixels:
            raise ItemError(
                "too_many_pixels", f"{width} x {height} pixels are more than the limit of {max_pixels}"
            )


def _room(width: int, height: int, preprocess: Preprocess) -> float:
    """Return how many times smaller the image may be and still serve everything made of it."""
    crop_height, crop_width = preprocess.resized(height, width)
    room = min(height / (_CROP_MARGIN * crop_height), width / (_CROP_MARGIN * crop_width))
    return min(max(width, height) / RENDITION_SIDE, room)


def _shrink(image: Image.Image, preprocess: Preprocess) -> int:
    return max(1, int(_room(*image.size, preprocess)))


def _format_name(image: Image.Image) -> str:
    if image.format == "MPO":  # a JPEG with further pictures behind it, as phones write them
        return "jpeg"
    if image.format == "HEIF":
        return "heic" if "heic" in getattr(image, "custom_mimetype", "") else "heif"
    return str(image.format).lower()


def _to_rgb(image: Image.Image, shrink: int) -> Image.Image:
    """Make it RGB, transparency on white, `shrink` times smaller: by strips, to hold one copy, not five."""
    if image.mode == "LAB":
        raise ItemError("unsupported_format", "the LAB colour space is not supported")
    white = _white_level(image) if image.mode.startswith(("I", "F")) else None
    rows = max(1, _STRIP_PIXELS // image.width // shrink) * shrink
    if rows >= image.height:
        return _strip_to_rgb(image, shrink, white)
    result = Image.new("RGB", (-(-image.width // shrink), -(-image.height // shrink)))
    for top, strip in _strips(image, rows):
        result.paste(_strip_to_rgb(strip, shrink, white), (0, top // shrink))
    return result


def _strips(image: Image.Image, rows: int) -> Iterator[tuple[int, Image.Image]]:
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _strip_to_rgb(image: Image.Image, shrink: int, white: float | None) -> Image.Image:
    if white is not None:
        image = _to_8_bit(image, white)
    elif "transparency" in image.info or image.mode in ("PA", "La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if shrink > 1:
        image = (image if image.mode in _REDUCIBLE else image.convert("RGB")).reduce(shrink)
    if image.mode in ("LA", "RGBA"):
        return _on_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    background = Image.new("RGB", image.size, "white")
    background.paste(image, mask=image)
    return background


def _white_level(image: Image.Image) -> float:
    """Return the value that is white: the top of the narrowest usual range that all values are in."""
    if image.mode.startswith("I;16"):
        return 65535.0
    rows = max(1, _STRIP_PIXELS // image.width)
    peak = max(float(_finite(strip).max()) for _, strip in _strips(image, rows))
    white = next((top for top in (1.0, 255.0, 65535.0) if peak <= top), peak)
    return 255.0 if white == 1.0 and image.mode.startswith("I") else white


def _to_8_bit(image: Image.Image, white: float) -> Image.Image:
    """Scale grey values to 8 bits. Pillow's own conversion clips: nearly all of it would be white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return Image.fromarray((np.clip(_finite(image) / white, 0, 1) * 255).round().astype(np.uint8))


def _finite(image: Image.Image) -> NDArray[np.float32]:
    return np.nan_to_num(np.array(image, dtype=np.float32), copy=False, posinf=0, neginf=0)


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Return the image itself, or a smaller one whose longest side is `side`."""
    longest = max(image.size)
    if longest <= side:
        return image
    width, height = (max(1, round(length * side / longest)) for length in image.size)
    return image.resize((width, height), Image.Resampling.HAMMING, reducing_gap=1.0)


def _saved(image: Image.Image, format_name: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def _too_big_for_memory() -> ItemError:
    return ItemError("too_many_pixels", "the picture does not fit into memory")
