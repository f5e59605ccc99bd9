"""Making any picture RGB of 8 bits, by strips: deep samples scaled, transparency on a ground, in sRGB."""

from __future__ import annotations

from functools import partial

from PIL import Image

from shared.imaging.color_profiles import to_srgb
from shared.imaging.deep_grey import Grey, grey_of
from shared.imaging.strips import converted
from shared.imaging.transparency import has_alpha, on_a_ground, with_alpha, without_alpha

_STRIP_PIXELS = 2**22  # converted at a time
_REDUCIBLE = frozenset({"L", "RGB", "CMYK", "YCbCr", "LA", "RGBA", "LAB"})


def to_rgb(image: Image.Image, shrink: int) -> Image.Image:
    """Make it RGB, `shrink` times smaller: by strips, to hold one copy, not five."""
    grey, profile = grey_of(image), image.info.get("icc_profile")
    if has_alpha(image) and (drawn := _drawn(image, shrink, grey, profile)) is not None:
        return on_a_ground(drawn)
    strip_to_rgb = partial(_strip_to_rgb, shrink=shrink, grey=grey, profile=profile)
    return converted(image, _STRIP_PIXELS, shrink, strip_to_rgb)


def _drawn(image: Image.Image, shrink: int, grey: Grey | None, profile: bytes | None) -> Image.Image | None:
    """Return it made smaller, as RGBA; None where alpha is zero everywhere, and so means nothing."""
    if image.mode == "RGBA" and shrink == 1 and profile is None:
        return image if image.getbbox() else None
    visible = False

    def shrunk(strip: Image.Image) -> Image.Image:
        nonlocal visible
        strip = with_alpha(grey.to_8_bits(strip) if grey else strip)
        visible = visible or strip.getbbox() is not None
        return to_srgb(strip.reduce(shrink), profile)

    result = converted(image, _STRIP_PIXELS, shrink, shrunk)
    return result if visible else None


def _strip_to_rgb(image: Image.Image, shrink: int, grey: Grey | None, profile: bytes | None) -> Image.Image:
    if grey is not None:
        image = grey.to_8_bits(image)
    if has_alpha(image):
        image = without_alpha(image)
    if shrink > 1:
        image = (image if image.mode in _REDUCIBLE else image.convert("RGB")).reduce(shrink)
    return to_srgb(image, profile)
