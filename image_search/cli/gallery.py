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

from image_search import ApiError, Client
from image_search.models.search import Hit

COLUMNS, ROWS = 18, 9  # of one picture; a cell is about twice as high as it is wide
_GAP = 2
# A terminal that does not tell the size of its cells is no news, least of all with a stack trace.
logging.getLogger("textual_image").setLevel(logging.ERROR)
_MAX_AT_ONCE = 8


def gallery(client: Client, results: Sequence[Hit], width: int) -> Table:
    """Lay the pictures side by side, each over its number and score."""
    across = max(1, (width + _GAP) // (COLUMNS + _GAP))
    table = Table.grid(padding=(0, _GAP, 1, 0))
    for _ in range(across):
        table.add_column(width=COLUMNS, vertical="bottom", no_wrap=True)
    with ThreadPoolExecutor(_MAX_AT_ONCE) as pool:
        thumbnails = pool.map(lambda hit: _thumbnail(client, hit), results)
        cells = [
            Group(
                _fitted(thumbnail),
                Text.assemble((f"{number}", "bold"), f"  {hit.score:.4f} {hit.strength or ''}\n"),
            )
            for number, (hit, thumbnail) in enumerate(zip(results, thumbnails, strict=True), 1)
        ]
    for start in range(0, len(cells), across):
        table.add_row(*cells[start : start + across])
    return table


def _thumbnail(client: Client, hit: Hit) -> Image.Image | None:
    collection = parse_qs(urlsplit(hit.thumbnail_url).query).get("collection", [None])[0]
    try:
        return Image.open(io.BytesIO(client.thumbnail(hit.id, collection=collection)))
    except (ApiError, UnidentifiedImageError):
        return None


def _fitted(thumbnail: Image.Image | None) -> RenderableType:
    if thumbnail is None:
        return Text("no thumbnail", "dim")
    thumbnail = thumbnail.convert("RGB")
    wide = thumbnail.width * ROWS * 2 > thumbnail.height * COLUMNS
    width, height = (COLUMNS, "auto") if wide else ("auto", ROWS)
    return TerminalImage(thumbnail, width=width, height=height)
