"""Transparency: whether a picture has any, and which ground shows what is drawn on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 128  # at least, of the smaller copies that are compared
_FLIP = 6  # times the contrast that black must have: a pink or silver drawing shows on white, too


def has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info


def with_alpha(image: Image.Image) -> Image.Image:
    """Return it as LA or RGBA, the modes that the rest is made for."""
    if image.mode in ("LA", "RGBA"):
        return image
    return image.convert("LA" if image.mode in ("1", "L", "La") else "RGBA")


def without_alpha(image: Image.Image) -> Image.Image:
    """Return its colours, whatever its alpha is."""
    image.info.pop("transparency", None)
    if image.mode in ("La", "RGBa"):
        image = with_alpha(image)
    return image.convert("L" if image.mode == "LA" else "RGB")


def on_a_ground(image: Image.Image) -> Image.Image:
    """Lay RGBA on white, or on black where the drawing would vanish on white: RGB.

    What counts is the contrast along all edges: a page with rounded corners has text and a photo has detail
    on either ground, and a shadow shows a white shape. A white icon has edges on black alone.
    """
    result = _on(image, "white")
    factors = max(1, image.width // _SIDE), max(1, image.height // _SIDE)
    alpha = np.asarray(image.getchannel("A").reduce(factors), np.int16)
    white = np.asarray(result.reduce(factors), np.int16)
    black = white - (255 - alpha[..., None])
    return _on(image, "black") if _contrast(black) > _FLIP * _contrast(white) else result


def _on(image: Image.Image, ground: str) -> Image.Image:
    below = Image.new("RGB", image.size, ground)
    below.paste(image, mask=image)
    return below


def _contrast(pixels: NDArray[np.int16]) -> float:
    """Return the sum of all steps from a pixel to the next one, across and down."""
    return float(sum(np.abs(np.diff(pixels, axis=axis)).sum() for axis in (0, 1)))
