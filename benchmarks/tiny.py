"""Any number of distinct tiny pictures, each made when it is asked for, by a process of their own."""

import hashlib
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

from PIL import Image

from benchmarks.photos import serving

SIDE = 16  # pixels


@contextmanager
def tiny_pictures(latency_s: float = 0.0) -> Iterator[str]:
    """An address whose every path is a picture of its own, some 800 bytes of PNG, sent after `latency_s`."""
    with serving(partial(_Handler, latency_s)) as address:
        yield address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 8 * 1024  # head and body in one packet

    def __init__(self, latency_s: float, *connection: Any) -> None:
        self._latency_s = latency_s
        super().__init__(*connection)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        time.sleep(self._latency_s)
        body = picture(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def picture(path: str) -> bytes:
    pixels = hashlib.shake_128(path.encode()).digest(SIDE * SIDE * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (SIDE, SIDE), pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
