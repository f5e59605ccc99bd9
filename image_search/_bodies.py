"""The bodies that the client streams: lines of URLs, forms of files, one file. Memory stays flat."""

import json
import mimetypes
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile

MAX_BATCH_FILES = 1000
MAX_BATCH_BYTES = 2**30
PIECE_BYTES = 64 * 1024
PIECE_SECONDS = 1.0
_SPOOL_BYTES = 2**20


class Lines:
    """NDJSON of URLs and items, which may come from an iterator that can be read only once.

    What was read is kept in a temporary file, so that it can be sent again. `begun` is whether anything was
    asked for, `whole` whether the last time the end was.
    """

    def __init__(self, items: Iterable[str | Mapping[str, object]]) -> None:
        self._items = iter(items)
        self._kept = SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - lives as long as this
        self.begun = self.whole = False

    def __call__(self) -> Iterator[bytes]:
        self.begun, self.whole = True, False
        self._kept.seek(0)
        while kept := self._kept.read(PIECE_BYTES):
            yield kept
        for piece in _pieces_of(self._items):
            self._kept.write(piece)
            yield piece
        self.whole = True


def _pieces_of(items: Iterator[str | Mapping[str, object]]) -> Iterator[bytes]:
    """Yield pieces of about PIECE_BYTES, smaller where a slow iterator would keep the server waiting."""
    piece, begun = bytearray(), time.monotonic()
    for item in items:
        piece += json.dumps({"url": item} if isinstance(item, str) else item).encode() + b"\n"
        if len(piece) >= PIECE_BYTES or time.monotonic() - begun > PIECE_SECONDS:
            yield bytes(piece)
            piece, begun = bytearray(), time.monotonic()
    if piece:
        yield bytes(piece)


class Form:
    """A multipart body of files, read when they are sent; `on_sent` is told the bytes of each piece.

    httpx would open every file at once, which can be more than a process may.
    """

    def __init__(
        self, files: Sequence[tuple[Path, str]], fields: Mapping[str, str], on_sent: Callable[[int], None]
    ) -> None:
        self._files = files
        self._fields = fields
        self._on_sent = on_sent
        self._sent = 0
        self._boundary = secrets.token_hex(16)

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    def __call__(self) -> Iterator[bytes]:
        self._tell(-self._sent)  # it is sent again
        mark = f"--{self._boundary}\r\nContent-Disposition: form-data"
        for name, value in self._fields.items():
            yield f'{mark}; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for path, name in self._files:
            shown = "".join(f"%{ord(char):02X}" if char in '"\r\n\\' else char for char in name)
            head = f'{mark}; name="files"; filename="{shown}"\r\nContent-Type: {media_type(name)}\r\n\r\n'
            yield head.encode(errors="replace")
            for piece in pieces(path):
                yield piece
                self._tell(len(piece))
            yield b"\r\n"
        yield f"--{self._boundary}--\r\n".encode()

    def _tell(self, count: int) -> None:
        self._sent += count
        self._on_sent(count)


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def batches(files: Iterable[tuple[Path, str]]) -> Iterator[list[tuple[Path, str]]]:
    """Group files up to MAX_BATCH_FILES and MAX_BATCH_BYTES; an archive goes alone, as it has to."""
    batch: list[tuple[Path, str]] = []
    size = 0
    for path, name in files:
        alone = is_archive(path)
        length = path.stat().st_size
        if batch and (alone or len(batch) == MAX_BATCH_FILES or size + length > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        if alone:
            yield [(path, name)]
            continue
        batch.append((path, name))
        size += length
    if batch:
        yield batch


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
