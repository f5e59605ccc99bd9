"""Any number of distinct tiny pictures, each made when it is asked for, by a process of their own."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from PIL import Image

from benchmarks.photos import serving

SIDE = 16  # pixels


@contextmanager
def tiny_pictures() -> Iterator[str]:
    """An address whose every path is a picture of its own, a PNG of some 800 bytes."""
    with serving(_Handler) as address:
        yield address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 8 * 1024  # head and body in one packet

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        body = _picture(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _picture(path: str) -> bytes:
    pixels = hashlib.shake_128(path.encode()).digest(SIDE * SIDE * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (SIDE, SIDE), pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
