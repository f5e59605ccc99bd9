"""Decoding a JPEG at a share of its size that Pillow cannot ask libjpeg-turbo for, or without its end."""

from __future__ import annotations

import io
import math
from typing import Literal

import simplejpeg
from PIL import Image

from shared.image_files.formats import JPEGS
from shared.image_files.jpeg_scans import pixels_end

# libjpeg-turbo decodes at any eighth of the size, Pillow's draft only at a half, a quarter and an eighth. Of
# the other five, this one alone is as fast: a photo of 2048 pixels then takes 1.3 times less in all.
BETWEEN_DRAFTS = 3 / 8

_END = b"\xff\xd9"
_LAST_ZEROS = 3  # bytes in which pixels may end: of a byte that is 255, and of their last codes
# Of some blocks, whatever the tables, and of some more in each restart interval that may come.
_BLOCKS = b"\x9a\x55\x2d\xc3" * 64
_MORE_PIXELS = _BLOCKS + b"".join(b"\xff%c" % code + _BLOCKS for code in range(0xD0, 0xD8)) * 2


def between_drafts(data: bytes, image: Image.Image, room: float) -> Image.Image | None:
    """Decode a JPEG at BETWEEN_DRAFTS of its size; None where Pillow's draft makes it as small."""
    if image.format not in JPEGS or image.mode not in ("RGB", "L") or not 1 / BETWEEN_DRAFTS <= room < 4:
        return None
    width, height = (math.ceil(side * BETWEEN_DRAFTS) for side in image.size)
    try:
        space: Literal["RGB", "GRAY"] = "RGB" if image.mode == "RGB" else "GRAY"
        pixels = simplejpeg.decode_jpeg(data, space, min_width=width, min_height=height)
    except ValueError:  # of anything unusual, much of which Pillow reads
        return None
    return Image.fromarray(pixels if space == "RGB" else pixels[..., 0])


def with_end(data: bytes) -> bytes | None:
    """Return a JPEG with its end where its pixels end, if all are there; None if not, or if it had that."""
    end = pixels_end(data)
    if end is None:
        return None
    pixels = data[:end].rstrip(b"\0")  # what a download that broke off, or a card, leaves
    if zeros := end - len(pixels):
        pixels += bytes(min(zeros, _LAST_ZEROS))
    else:
        pixels = pixels.rstrip(b"\xff")  # of half a mark
    return pixels + _END if not data.startswith(_END, len(pixels)) and _is_whole(pixels) else None


def _is_whole(pixels: bytes) -> bool:
    """Return whether nothing that might stand behind them would change these pixels."""
    try:
        simplejpeg.decode_jpeg(pixels + _END, "GRAY", min_width=1, min_height=1)
    except ValueError as error:
        if "premature" in str(error) or "0xd9 instead of RST" in str(error):
            return False
        if "before marker 0xd9" in str(error):
            return True
    else:
        return True
    # It complains of something before that: small faults are no reason to refuse the rest.
    try:
        first, second = (_smallest(pixels + behind + _END) for behind in (b"", _MORE_PIXELS))
    except Exception:  # decoders of hostile bytes raise anything
        return False
    return first == second


def _smallest(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.draft(None, (1, 1))
    return image.tobytes()
