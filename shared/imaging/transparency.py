"""Transparency: whether a picture has any, and which ground shows what is drawn on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Ground = str  # a colour's name

_SIDE = 128  # of what is looked at
_FLIP = 3  # times the contrast that black must have


def has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info


def with_alpha(image: Image.Image) -> Image.Image:
    """Return it as LA or RGBA, the modes that the rest is made for."""
    if image.mode in ("LA", "RGBA"):
        return image
    return image.convert("LA" if image.mode == "La" else "RGBA")


def without_alpha(image: Image.Image) -> Image.Image:
    """Return its colours, whatever its alpha is."""
    image.info.pop("transparency", None)
    if image.mode in ("La", "RGBa"):
        image = with_alpha(image)
    return image.convert("L" if image.mode == "LA" else "RGB")


def on_ground(image: Image.Image, ground: Ground) -> Image.Image:
    """Lay LA or RGBA on white or black: L or RGB."""
    below = Image.new("L" if image.mode == "LA" else "RGB", image.size, ground)
    below.paste(image, mask=image)
    return below


def ground_of(image: Image.Image) -> Ground:
    """Return "white", or "black" where an LA or RGBA drawing would vanish on white.

    What counts is the contrast along all edges: a page with rounded corners has text and a photo has detail
    on either ground, and a shadow shows a white shape. A white icon has edges on black alone.
    """
    if image.getchannel("A").getextrema() == (255, 255):
        return "white"
    size = min(image.width, _SIDE), min(image.height, _SIDE)
    small = image.resize(size, Image.Resampling.BOX, reducing_gap=1.0)
    white, black = (_contrast(np.asarray(on_ground(small, ground))) for ground in ("white", "black"))
    return "black" if black > _FLIP * white else "white"


def _contrast(pixels: NDArray[np.uint8]) -> float:
    """Return the sum of all steps from a pixel to the next one, across and down."""
    values = pixels.astype(np.int16)
    return float(sum(np.abs(np.diff(values, axis=axis)).sum() for axis in (0, 1)))
