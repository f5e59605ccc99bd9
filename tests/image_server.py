"""A local web server of pictures that also misbehaves, for tests and benchmarks.

`with ImageServer() as server: server.url("/photo/1.jpg?w=640&h=480")`. See `_ROUTES` for what it serves.
"""

import functools
import gzip
import io
import mimetypes
import re
import ssl
import threading
import time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image, ImageDraw

_CHUNK = bytes(64 * 1024)
_LONG_AGO = 1_700_000_000


@functools.lru_cache(maxsize=32)  # a large one takes half a second
def make_photo(seed: int, width: int, height: int) -> bytes:
    """A JPEG of quality 88 that weighs and decodes like a photograph (about 0.25 bytes a pixel).

    The same seed gives the same picture at any size; other seeds give visibly different ones.
    """
    rng = np.random.default_rng(seed)
    image = _blurred_noise(rng, 4, (width, height))
    detail = _blurred_noise(rng, 48, (width, height))
    image = Image.blend(image, detail, 0.25)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, reach = rng.random(3) * (width, height, min(width, height) * 0.3)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - reach, y - reach, x + reach, y + reach), fill=colour)
    buffer = io.BytesIO()
    _with_grain(rng, image).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _with_grain(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Sensor noise of one tile: what makes a file weigh, and too slow to draw anew for every pixel."""
    tile = rng.normal(0, 4 + 4 * rng.random(), (256, 256, 1))
    rows, columns = -(-image.height // 256), -(-image.width // 256)
    grain = np.tile(tile.astype(np.int16), (rows, columns, 1))[: image.height, : image.width]
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def _blurred_noise(rng: np.random.Generator, side: int, size: tuple[int, int]) -> Image.Image:
    noise = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


_photo = functools.lru_cache(maxsize=256)(make_photo)


class ImageServer:
    """Serves on a free loopback port from `__enter__` to `__exit__`.

    `hits` counts requests by path without the query, `connections` connections; `user_agents`, `hosts` and
    `posts` (path, headers, body) record what clients sent. `texts` are served besides, by their paths.
    `authorization` is what /private wants.

    `/kept/<n>.png` is a small picture of version `versions[n]`, gone below 0, with the validators of `mode`
    (see `_serve_kept`); `statuses` counts how these were answered.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.hits: Counter[str] = Counter()
        self.user_agents: set[str] = set()
        self.hosts: set[str] = set()
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.texts: dict[str, str] = {}
        self.authorization = ""
        self.versions: Counter[int] = Counter()
        self.mode = "etag"
        self.statuses: Counter[int] = Counter()
        self.connections = 0
        self.stopping = threading.Event()
        self.counting = threading.Lock()
        self._server = _Server((host, port), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str, host: str | None = None) -> str:
        return f"http://{host or self._server.server_address[0]}:{self.port}{path}"

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Every connection from now on is TLS; the handshake happens in the connection's own thread."""
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    def count(self, path: str) -> int:
        """Adds one request of `path` and returns how many there were."""
        with self.counting:
            self.hits[path] += 1
            return self.hits[path]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    owner: ImageServer
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients under test break off; that is no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024

    def setup(self) -> None:
        super().setup()
        self.server.owner.connections += 1

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.hit = self.server.owner.count(parts.path)
        self.server.owner.user_agents.add(self.headers.get("User-Agent", ""))
        self.server.owner.hosts.add(self.headers.get("Host", ""))
        if text := self.server.owner.texts.get(parts.path):
            self.answer(200, text.encode(), mimetypes.guess_type(parts.path)[0] or "text/plain")
            return
        for pattern, serve in _ROUTES:
            if match := re.fullmatch(pattern, parts.path):
                serve(self, *match.groups())
                return
        self.answer(404, b"no such path", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.owner.posts.append((self.path, dict(self.headers), body))
        self.do_GET()

    def answer(self, status: int, body: bytes, content_type: str = "image/jpeg", **headers: str) -> None:
        self.start(status, content_type, str(len(body)), **headers)
        self.wfile.write(body)

    def start(
        self, status: int, content_type: str, length: str | None, *, keep: bool = False, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if length is not None:
            self.send_header("Content-Length", length)
        elif not keep:
            self.close_connection = True
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def wait(self, seconds: float) -> None:
        self.wfile.flush()
        self.server.owner.stopping.wait(seconds)


def _serve_photo(handler: _Handler, number: str) -> None:
    width, height = (int(handler.query.get(name, value)) for name, value in (("w", "640"), ("h", "480")))
    handler.wait(int(handler.query.get("ms", "0")) / 1000)
    handler.answer(200, _photo(int(number), width, height))


def _serve_private(handler: _Handler, number: str) -> None:
    """A photo for whom sends the `Authorization` that the server wants."""
    if handler.headers.get("Authorization", "") == handler.server.owner.authorization:
        _serve_photo(handler, number)
    else:
        handler.answer(401, b"who are you?", "text/plain")


@functools.lru_cache(maxsize=4096)
def small_picture(number: int, version: int = 0) -> bytes:
    """A PNG of 16 x 16 pixels, unlike those of other numbers and versions."""
    rng = np.random.default_rng((number, version))
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _serve_kept(handler: _Handler, number: str) -> None:
    """What `mode` says: `etag`, `weak`, `unquoted`, `modified`, `both` or `none`, answered as they should be.

    Or `deaf`: ETags, and never a 304; `touched`: an ETag that is new each time; `eager`: a 304 to whatever
    may come from a cache, and `stuck` to everything; `confused400` and the like: that, to a condition.
    """
    owner, version = handler.server.owner, handler.server.owner.versions[int(number)]
    handler.wait(int(handler.query.get("ms", "0")) / 1000)
    mode = handler.query.get("mode") or owner.mode
    etag = f'"{number}-{version}"'
    etag = {"weak": f"W/{etag}", "unquoted": etag.strip('"'), "touched": f'"{handler.hit}"'}.get(mode, etag)
    modified = formatdate(_LONG_AGO + 60 * version, usegmt=True)
    says = {"ETag": etag} if mode not in ("none", "modified") else {}
    says |= {"Last_Modified": modified} if mode in ("modified", "both") else {}
    same = handler.headers.get("If-None-Match") == etag and mode not in ("none", "modified", "deaf")
    same |= handler.headers.get("If-Modified-Since") == modified and "Last_Modified" in says
    same |= mode == "stuck" or (mode == "eager" and handler.headers.get("Cache-Control") != "no-cache")
    status = 404 if version < 0 else 304 if same else 200
    if mode.startswith("confused") and "If-None-Match" in handler.headers:
        status = int(mode[-3:])
    with owner.counting:
        owner.statuses[status] += 1
    if status == 304:
        handler.start(status, "image/png", None, keep=True, **says)
    elif status != 200:
        handler.answer(status, b"no", "text/plain")
    else:
        handler.answer(status, small_picture(int(number), version), "image/png", **says)


def _serve_status(handler: _Handler, status: str) -> None:
    handler.answer(int(status), b"as asked", "text/plain")


def _serve_flaky(handler: _Handler, number: str) -> None:
    """The first `fails` requests get `status`."""
    if handler.hit <= int(handler.query.get("fails", "2")):
        handler.answer(int(handler.query.get("status", "500")), b"not yet", "text/plain")
    else:
        _serve_photo(handler, number)


def _serve_retry_after(handler: _Handler, value: str) -> None:
    handler.answer(429, b"slow down", "text/plain", Retry_After=handler.query.get("date", value))


def _serve_slow(handler: _Handler) -> None:
    """A photo whose body trickles in over `s` seconds."""
    body = _photo(1, 320, 240)
    handler.start(200, "image/jpeg", str(len(body)))
    pieces = 20
    step = len(body) // pieces + 1
    for offset in range(0, len(body), step):
        handler.wfile.write(body[offset : offset + step])
        handler.wait(float(handler.query.get("s", "1")) / pieces)


def _serve_slow_headers(handler: _Handler) -> None:
    """Response headers that trickle in and never end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.owner.stopping.is_set():
        handler.wfile.write(b"X-Slow: yes\r\n")
        handler.wait(0.05)


def _serve_hang(handler: _Handler) -> None:
    handler.wait(600)
    handler.close_connection = True


def _serve_truncated(handler: _Handler) -> None:
    body = _photo(1, 320, 240)
    handler.start(200, "image/jpeg", str(len(body)))
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def _serve_redirect(handler: _Handler, hops: str) -> None:
    """`hops` redirects, then a photo."""
    target = f"/redirect/{int(hops) - 1}" if int(hops) > 1 else "/photo/1.jpg"
    handler.answer(302, b"", "text/plain", Location=target)


def _serve_redirect_to(handler: _Handler) -> None:
    handler.wait(int(handler.query.get("ms", "0")) / 1000)
    status = int(handler.query.get("status", "302"))
    handler.answer(status, b"", "text/plain", Location=handler.query["url"])


def _serve_huge(handler: _Handler) -> None:
    """A Content-Length of 1 TB and a body that stops after 64 KiB."""
    handler.start(200, "image/jpeg", str(10**12))
    handler.wfile.write(_CHUNK)
    handler.close_connection = True


def _serve_endless(handler: _Handler) -> None:
    handler.start(200, "image/jpeg", None)
    while not handler.server.owner.stopping.is_set():
        handler.wfile.write(_CHUNK)


def _serve_gzip_bomb(handler: _Handler) -> None:
    """About 0.1 MB that inflate to 100 MB."""
    handler.answer(200, _gzip_bomb(), Content_Encoding="gzip")


@functools.cache
def _gzip_bomb() -> bytes:
    return gzip.compress(bytes(100 * 2**20), compresslevel=1)


def _serve_gzip(handler: _Handler) -> None:
    handler.answer(200, gzip.compress(_photo(1, 320, 240)), Content_Encoding="gzip")


def _serve_broken_gzip(handler: _Handler) -> None:
    body = gzip.compress(_photo(1, 320, 240))
    handler.answer(200, body[: len(body) // 2], Content_Encoding="gzip")


def _serve_encoding(handler: _Handler, name: str) -> None:
    handler.answer(200, b"whatever", Content_Encoding=name)


def _serve_garbage(handler: _Handler) -> None:
    handler.wfile.write(b"this is not HTTP\r\n\r\n")
    handler.close_connection = True


def _serve_drop_reused(handler: _Handler) -> None:
    """Answers, then closes the kept connection when the next request comes in on it, unanswered."""
    if getattr(handler, "served_before", False):
        handler.close_connection = True
        return
    handler.served_before = True  # type: ignore[attr-defined]
    handler.answer(200, _photo(1, 320, 240))


def _serve_robots(handler: _Handler) -> None:
    """A photo whose X-Robots-Tag is `tag`."""
    handler.answer(200, _photo(1, 320, 240), X_Robots_Tag=handler.query["tag"])


def _constant(body: bytes, content_type: str) -> Any:
    return lambda handler: handler.answer(200, body, content_type)


_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
_ROUTES: tuple[tuple[str, Any], ...] = (
    (r"/photo/(\d+)\.jpg", _serve_photo),
    (r"/private/(\d+)\.jpg", _serve_private),
    (r"/kept/(\d+)\.png", _serve_kept),
    (r"/status/(\d+)", _serve_status),
    (r"/flaky/(\d+)", _serve_flaky),
    (r"/retry-after/(.+)", _serve_retry_after),
    (r"/slow", _serve_slow),
    (r"/slow-headers", _serve_slow_headers),
    (r"/hang", _serve_hang),
    (r"/truncated\.jpg", _serve_truncated),
    (r"/redirect/(\d+)", _serve_redirect),
    (r"/redirect-loop", lambda handler: handler.answer(302, b"", Location="/redirect-loop")),
    (r"/redirect-to", _serve_redirect_to),
    (r"/text", _constant(b"only words", "text/plain")),
    (r"/html", _constant(b"<!doctype html><title>no</title>", "text/html")),
    (r"/empty", _constant(b"", "image/jpeg")),
    (r"/svg", _constant(_SVG, "image/svg+xml")),
    (r"/wrong-type\.jpg", lambda handler: handler.answer(200, _photo(1, 320, 240), "text/plain")),
    (r"/huge", _serve_huge),
    (r"/endless", _serve_endless),
    (r"/gzip", _serve_gzip),
    (r"/gzip-bomb", _serve_gzip_bomb),
    (r"/broken-gzip", _serve_broken_gzip),
    (r"/encoding/(\w+)", _serve_encoding),
    (r"/robots", _serve_robots),
    (r"/robots-304", lambda handler: handler.start(304, "image/png", None, keep=True, X_Robots_Tag="noai")),
    (r"/garbage", _serve_garbage),
    (r"/drop-reused", _serve_drop_reused),
)


def main() -> None:
    """Serves on a fixed port until interrupted, to try things by hand."""
    with ImageServer(port=8765) as server:
        print(server.url("/photo/1.jpg"))
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
