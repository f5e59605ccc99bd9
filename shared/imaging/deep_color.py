"""Colour of 16 bits, which Pillow cuts to the high byte of each: brightened where files use fewer of them."""

from __future__ import annotations

import re
from collections.abc import Callable

from PIL import Image

from shared.imaging.strips import strips

_SEARCHED_PIXELS = 2**20  # at a time
_CUT = re.compile(r"(RGB[AXa]?|LA);16")
_TOPS = (3, 15, 63)  # what is left of 10, 12 and 14 bits
_GREY_STEP = {"L;2": 85, "L;4": 17}


def raw_mode(image: Image.Image) -> str:
    """Return how the pixels lie in a file that is opened; once they are loaded, Pillow has forgotten it."""
    args = next((tile[3] for tile in getattr(image, "tile", ())), "")
    return str(args[0] if isinstance(args, tuple) and args else args)


def brightened(image: Image.Image, raw: str) -> Callable[[Image.Image], Image.Image] | None:
    """Return what makes a strip as bright as it is meant to be; None if it is."""
    if not _CUT.match(raw):
        return None
    colors = len(image.getbands()) - ("A" in image.getbands())
    parts = (strip for _, strip in strips(image, _SEARCHED_PIXELS))
    peak = max(_peak(strip.getchannel(band)) for strip in parts for band in range(colors))
    top = next((top for top in _TOPS if peak <= top), None)
    if top is None:
        return None
    table = [min(255, round(value * 255 / top)) for value in range(256)] * colors
    table += list(range(256)) * (len(image.getbands()) - colors)
    return lambda strip: strip.point(table)


def _peak(band: Image.Image) -> float:
    _, peak = band.getextrema()
    assert isinstance(peak, int | float)  # noqa: S101 - it is one band
    return peak


def mend_color_key(image: Image.Image, raw: str) -> None:
    """Bring a PNG's transparent colour to the depth of the pixels that Pillow makes, 8 bits."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and _CUT.match(raw):
        image.info["transparency"] = tuple(part >> 8 for part in key)
    elif isinstance(key, int) and raw in _GREY_STEP:
        image.info["transparency"] = key * _GREY_STEP[raw] & 255
