"""Decoding untrusted bytes to a model's input: decode, make upright and RGB, shrink, crop.

Every image is decoded to the smallest size that still serves the rendition, the thumbnail and the crop. That
size depends on the image and the model alone, so the same bytes always give the same crop.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import InvalidRequest, ItemError
from shared.image_files.color_spaces import color_profile
from shared.image_files.decompression_bombs import bomb_of
from shared.image_files.formats import JPEGS, format_name, open_image, too_big_for_memory, unreadable
from shared.image_files.jpeg_scans import keeps_coefficients
from shared.image_files.png import only_pixels
from shared.image_files.tiff import tile_size
from shared.image_metadata.exif import Exif, read_exif
from shared.image_metadata.tiff_tags import Directory
from shared.imaging import colors_and_hash
from shared.imaging.color_profiles import to_srgb
from shared.imaging.deep_color import mend_samples, raw_mode
from shared.imaging.jpeg import BETWEEN_DRAFTS, between_drafts, with_end
from shared.imaging.memory import decoding, footprint
from shared.imaging.preprocess import Preprocess
from shared.imaging.to_rgb import to_rgb

__all__ = ["DecodedImage", "Preprocess", "decode", "open_query_image"]

Keep = Literal["rendition", "original", "none"]
Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, right, bottom: shares of an upright picture's sides

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

RENDITION_SIDE = 768
THUMBNAIL_SIDE = 256

# Above this many source pixels per pixel of the crop, shrinking first costs no accuracy.
_CROP_MARGIN = 2

_MAX_SIDE = (
    2**20
)  # of a picture: each row costs time and memory of its own, and of a wide one cannot be held less
_END_BYTES = 2**10  # that a file which is mended may have more
_REDUCED = 2.5  # times the limit of pixels, of a JPEG that is decoded reduced: phones make 200 megapixels

# As close to the picture as WebP at 78 would be, for a quarter more bytes in a quarter of the time, which was
# a fifth of all that fetch takes for a photo.
_RENDITION_JPEG = {"quality": 75, "comment": b""}  # else it is the original's, however long
_THUMBNAIL_WEBP = {"quality": 75, "method": 0}
_SMALL_FILES = {"thumbnail": (("WEBP",), THUMBNAIL_SIDE), "rendition": (("JPEG", "WEBP"), RENDITION_SIDE)}


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
        raise too_big_for_memory() from None


def open_query_image(
    data: bytes, preprocess: Preprocess, max_pixels: int, wait_s: float | None = None, box: Box = WHOLE
) -> Pixels:
    """Return the model's crop, uint8 (height, width, 3): of all the same that `decode` gives for these bytes.

    Raises ItemError as `decode` does, InvalidRequest for a box without a pixel, and Unavailable when it is
    not its turn within `wait_s`.
    """
    with _decoded(data, preprocess, max_pixels, wait_s, box) as decoded:
        part = decoded if box == WHOLE else _part(decoded, box)
        return preprocess.crop(part.image, part.scale, part.width, part.height)


def _part(decoded: _Decoded, box: Box) -> _Decoded:
    """Cut out a box, its edges at the nearest of the original's pixels. Raises InvalidRequest."""
    sides = (decoded.width, decoded.height) * 2
    edges = [math.floor(share * side + 0.5) for share, side in zip(box, sides, strict=True)]
    left, top, right, bottom = edges
    if left == right or top == bottom:
        raise InvalidRequest(f"has no area in a picture of {decoded.width} x {decoded.height} pixels")
    image = decoded.image.crop(
        (
            int(left / decoded.scale),
            int(top / decoded.scale),
            min(math.ceil(right / decoded.scale), decoded.image.width),
            min(math.ceil(bottom / decoded.scale), decoded.image.height),
        )
    )
    return replace(decoded, image=image, width=right - left, height=bottom - top)


def open_stored(
    data: bytes, preprocess: Preprocess, max_pixels: int, wait_s: float | None = None
) -> Image.Image:
    """Open a rendition or original, upright and RGB, its longest side at most RENDITION_SIDE.

    Raises as `open_query_image` does.
    """
    with _decoded(data, preprocess, max_pixels, wait_s) as decoded:
        return _fit(decoded.image, RENDITION_SIDE)


def estimate(data: bytes, preprocess: Preprocess, max_pixels: int, box: Box = WHOLE) -> int:
    """Return a file's bytes of memory to decode, by its headers. Raises ItemError as `decode` does."""
    if bomb := bomb_of(data):
        raise ItemError(
            "unsupported_format", f"the file has more than {bomb}: it would take far too long to read"
        )
    image = open_image(data)
    shrink = _shrink(image, preprocess, max_pixels, box)
    _check_pixels(image, data, max_pixels)
    return footprint(image, data, shrink)


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
    data: bytes, preprocess: Preprocess, max_pixels: int, wait_s: float | None = None, box: Box = WHOLE
) -> Iterator[_Decoded]:
    size = estimate(data, preprocess, max_pixels, box)

    def fits(other: bytes) -> bool:
        return estimate(other, preprocess, max_pixels, box) <= size + _END_BYTES

    with decoding(size, wait_s):
        yield _load(data, partial(_loaded, preprocess=preprocess, max_pixels=max_pixels, box=box), fits)


