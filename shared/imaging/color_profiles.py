"""Colours as sRGB: what a picture's ICC profile says its numbers mean, by LittleCMS.

Relative colorimetric with black point compensation. A profile that is broken, or of other pixels than the
picture's, is ignored, as browsers do.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import threading

import numpy as np
from PIL import Image, ImageCms

_MAX_BYTES = 4 * 2**20  # of a profile; those of presses have up to three
_MAX_TAGS = 100
_MAX_CACHED = 32  # transforms, of half a mebibyte at most
_NO_CHANGE = 2  # levels of 255

_CLASSES = frozenset({b"mntr", b"scnr", b"prtr", b"spac"})
# All that colours are computed from. Others are hidden from LittleCMS, which would read some: texts, and
# chains of any length (D2B0), whose links may be the same megabytes.
_TAGS = frozenset(
    {b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"wtpt", b"bkpt", b"chad"}
    | {side + intent for side in (b"A2B", b"B2A") for intent in (b"0", b"1", b"2")}
)
_SRGB = ImageCms.createProfile("sRGB")

_cached: dict[tuple[bytes, str], ImageCms.ImageCmsTransform | None] = {}
_lock = threading.Lock()


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture of 8 bits as RGB, with transparency as RGBA, in sRGB. It may change the given one."""
    made = "RGBA" if image.mode in ("LA", "RGBA") else "RGB"
    transform = None
    if image.mode == "LAB":
        transform = _transform(b"", "LAB")
    elif profile and (mode := _mode(image.mode, profile[16:20])):
        transform = _transform(profile, made if mode == "RGB" else mode)
    if transform is None:
        return image if image.mode == made else image.convert(made)
    alpha = image.getchannel("A") if image.mode == "LA" else None
    if transform.input_mode != image.mode:
        image = image.convert(transform.input_mode)
    image = transform.apply(image, image if transform.output_mode == image.mode else None)
    if alpha is not None and image.mode == "RGB":
        image.putalpha(alpha)
    return image


def _mode(mode: str, space: bytes) -> str | None:
    """Return what pixels are made before a profile of a space is applied; None where it cannot be."""
    if space == b"GRAY":
        return "L" if mode in ("1", "L", "LA") else None
    if space == b"CMYK":
        return "CMYK" if mode == "CMYK" else None
    return "RGB" if space == b"RGB " and mode != "CMYK" else None


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what makes pixels sRGB; None if they are, or the profile is of no use."""
    key = (hashlib.blake2b(profile).digest(), mode)
    with _lock:
        if key in _cached:
            return _cached[key]
    made = _made(profile, mode)
    with _lock:
        while len(_cached) >= _MAX_CACHED:
            del _cached[next(iter(_cached))]
        _cached[key] = made
    return made


def _made(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        transform = ImageCms.buildTransform(
            ImageCms.createProfile("LAB") if mode == "LAB" else _opened(profile),
            _SRGB,
            mode,
            "RGBA" if mode == "RGBA" else "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except MemoryError:  # is no fault of the profile's, which would be remembered
        raise
    except Exception:  # of hostile bytes
        return None
    if mode in ("CMYK", "LAB"):
        return transform
    levels = np.arange(256, dtype=np.uint8)[None] if mode == "L" else _grid()
    before = Image.fromarray(levels).convert(mode)
    changes = np.asarray(transform.apply(before), int) - np.asarray(before.convert(transform.output_mode))
    return transform if np.abs(changes).max() > _NO_CHANGE else None


def _grid() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """17 levels a channel, each colour a pixel."""
    return (
        (np.indices((17, 17, 17)) * 255 // 16).astype(np.uint8).reshape(3, 17, -1).transpose(1, 2, 0).copy()
    )


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    """Open a profile with the tags that are needed. Raises any exception."""
    (count,) = struct.unpack_from(">I", profile, 128)
    if len(profile) > _MAX_BYTES or profile[12:16] not in _CLASSES or count > _MAX_TAGS:
        raise ValueError("no profile of a picture")
    end = 132 + 12 * count
    tags = (profile[start : start + 12] for start in range(132, end, 12))
    kept = [tag for tag in tags if tag[:4] in _TAGS]
    if any(_values(profile, int.from_bytes(tag[4:8])) > len(profile) for tag in kept):
        raise ValueError("a table larger than the file, for which LittleCMS would take memory first")
    table = (struct.pack(">I", len(kept)) + b"".join(kept)).ljust(end - 128, b"\0")
    return ImageCms.ImageCmsProfile(io.BytesIO(profile[:128] + table + profile[end:]))


def _values(profile: bytes, start: int) -> int:
    """Return how many values a tag's table is said to have; 0 if it is none."""
    tag, grid = profile[start : start + 32], b""
    if tag[:4] in (b"mft1", b"mft2"):
        grid = tag[10:11] * tag[8]
    elif tag[:4] in (b"mAB ", b"mBA ") and (offset := int.from_bytes(tag[24:28])):
        grid = profile[start + offset : start + offset + tag[8]]
    return math.prod(grid) * tag[9] if grid else 0
