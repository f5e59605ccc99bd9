"""The bodies that the client streams: lines of URLs, forms of files, one file. Memory stays flat."""

import io
import json
import mimetypes
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, NamedTuple, cast

from image_search.errors import ApiError, InvalidSource

MAX_BATCH_FILES = 1000
MAX_BATCH_BYTES = 2**30
MAX_WHOLE_BYTES = 64 * 2**20
PIECE_BYTES = 64 * 1024
# How a table begins: JSON, Parquet, or a line of names, which has commas or the like before any URL's `:`.
_TABLE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:[\[{]|PAR1|[^#\r\n:,;\t][^\r\n:,;\t]*[,;\t])")
PIECE_SECONDS = 1.0
_SPOOL_BYTES = 2**20
_IN_HEADERS = str.maketrans({'"': "%22", "\\": "%5C", "\r": "\ufffd", "\n": "\ufffd"})
_OF_CONTENT = frozenset({413, 415, 422})
_OF_FILES = frozenset(
    {"files", "table", "url_column", "key_column", "columns", "skip_columns", "number_columns"}
)
# That some of these are not read is the server's to say, of that one file.
_ARCHIVE_SUFFIXES = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar",
)  # fmt: skip
_LIST_TYPES = {
    ".txt": "text/plain", ".csv": "text/csv", ".tsv": "text/tab-separated-values",
    ".tab": "text/tab-separated-values", ".json": "application/json", ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl", ".parquet": "application/vnd.apache.parquet",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xls": "application/vnd.ms-excel", ".ods": "application/vnd.oasis.opendocument.spreadsheet",
}  # fmt: skip


class LocalFile(NamedTuple):
    """A file to send, the name to show it by, and the size that it had when it was found."""

    path: Path
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Unsent:
    """A file that is in no job: it was unreadable, gone, changed while files were sent, or refused.

    Attributes:
        path: where it is, or was.
        source: what it would be called on the server.
        detail: why, for people.
    """

    path: Path
    source: str
    detail: str


class NothingSent(InvalidSource):
    """A form had no file that could be read to its end, so it was broken off: no job is made of it."""


class Stream:
    """A body in pieces, which may come from an iterator that can be read only once.

    What was read is kept in a temporary file, so that it can be sent again. `begun` is whether anything was
    asked for, `whole` whether the last time the end was, `broken_off` whether once only a part was sent, of
    which the server makes a job. `params` are its options.
    """

    unsent: Sequence[Unsent] = ()
    broken_off = False

    def __init__(self, pieces: Iterator[bytes], content_type: str, params: Mapping[str, str]) -> None:
        self.content_type = content_type
        self.params = params
        self._pieces = pieces
        self._kept = SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - lives as long as this
        self.begun = self.whole = False

    def __call__(self) -> Iterator[bytes]:
        self.broken_off |= self.begun and not self.whole
        self.begun, self.whole = True, False
        self._kept.seek(0)
        while kept := self._kept.read(PIECE_BYTES):
            yield kept
        for piece in self._pieces:
            self._kept.write(piece)
            yield piece
        self.whole = True


def lines_of(items: Iterable[str | Mapping[str, object]]) -> Iterator[bytes]:
    """Yield NDJSON in pieces of about PIECE_BYTES, smaller where slow items would keep the server waiting."""
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

    A file that cannot be read, or is not as large as when it was found, is left out, and is in `unsent`: so
    each is read whole before its part is begun. One too large for that is alone in its form, which is broken
    off with NothingSent, as a form without any file is. httpx would open every file at once, which can be
    more than a process may. `broken_off` is that of Stream.
    """

    broken_off = False

    def __init__(
        self,
        files: Sequence[LocalFile],
        fields: Mapping[str, str],
        on_sent: Callable[[int], None],
        part: str = "files",
    ) -> None:
        self._files = files
        self._fields = fields
        self._on_sent = on_sent
        self._part = part
        self._sent = 0
        self._whole = False
        self._boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={self._boundary}"
        self.params: Mapping[str, str] = {}
        self.only_file = files[0] if len(files) == 1 else None
        self.unsent: list[Unsent] = []

    def __call__(self) -> Iterator[bytes]:
        self.broken_off |= self._sent > 0 and not self._whole and self.only_file is None
        self._tell(-self._sent)  # it is sent again
        self._whole = False
        self.unsent = []
        mark = f"--{self._boundary}\r\nContent-Disposition: form-data"
        for name, value in self._fields.items():
            yield f'{mark}; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for file in self._files:
            shown = file.name.translate(_IN_HEADERS)
            head = f'{mark}; name="{self._part}"; filename="{shown}"\r\n'
            before = f"{head}Content-Type: {media_type(file.name)}\r\n\r\n".encode(errors="replace")
            try:
                for piece in _content(file):
                    yield before + piece
                    self._tell(len(piece))
                    before = b""
            except (OSError, InvalidSource) as error:
                detail = error.strerror or str(error) if isinstance(error, OSError) else error.detail
                self.unsent.append(Unsent(file.path, file.name, detail))
            else:
                yield b"\r\n"
        if len(self.unsent) == len(self._files):
            raise NothingSent(f"{self.unsent[0].path}: {self.unsent[0].detail}")
        yield f"--{self._boundary}--\r\n".encode()
        self._whole = True

    def is_to_blame(self, error: ApiError) -> bool:
        """Tell whether a refusal is of the only file's content; then that stands in `unsent`."""
        if self.only_file is None or not is_of_content(error):
            return False
        detail = str(error).removeprefix(f"{self.only_file.path}: ")
        self.unsent = [Unsent(self.only_file.path, self.only_file.name, detail)]
        return True

    def _tell(self, count: int) -> None:
        self._sent += count
        self._on_sent(count)


def _content(file: LocalFile) -> Iterator[bytes]:
    """Yield a file's pieces, one at least: either all that it has or, unless it goes alone, none."""
    if not stat.S_ISREG(file.path.stat().st_mode):  # opening a pipe would wait for who writes to it
        raise InvalidSource("it is no file any more")
    with file.path.open("rb") as opened:
        content = _exactly(opened, file.size)
        yield from content if _goes_alone(file) else [*content]


def _exactly(opened: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while piece := opened.read(min(PIECE_BYTES, left)):
        left -= len(piece)
        if not left:
            break
        yield piece
    if left or opened.read(1):
        raise InvalidSource(f"it changed while files were sent: it had {size:,} bytes when it was found")
    yield piece


def is_of_content(error: ApiError) -> bool:
    """Tell whether the server refuses what a file has, and not the options, which are those of others too."""
    pointers = {one["pointer"].split("/")[1] for one in error.errors if one["pointer"].startswith("/")}
    return error.http_status in _OF_CONTENT and pointers <= _OF_FILES


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def arriving_on_stdin() -> Iterator[bytes]:
    """Yield what comes on standard input as soon as it is there. Raises InvalidSource for a table."""
    if sys.stdin is None:
        raise InvalidSource("-: there is no standard input")
    file = cast("io.BufferedReader", sys.stdin.buffer)
    piece = file.read1(PIECE_BYTES)
    if _TABLE.match(piece):
        raise InvalidSource("-: what comes is no URL a line but a table: write it to a file, and name that")
    while piece:
        yield piece
        piece = file.read1(PIECE_BYTES)


def batches(files: Iterable[LocalFile]) -> Iterator[list[LocalFile]]:
    """Group files up to MAX_BATCH_FILES and MAX_BATCH_BYTES; an archive goes alone, as it has to."""
    batch: list[LocalFile] = []
    size = 0
    for file in files:
        alone = _goes_alone(file)
        if batch and (alone or len(batch) == MAX_BATCH_FILES or size + file.size > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        if alone:
            yield [file]
            continue
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _goes_alone(file: LocalFile) -> bool:
    return is_archive(file.path) or file.size > MAX_WHOLE_BYTES


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(_ARCHIVE_SUFFIXES)


def list_type(name: str) -> str | None:
    """Return the media type of a table or a list of URLs by its name; None for other files.

    A compressed one and a spreadsheet are such, too: the server says what to make of them.
    """
    return _LIST_TYPES.get(Path(name.lower().removesuffix(".gz")).suffix)


def media_type(name: str) -> str:
    return list_type(name) or mimetypes.guess_type(name)[0] or "application/octet-stream"
