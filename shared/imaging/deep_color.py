"""Colour of 16 bits, which Pillow cuts to the high byte of each sample, where files use fewer of them.

Of 10 bits in 16 two would be left, and they would be black: such a file is read once more, for the low bytes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.imaging.strips import strips

_SEARCHED_PIXELS = 2**19  # at a time
_CUT = re.compile(r"(RGB[AX]?|LA|R);16[BLN]")  # R is the first of planes
_HIGHEST = (0, 3, 15, 63)  # the high byte of the top of 8, 10, 12 and 14 bits
_GREY_STEP = {"L;2": 85, "L;4": 17}


def raw_mode(image: Image.Image) -> str:
    """Return how the pixels lie in a file that is opened; once they are loaded, Pillow has forgotten it."""
    args = next((tile[3] for tile in getattr(image, "tile", ())), "")
    return str(args[0] if isinstance(args, tuple) and args else args)


def is_cut(raw: str) -> bool:
    """Return whether samples of 16 bits lose their low bytes."""
    return _CUT.fullmatch(raw) is not None


def mend_samples(image: Image.Image, raw: str, reopen: Callable[[], Image.Image]) -> None:
    """Make a loaded picture as bright as it is meant to be, and its transparent colour one of 8 bits."""
    key = image.info.get("transparency")
    if isinstance(key, int) and raw in _GREY_STEP:
        image.info["transparency"] = key * _GREY_STEP[raw] & 255
    if not is_cut(raw):
        return
    table = _low_table(image, raw, reopen)
    if isinstance(key, tuple):
        image.info["transparency"] = tuple(int(table[part]) for part in key)


def _low_table(image: Image.Image, raw: str, reopen: Callable[[], Image.Image]) -> NDArray[np.uint8]:
    """Scale the picture where it uses few bits. Return what of 8 bits each value of 16 becomes."""
    values = np.arange(2**16)
    peaks = np.zeros(len(image.getbands()), np.uint8)
    for _, strip in strips(image, _SEARCHED_PIXELS):
        peaks = np.maximum(peaks, np.asarray(strip).max((0, 1)))
        if peaks[:3].max() > _HIGHEST[-1]:
            break
    top = next((top for top in _HIGHEST if peaks[:3].max() <= top), None)
    if top is None:
        return (values >> 8).astype(np.uint8)
    table = (values * 255 / (top * 256 + 255)).round().clip(0, 255).astype(np.uint8)
    low = _low_bytes(raw, reopen)
    for row, strip in strips(image, _SEARCHED_PIXELS):
        high = np.asarray(strip).astype(np.uint16)
        below = np.asarray(low.crop((0, row, image.width, row + strip.height)))
        scaled = table[high << 8 | (below[..., [1, 1, 1, 3]] if raw.startswith("LA") else below)]
        if peaks[-1] > top:  # alpha uses more
            scaled[..., -1] = high[..., -1]
        image.paste(Image.fromarray(scaled), (0, row))
    return table


def _low_bytes(raw: str, reopen: Callable[[], Image.Image]) -> Image.Image:
    """Read the file as if its bytes stood the other way round, so that the high ones are cut off.

    Grey with alpha comes as the four bytes that a pixel has. Compressed planes keep the high ones.
    """
    order = "B" if raw.endswith("L") or (raw.endswith("N") and sys.byteorder == "little") else "L"

    def other(mode: str) -> str:
        return "RGBA" if mode.startswith("LA") else mode[:-1] + order

    image = reopen()
    file: Any = image
    file.tile = [
        tile._replace(
            args=(other(tile.args[0]), *tile.args[1:]) if isinstance(tile.args, tuple) else other(tile.args)
        )
        for tile in file.tile
    ]
    image.load()
    return image
