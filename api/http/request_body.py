"""Reading request bodies of any length, also those that break off."""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

from werkzeug.wsgi import get_content_length, get_input_stream

from shared.errors import RequestTooLarge

MAX_LINE_BYTES = 256 * 1024
UPLOAD_SETTING = "IMAGE_SEARCH_MAX_UPLOAD_BYTES"  # of the most bytes that a body may have
IDLE_SECONDS = 60.0
_MIN_READ = 1024
_MAX_READ = 64 * 1024
_QUICK_READ_SECONDS = 0.1
_DRAIN_BYTES = 256 * 2**20
_DRAIN_SECONDS = 10.0
_MAYBE_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_HIGH, _LOW = r"u[dD][89abAB][0-9a-fA-F]{2}", r"u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPES = re.compile(rf"\\(?:{_HIGH}\\{_LOW}|({_HIGH}|{_LOW})|.)", re.DOTALL)  # the group: a half alone


class Body:
    """A request's body, read once and counted, with what is wrong with its transfer.

    `truncated` becomes true when the connection ended before the body did. A client that sends nothing for
    IDLE_SECONDS counts as gone, so that it cannot hold a server thread for ever.
    """

    def __init__(self, environ: dict[str, Any], limit: int | None = None, setting: str = "") -> None:
        self._stream = get_input_stream(environ)
        self._expected = get_content_length(environ)
        self._socket = environ.get("gunicorn.socket")
        self.limit_to(limit, setting)
        self._read = 0
        self._ahead = b""
        self.truncated = False
        if self._socket is not None:
            self._socket.settimeout(IDLE_SECONDS)

    def limit_to(self, limit: int | None, setting: str = "") -> None:
        """Let the body have at most `limit` bytes, which `setting` says; what was read counts."""
        self._limit, self._setting = limit, setting

    def peek(self, size: int) -> bytes:
        """Return the first `size` bytes of what is left, fewer only at the end; they are still to be read."""
        while len(self._ahead) < size and (data := self._receive(size - len(self._ahead))):
            self._ahead += data
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; nothing at the end. Raises RequestTooLarge past the limit."""
        if self._ahead:
            self._check(max(self._read, self._expected or 0))
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._receive(size)

    def _receive(self, size: int) -> bytes:
        self._check(max(self._read, self._expected or 0))
        try:
            data = self._stream.read(size)
        except Exception:  # what a broken transfer raises differs from server to server
            if self.truncated:
                return b""
            self.truncated = True
            # Servers keep what had arrived before the break and give it to the next read.
            return self._receive(size)
        self._read += len(data)
        self._check(self._read)
        if not data and self._expected is not None and self._read < self._expected:
            self.truncated = True
        return data

    def read_all(self) -> bytes:
        return b"".join(iter(lambda: self.read(_MAX_READ), b""))

    def drain(self) -> None:
        """Read what the client still sends, within bounds, and drop it.

        An answer before the end of the body would otherwise reach many clients as a connection reset.
        """
        deadline = monotonic() + _DRAIN_SECONDS
        left = _DRAIN_BYTES
        with suppress(Exception):
            if self._socket is not None:
                self._socket.settimeout(_DRAIN_SECONDS)
            while not self.truncated and left > 0 and monotonic() < deadline:
                data = self._stream.read(_MAX_READ)
                left -= len(data) or left

    def _check(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            setting = f" ({self._setting})" if self._setting else ""
            raise RequestTooLarge(f"The request's body is larger than {self._limit:,} bytes{setting}.")


def decoded(data: bytes) -> str:
    """Decode UTF-8, or what is UTF-16 by its mark or its first character; a byte order mark is dropped."""
    return data.decode(_encoding(data)).removeprefix("\ufeff")


def json_text(data: bytes) -> str:
    """Decode JSON as `decoded` does, with an escaped U+FFFD for each escaped half of a character."""
    text = decoded(data)
    return _ESCAPES.sub(_whole, text) if _MAYBE_HALF.search(text) else text


def _whole(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape[1] else escape[0]


def _encoding(head: bytes) -> str:
    if head.startswith(codecs.BOM_UTF16_LE) or (head[:1] != b"\0" and head[1:2] == b"\0"):
        return "utf-16-le"
    if head.startswith(codecs.BOM_UTF16_BE) or (head[:1] == b"\0" and head[1:2] not in (b"", b"\0")):
        return "utf-16-be"
    return "utf-8"


def read_lines(body: Body) -> Iterator[bytes]:
    """Yield the lines of a body, in UTF-8 and without their ends; memory holds one line.

    A line over MAX_LINE_BYTES comes cut, but still longer than that. A last line without an end counts,
    unless the body broke off. A byte order mark at the start is dropped.
    """
    pending, at_start = b"", True
    size = _MIN_READ
    encoding = _encoding(body.peek(2))
    decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace")
    while True:
        started = monotonic()
        data = body.read(size)
        if not data:
            break
        # A server may wait until it has all that is asked for, so only a fast sender is asked for much.
        quick = monotonic() - started < _QUICK_READ_SECONDS
        size = min(size * 2, _MAX_READ) if quick else _MIN_READ
        if decoder:
            data = decoder.decode(data).encode()
        *complete, rest = (pending + data).split(b"\n")
        pending = rest[: MAX_LINE_BYTES + 1]
        for line in complete:
            yield (line.removeprefix(b"\xef\xbb\xbf") if at_start else line)[: MAX_LINE_BYTES + 1]
            at_start = False
    if pending and not body.truncated:
        yield pending.removeprefix(b"\xef\xbb\xbf") if at_start else pending
