"""Making any picture RGB of 8 bits, by strips: deep samples scaled, transparency on a ground."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import Image

from shared.errors import ItemError
from shared.imaging.deep_color import brightened, mend_color_key
from shared.imaging.deep_grey import grey_of
from shared.imaging.strips import converted
from shared.imaging.transparency import has_alpha, on_a_ground, with_alpha, without_alpha

_STRIP_PIXELS = 2**22  # converted at a time
_REDUCIBLE = frozenset({"L", "RGB", "CMYK", "YCbCr", "LA", "RGBA"})

_To8Bits = Callable[[Image.Image], Image.Image]


def to_rgb(image: Image.Image, shrink: int, raw_mode: str = "") -> Image.Image:
    """Make it RGB, `shrink` times smaller: by strips, to hold one copy, not five.

    `raw_mode` is what `deep_color.raw_mode` said before the picture was loaded.
    """
    if image.mode == "LAB":
        raise ItemError("unsupported_format", "the LAB colour space is not supported")
    mend_color_key(image, raw_mode)
    to_8_bits = grey_of(image) or brightened(image, raw_mode)
    if has_alpha(image) and (drawn := _drawn(image, shrink, to_8_bits)) is not None:
        image, shrink, to_8_bits = on_a_ground(drawn), 1, None
    strip_to_rgb = partial(_strip_to_rgb, shrink=shrink, to_8_bits=to_8_bits)
    return converted(image, _STRIP_PIXELS, shrink, strip_to_rgb)


def _drawn(image: Image.Image, shrink: int, to_8_bits: _To8Bits | None) -> Image.Image | None:
    """Return it made smaller, as LA or RGBA; None where alpha is zero everywhere, and so means nothing."""
    if shrink == 1 and to_8_bits is None and image.mode in ("LA", "RGBA"):
        return image if image.getbbox() else None
    visible = False

    def shrunk(strip: Image.Image) -> Image.Image:
        nonlocal visible
        strip = with_alpha(to_8_bits(strip) if to_8_bits else strip)
        visible = visible or strip.getbbox() is not None
        return strip.reduce(shrink)

    result = converted(image, _STRIP_PIXELS, shrink, shrunk)
    return result if visible else None


def _strip_to_rgb(image: Image.Image, shrink: int, to_8_bits: _To8Bits | None) -> Image.Image:
    if to_8_bits is not None:
        image = to_8_bits(image)
    if has_alpha(image):
        image = without_alpha(image)
    if shrink > 1:
        image = (image if image.mode in _REDUCIBLE else image.convert("RGB")).reduce(shrink)
    return image if image.mode == "RGB" else image.convert("RGB")
