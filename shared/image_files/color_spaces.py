"""Which colours a file's numbers mean: its ICC profile, or one made of what else it says of them."""

from __future__ import annotations

import contextlib
import functools
import struct

import numpy as np
from PIL import ExifTags, Image

from shared.image_files.formats import JPEGS
from shared.image_metadata.tiff_tags import exif_directory

Chromaticities = tuple[float, ...]  # x and y of white, red, green and blue

SRGB: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_RGB_GAMMA = 563 / 256
# By the code points of ITU-T H.273: the primaries that are wider than sRGB's, and the curves of pictures that
# are not HDR, which browsers take for sRGB's.
_PRIMARIES: dict[int, Chromaticities] = {
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),  # BT.2020
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # Display P3
}
_CURVES = frozenset({1, 6, 13, 14, 15})
# What comes before the two code points, which no decoder hands on: a PNG's chunk, a HEIC's or AVIF's box.
_CODE_POINTS = {
    "PNG": (b"\0\0\0\4cICP", ">BB"),
    "AVIF": (b"\0\0\0\x13colrnclx", ">HH"),
    "HEIF": (b"\0\0\0\x13colrnclx", ">HH"),
}
# The gamma of files that are meant as sRGB, whose own curve a PNG's number cannot say.
_SRGB_GAMMA, _NEAR = 0.45455, 0.006

_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB_CURVE = (3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def color_profile(image: Image.Image, data: bytes) -> bytes | None:
    """Return the ICC profile of an opened file, which may be broken; None for sRGB. Never raises."""
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        return profile
    with contextlib.suppress(Exception):  # hostile numbers
        if image.format in _CODE_POINTS and (made := _of_code_points(image.format, data)):
            return made
        if image.format == "PNG" and "srgb" not in image.info:
            return _of_png(image)
        if image.format in JPEGS and "exif" in image.info and _is_adobe_rgb(image):
            return matrix_profile(ADOBE_RGB, ADOBE_RGB_GAMMA)
    return None


def _of_code_points(format_name: str, data: bytes) -> bytes | None:
    before, form = _CODE_POINTS[format_name]
    place = data.find(before, 0, data.find(b"IDAT") if format_name == "PNG" else len(data))
    if place < 0:
        return None
    primaries, curve = struct.unpack_from(form, data, place + len(before))
    return matrix_profile(_PRIMARIES[primaries]) if primaries in _PRIMARIES and curve in _CURVES else None


def _of_png(image: Image.Image) -> bytes | None:
    gamma = image.info.get("gamma")
    if gamma is None and "chromaticity" not in image.info:
        return None
    curve = None if gamma is None or abs(gamma - _SRGB_GAMMA) < _NEAR else 1 / gamma
    return matrix_profile(image.info.get("chromaticity", SRGB), curve)


def _is_adobe_rgb(image: Image.Image) -> bool:
    """As cameras say it, which embed no profile: colours that are not sRGB, by the rules of R03."""
    camera = exif_directory(image.info["exif"]).below(ExifTags.IFD.Exif)
    space = camera.get(ExifTags.Base.ColorSpace)
    rules = camera.below(ExifTags.IFD.Interop).text(ExifTags.Interop.InteropIndex)
    return space == (2,) or (space == (0xFFFF,) and rules == "R03")


@functools.lru_cache(maxsize=16)
def matrix_profile(chromaticities: Chromaticities, gamma: float | None = None) -> bytes:
    """Return an ICC profile of these primaries, without a gamma with the curve of sRGB.

    Raises ValueError, LinAlgError or struct.error for those of no colour.
    """
    x, y = np.reshape(chromaticities, (4, 2)).T
    if y.min() <= 0 or min(chromaticities) < 0 or max(chromaticities) > 1 or not 0.1 <= (gamma or 1) <= 10:
        raise ValueError("no such colours")
    white, *primaries = np.transpose([x / y, np.ones(4), (1 - x - y) / y])
    colorants = np.transpose(primaries) * np.linalg.solve(np.transpose(primaries), white)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white)) @ _BRADFORD
    kind, *parameters = _SRGB_CURVE if gamma is None else (0, gamma)
    curve = b"para" + bytes(4) + struct.pack(">HH", int(kind), 0) + _fixed(*parameters)
    blocks = [b"XYZ " + bytes(4) + _fixed(*column) for column in (adapted @ colorants).T]
    names = [b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"]
    starts = [204, 224, 244, 264, 264, 264]
    sizes = [20, 20, 20, len(curve), len(curve), len(curve)]
    table = b"".join(struct.pack(">4sII", *tag) for tag in zip(names, starts, sizes, strict=True))
    body = struct.pack(">I", len(names)) + table + b"".join(blocks) + curve
    size = struct.pack(">I", 128 + len(body))
    head = size + b"\0\0\0\0\4\x20\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + _fixed(*_D50)
    return head.ljust(128, b"\0") + body


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))
