"""Going through a picture by strips, so that little of it is held twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from PIL import Image


def strips(image: Image.Image, pixels: int, shrink: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield (top row, strip) of about `pixels` each, of whole squares of `shrink`; a small picture itself."""
    rows = max(1, pixels // image.width // shrink) * shrink
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def converted(
    image: Image.Image, pixels: int, shrink: int, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Put together what `convert` makes of each strip: all of one mode, `shrink` times smaller."""
    result: Image.Image | None = None
    for top, strip in strips(image, pixels, shrink):
        part = convert(strip)
        if part.height == -(-image.height // shrink):
            return part
        if result is None:
            result = Image.new(part.mode, (part.width, -(-image.height // shrink)))
        result.paste(part, (0, top // shrink))
    assert result is not None  # noqa: S101 - a picture has a row
    return result
