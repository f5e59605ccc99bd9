"""Making any picture RGB of 8 bits: deep grey scaled, transparency on a ground."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.imaging.color_profiles import to_srgb

_STRIP_PIXELS = 2**22  # converted at a time
_REDUCIBLE = frozenset({"L", "RGB", "CMYK", "YCbCr", "LA", "RGBA", "LAB"})


def to_rgb(image: Image.Image, shrink: int) -> Image.Image:
    """Make it RGB, transparency on white, `shrink` times smaller: by strips, to hold one copy, not five."""
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
    profile = image.info.get("icc_profile")
    if white is not None:
        image = _to_8_bit(image, white)
    elif "transparency" in image.info or image.mode in ("PA", "La", "RGBa"):
        image = image.convert("LA" if image.mode in ("1", "L", "La") else "RGBA")
    if shrink > 1:
        image = (image if image.mode in _REDUCIBLE else image.convert("RGB")).reduce(shrink)
    image = to_srgb(image, profile)
    return _on_white(image) if image.mode == "RGBA" else image


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
