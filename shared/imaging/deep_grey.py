"""Deep grey, of 12 to 32 bits or floats, made grey of 8 bits by the range that its values are in.

Pillow's own conversion clips or cuts: an X-ray of 12 bits would be black, and heights in metres white.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base as Tag

from shared.imaging.strips import strips

_SEARCHED_PIXELS = 2**20  # at a time
_USUAL_TOPS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8, 10, 12, 14 and 16 bits
_LEAST_SHARE = 1 / 8  # of the usual range, for deep grey that is shown in it: less would look blank
_NO_MEASURE = 1e30  # and more are marks of "no data", such as -3.4e38
_MARK = 9999.0  # the least of those whose value a format leaves free: -9999, -32768, 1e20
_MAX_MARKS = 4

_NO_DATA = 42113  # a tag of GDAL


@dataclass(frozen=True, slots=True)
class Grey:
    """How a picture's grey is read: `black` and `white` are values."""

    layout: _Layout
    black: float
    white: float

    def to_8_bits(self, image: Image.Image) -> Image.Image:
        """Make L of a strip, LA where one value is transparent."""
        if not image.mode.startswith("I;16"):
            return Image.fromarray(self._scaled(self.layout.values(image)))
        if self == _FULL_16_BITS:
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        table = self._scaled(self.layout.marked(np.arange(2**16, dtype=np.float32))).tolist()
        values = image.convert("I")
        grey = values.point(table, "L")
        if "transparency" not in image.info:
            return grey
        opaque = [255 * (value != self.layout.no_data) for value in range(2**16)]
        return Image.merge("LA", (grey, values.point(opaque, "L")))

    def _scaled(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Scale values in their own place. What is no number becomes black."""
        np.nan_to_num(values, copy=False, nan=self.black)
        np.clip(values, self.black, self.white, out=values)
        values -= self.black
        values /= np.float32(self.white - self.black)
        values *= 255
        if self.layout.white_is_zero:
            np.subtract(255, values, out=values)
        return values.round(out=values).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a file says of its values that Pillow does not heed."""

    white_is_zero: bool
    unsigned: bool
    no_data: float | None

    @classmethod
    def of(cls, image: Image.Image) -> _Layout:
        tags: Any = getattr(image, "tag_v2", {})
        key = image.info.get("transparency")
        return cls(
            white_is_zero=tags.get(Tag.PhotometricInterpretation) == 0,
            unsigned=image.mode == "I" and bool(tags) and _first(tags.get(Tag.SampleFormat, 1)) == 1,
            no_data=float(key) if isinstance(key, int) else _number(tags.get(_NO_DATA)),
        )

    def values(self, image: Image.Image) -> NDArray[np.float32]:
        """Return a strip's values, NaN where there is none."""
        stored = np.asarray(image)
        if self.unsigned:
            stored = stored.view(np.uint32)
        values = stored.astype(np.float32)
        if stored.dtype.kind == "f":
            values[~(np.abs(values) < _NO_MEASURE)] = np.nan
        return self.marked(values)

    def marked(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put NaN where the file says that there is no value."""
        if self.no_data is not None:
            values[values == np.float32(self.no_data)] = np.nan
        return values


_FULL_16_BITS = Grey(_Layout(False, False, None), 0, 65535)


def grey_of(image: Image.Image) -> Grey | None:
    """Return how the picture's deep grey is read; None if it has none."""
    if not image.mode.startswith(("I", "F")):
        return None
    layout = _Layout.of(image)
    return Grey(layout, *_range(image, layout))


def _range(image: Image.Image, layout: _Layout) -> tuple[float, float]:
    """Return the values that are black and white.

    They are zero and the top of the narrowest usual range that all values are in, or the lowest and the
    highest value where little would be seen in that range.
    """
    lowest, highest = _extremes(image, layout)
    if lowest > highest:  # there is no value at all
        return 0, 1
    if image.mode in ("I", "F"):
        lowest, highest = _without_marks(image, layout, lowest, highest)
    tops = (1.0, *_USUAL_TOPS) if image.mode == "F" else _USUAL_TOPS
    top = next((top for top in tops if highest <= top), highest)
    if lowest == highest:
        return min(lowest, 0), max(top, 0)
    return (lowest, highest) if lowest < 0 or highest - lowest < top * _LEAST_SHARE else (0, top)


def _without_marks(image: Image.Image, layout: _Layout, lowest: float, highest: float) -> tuple[float, float]:
    """Leave out a lowest or highest value that stands for "no data": it is far from all others."""
    for _ in range(_MAX_MARKS):
        if lowest > -_MARK and highest < _MARK:
            break
        low, high = _extremes(image, layout, lowest, highest)
        width = high - low
        marks_below = lowest <= -_MARK and 0 < width < low - lowest
        marks_above = highest >= _MARK and 0 < width < highest - high
        if not (marks_below or marks_above):
            break
        lowest, highest = low if marks_below else lowest, high if marks_above else highest
    return lowest, highest


def _extremes(
    image: Image.Image, layout: _Layout, above: float = -math.inf, below: float = math.inf
) -> tuple[float, float]:
    """Return the lowest and the highest value between two others; (inf, -inf) if there is none."""
    lowest, highest = math.inf, -math.inf
    plain = image.mode.startswith("I;16") and layout.no_data is None
    for _, strip in strips(image, _SEARCHED_PIXELS):
        values = np.asarray(strip) if plain else layout.values(strip)
        kept = values if plain else values[(values > above) & (values < below)]
        if kept.size:
            lowest, highest = min(lowest, float(kept.min())), max(highest, float(kept.max()))
    return lowest, highest


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _number(text: Any) -> float | None:
    """Return a number that a file has as text; None if it is none, or no measure anyway."""
    try:
        number = float(text.strip(" \0"))
    except (AttributeError, TypeError, ValueError):
        return None
    return number if abs(number) < _NO_MEASURE else None