def _load(data: bytes, read: Callable[[bytes], _Decoded], fits: Callable[[bytes], bool]) -> _Decoded:
    """Decode a file, or what of it is a sound picture. Raises ItemError: corrupt_image or too_many_pixels."""
    try:
        try:
            return read(data)
        except (MemoryError, ItemError):
            raise
        except Exception as error:  # decoders of hostile bytes raise anything
            failure = error.with_traceback(None)  # which holds what was decoded
        return _mended(data, read, fits, failure)
    except MemoryError:
        raise too_big_for_memory() from None


def _mended(
    data: bytes, read: Callable[[bytes], _Decoded], fits: Callable[[bytes], bool], failure: Exception
) -> _Decoded:
    """Decode the picture without damage that is none of its pixels'.

    It has to fit into what was estimated: where a file has two headers, it may be of the other one's size.
    """
    sound = [with_end(data)] if data.startswith(b"\xff\xd8") else only_pixels(data)
    for other in filter(None, sound):
        try:
            if fits(other):
                return read(other)
        except MemoryError:
            raise
        except Exception:  # noqa: S112
            continue
    raise unreadable(data, failure)


def _loaded(data: bytes, preprocess: Preprocess, max_pixels: int, box: Box) -> _Decoded:
    image = open_image(data)
    profile = image.info["icc_profile"] = color_profile(image, data)
    width, height = image.size
    room, shrink = _room(width, height, preprocess, box), _shrink(image, preprocess, max_pixels, box)
    scale: float
    if (small := between_drafts(data, image, room)) is not None:
        upright, scale = to_srgb(small, profile), 1 / BETWEEN_DRAFTS
    else:
        if image.format in JPEGS:
            image.draft(None, (width // shrink, height // shrink))
            # At once, since no part of arithmetic coding can be decoded alone.
            image.decodermaxblock = len(data)  # type: ignore[attr-defined]
        drafted = max(1, round(width / image.width))
        raw = raw_mode(image)
        image.load()
        mend_samples(image, raw, lambda: open_image(data))
        if drafted == 1:  # a HEIC's header may promise another size than its pixels have
            width, height = image.size
        upright, scale = to_rgb(image, shrink // drafted), drafted * max(1, shrink // drafted)
    exif = read_exif(image, data)
    name = format_name(image)
    if exif.transpose is not None:
        upright = upright.transpose(exif.transpose)
    if exif.swaps_axes:
        width, height = height, width
    return _Decoded(upright, scale, width, height, name, exif)


def _check_pixels(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Raise ItemError too_many_pixels. A JPEG's count as they are decoded, at a quarter or less of them."""
    limit = f"the limit of {max_pixels:,} (IMAGE_SEARCH_MAX_IMAGE_PIXELS)"
    tile = tile_size(Directory(data)) if image.format == "TIFF" else (0, 0)
    for width, height in (image.size, tile):
        if max(width, height) > _MAX_SIDE:
            raise ItemError(
                "too_many_pixels", f"{width} x {height}: a side has more than {_MAX_SIDE:,} pixels"
            )
        if width * height <= max_pixels:
            continue
        if image.format in JPEGS and not keeps_coefficients(data):
            if width * height <= _REDUCED * max_pixels:
                continue
            limit = f"{_REDUCED} times {limit}, the most of a baseline JPEG"
        elif image.format in JPEGS:
            limit += f"; a baseline JPEG may have {_REDUCED} times as many"
        raise ItemError("too_many_pixels", f"{width} x {height} pixels are more than {limit}")


def _room(width: float, height: float, preprocess: Preprocess, box: Box) -> float:
    """Return how many times smaller the image may be and still serve everything made of the box of it."""
    left, top, right, bottom = box
    # Of both sides the lesser share, since the header does not say yet which way the picture is turned.
    share = min(right - left, bottom - top)
    width, height = width * share, height * share
    crop_height, crop_width = preprocess.resized(height, width)
    room = min(height / (_CROP_MARGIN * crop_height), width / (_CROP_MARGIN * crop_width))
    return min(max(width, height) / RENDITION_SIDE, room)


def _shrink(image: Image.Image, preprocess: Preprocess, max_pixels: int, box: Box) -> int:
    """Return by which whole number to divide the sides: two at least of a JPEG of more than `max_pixels`."""
    width, height = image.size
    least = 2 if image.format in JPEGS and width * height > max_pixels else 1
    return max(least, int(_room(width, height, preprocess, box)))


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
