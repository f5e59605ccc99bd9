"""Two descriptions of an image that need no model: the names of its main colours, and a perceptual hash.

Both are computed on `small(image)`, its 32 x 32 pixels, in well under a millisecond.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.models import COLORS

Pixels = NDArray[np.uint8]

MAX_COLORS = 5
MIN_SHARE = 0.05  # of the picture's area; less is detail, or the fringe between two areas
SIDE = 32
HASH_SIDE = 8
_LEVELS = 32  # of each of R, G and B, in the table of colour names

# The basic colour terms of B. Berlin and P. Kay, "Basic Color Terms" (1969), each by typical colours in sRGB:
# a colour gets the name of the nearest one in OKLab. Where a name covers much it has several.
_TYPICAL: Mapping[str, tuple[int, ...]] = {
    "black": (0x000000, 0x141414, 0x1A1614, 0x101820),
    "white": (0xFFFFFF, 0xF4F4F4, 0xFAF6EE, 0xEEF3F8),
    "gray": (0x303030, 0x4D4D4D, 0x808080, 0xA9A9A9, 0xD3D3D3, 0x708090),
    "red": (0xFF0000, 0xDC143C, 0xB22222, 0x8B0000, 0xE53935),
    "orange": (0xFF8C00, 0xFFA500, 0xFF6A00, 0xE8853A, 0xFFB347),
    "yellow": (0xFFFF00, 0xFFD700, 0xFFF176, 0xE6C619, 0xC9B037),
    "green": (0x008000, 0x00FF00, 0x32CD32, 0x90EE90, 0x6B8E23, 0x2E8B57, 0x9ACD32, 0x28401E, 0x0A3214),
    "blue": (0x0000FF, 0x1E90FF, 0x000080, 0x4169E1, 0x87CEEB, 0x4682B4, 0x00BFFF, 0x008B8B, 0x40E0D0),
    "purple": (0x800080, 0x8A2BE2, 0x4B0082, 0x9370DB, 0x9932CC, 0xB19CD9),
    "pink": (0xFFC0CB, 0xFF69B4, 0xFF1493, 0xFF00FF, 0xF4A6B8, 0xDB7093),
    "brown": (0x8B4513, 0xA0522D, 0x5C4033, 0x3D2B1F, 0x7B3F00, 0xA67B5B, 0xC19A6B, 0xD2B48C, 0xFFDBAC),
}


def small(image: Image.Image) -> Pixels:
    """Squeeze an RGB image into uint8 (32, 32, 3), whatever its shape."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))


def dominant_colors(pixels: Pixels) -> list[str]:
    """Return up to MAX_COLORS of COLORS, most area first, each with at least MIN_SHARE of uint8 (h, w, 3)."""
    levels = (pixels // (256 // _LEVELS)).reshape(-1, 3).astype(np.intp)
    codes = (levels[:, 0] * _LEVELS + levels[:, 1]) * _LEVELS + levels[:, 2]
    areas = np.bincount(_names()[codes], minlength=len(COLORS)) / len(codes)
    order = np.argsort(-areas, kind="stable")[:MAX_COLORS]
    return [COLORS[place] for place in order if areas[place] >= MIN_SHARE]


def perceptual_hash(pixels: Pixels) -> str:
    """Return the DCT pHash of uint8 (32, 32, 3): 64 bits as 16 hexadecimal digits.

    Bit i says whether the i-th of the 8 x 8 lowest frequencies of the luma is above their median (C. Zauner,
    "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, as the ImageHash library has
    it). Images of one flat colour all have nearly the same hash: only the vector tells them apart.
    """
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    transform = _dct()
    low = transform @ luma @ transform.T
    # What is but rounding, as all of a flat picture is, must not decide a bit.
    bits = low > np.median(low) + 1e-6
    return np.packbits(bits).tobytes().hex()


def hash_bits(hashes: list[str]) -> NDArray[np.uint64]:
    """Return perceptual hashes as uint64 (n,); the Hamming distance of two is `np.bitwise_count(a ^ b)`."""
    return np.array([int(one, 16) for one in hashes], np.uint64)


@cache
def _dct() -> NDArray[np.float64]:
    """Return the first HASH_SIDE rows of the orthonormal DCT-II matrix of size SIDE."""
    frequencies, places = np.arange(HASH_SIDE)[:, None], np.arange(SIDE)[None, :]
    rows = np.sqrt(2 / SIDE) * np.cos(np.pi * frequencies * (2 * places + 1) / (2 * SIDE))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows)


@cache
def _names() -> NDArray[np.uint8]:
    """Return for each of the _LEVELS ** 3 colours the place in COLORS of its name."""
    grid = np.indices((_LEVELS,) * 3).reshape(3, -1).T
    middles = ((grid + 0.5) * (256 / _LEVELS)).astype(np.float64)
    hexes = np.array([colour for group in _TYPICAL.values() for colour in group])
    typical = _oklab(np.stack([hexes >> 16, hexes >> 8 & 255, hexes & 255], axis=1).astype(float))
    places = np.repeat(np.arange(len(COLORS)), [len(group) for group in _TYPICAL.values()])
    wanted = _oklab(middles)
    distances = (typical**2).sum(1) - 2 * wanted @ typical.T  # but for what all of a row have in common
    return np.asarray(places[distances.argmin(1)], np.uint8)


def _oklab(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert sRGB (n, 3), 0 to 255, to OKLab.

    The matrices are those of Björn Ottosson's "A perceptual color space for image processing".
    """
    value = srgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
    return np.asarray(np.cbrt(cones) @ to_lab)
