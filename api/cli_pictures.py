"""Search results with their thumbnails, by the best means that the terminal has.

textual-image asks the terminal when it is imported: Sixel, Kitty's graphics, or else coloured half blocks.
"""

import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

from PIL import Image, UnidentifiedImageError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual_image.renderable import Image as TerminalImage

from api.cli_command import printable
from api.client import ApiError, Client
from api.schemas import Result

COLUMNS, ROWS = 24, 9
# A terminal that does not tell the size of its cells is no news, least of all with a stack trace.
logging.getLogger("textual_image").setLevel(logging.ERROR)
_AT_ONCE = 8


def gallery(client: Client, results: Sequence[Result]) -> Table:
    """A row for each: the picture, and beside it the score, source, id, tags and metadata."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(width=COLUMNS, no_wrap=True)
    table.add_column(overflow="fold")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        thumbnails = pool.map(lambda hit: _thumbnail(client, hit), results)
        for hit, picture in zip(results, thumbnails, strict=True):
            table.add_row(_fitted(picture) if picture else Text("no thumbnail", "dim"), _said(hit))
    return table


def _thumbnail(client: Client, hit: Result) -> Image.Image | None:
    collection = parse_qs(urlsplit(hit.thumbnail_url).query).get("collection", [None])[0]
    try:
        return Image.open(io.BytesIO(client.thumbnail(hit.id, collection=collection)))
    except (ApiError, UnidentifiedImageError):
        return None


def _fitted(picture: Image.Image) -> RenderableType:
    """As large as fits into the cell; a cell of a terminal is about twice as high as it is wide."""
    picture = picture.convert("RGB")
    wide = picture.width * ROWS * 2 > picture.height * COLUMNS
    width, height = (COLUMNS, "auto") if wide else ("auto", ROWS)
    return TerminalImage(picture, width=width, height=height)


def _said(hit: Result) -> Group:
    metadata = ", ".join(f"{name}: {value}" for name, value in (hit.metadata or {}).items())
    lines = [
        Text(f"{hit.score:.4f}", "bold green"),
        Text(printable(hit.source)),
        Text(f"{hit.width}x{hit.height}", "dim"),
        Text(printable(metadata)),
        Text(hit.id, "dim"),
        Text(""),
    ]
    return Group(*(line for line in lines if line.plain or line is lines[-1]))
