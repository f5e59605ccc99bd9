"""The pictures of every benchmark: photo-sized JPEGs, served over local HTTP by a process of their own."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from socketserver import BaseRequestHandler
from typing import Any
from zlib import crc32

from tests.image_server import make_photo

WIDTH, HEIGHT = 2048, 1536  # 3.1 megapixels


def write_photos(folder: Path, count: int) -> list[Path]:
    """`count` different JPEGs in `folder`, made by two processes; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.jpg" for number in range(count)]
    missing = [path for path in paths if not path.exists()]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_write_photo, missing, chunksize=8)
    return paths


def _write_photo(path: Path) -> None:
    path.write_bytes(make_photo(int(path.stem), WIDTH, HEIGHT))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a process that serves `folder`."""
    with serving(partial(_QuietHandler, directory=str(folder))) as address:
        yield address


@contextmanager
def served_endlessly(paths: list[Path]) -> Iterator[str]:
    """The address of a process that has a picture of its own at every path: a photo, the path at its end."""
    with serving(partial(_Endless, [path.read_bytes() for path in paths])) as address:
        yield address


@contextmanager
def serving(handler: Callable[..., BaseRequestHandler]) -> Iterator[str]:
    """The address of a process that answers with `handler`, which is sent to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, handler), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Endless(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, photos: list[bytes], *connection: Any) -> None:
        self._photos = photos
        super().__init__(*connection)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        body = self._photos[crc32(self.path.encode()) % len(self._photos)] + self.path.encode()
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _serve(port: Connection, handler: Callable[..., BaseRequestHandler]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    port.send(server.server_address[1])
    server.serve_forever()
