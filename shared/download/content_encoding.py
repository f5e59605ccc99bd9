"""Undoing what a Content-Encoding header says, where it is true: many name what encodes nothing."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain

from shared.errors import ItemError

_GZIP, _DEFLATE = frozenset({"gzip", "x-gzip"}), "deflate"
# Encodings that change the content and that nothing here undoes. Others, such as aws-chunked, do not.
_UNREAD = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})
_MAX_LAYERS = 3
_MAX_MEMBERS = 10_000  # of gzip: each is short work, but what follows it is copied
_STEP_BYTES = 64 * 1024
_GZIP_START = b"\x1f\x8b"
_TELLING_BYTES = 512  # of deflate, which has no start of its own


def encodings(header: str) -> list[str]:
    """Return what a header says was done to the content, the first to undo first.

    Raises ItemError `not_an_image` for what is not read.
    """
    tokens = [token.strip().lower() for token in header.split(",")]
    if unread := [token for token in tokens if token in _UNREAD]:
        raise ItemError("not_an_image", f"the answer's Content-Encoding is {unread[0]}, not asked for")
    known = [token for token in reversed(tokens) if token in _GZIP or token == _DEFLATE]
    if len(known) > _MAX_LAYERS:
        raise ItemError("not_an_image", f"the answer's Content-Encoding has more than {_MAX_LAYERS} layers")
    return known


def undone(content: bytes, encoded: Sequence[str], max_bytes: int) -> bytes:
    """Return the content without its `encodings`; what does not begin as one should passes as it is.

    Raises ItemError: too_large for more than `max_bytes` at any layer, a final connect_error for what is
    damaged.
    """
    for encoding in encoded:
        if content.startswith(_GZIP_START):
            content = _gunzipped(content, max_bytes)
        elif len(content) > 1 and content[0] & 0x0F == 8 and int.from_bytes(content[:2]) % 31 == 0:
            content = _inflated(content, zlib.MAX_WBITS, max_bytes)
        elif encoding == _DEFLATE:
            content = _bare_inflated(content, max_bytes)
    return content


def _gunzipped(content: bytes, max_bytes: int) -> bytes:
    """Undo gzip of one or several members; what follows the last is padding."""
    rest, found = memoryview(content), bytearray()
    for _ in range(_MAX_MEMBERS):
        rest = rest[_inflate(rest, zlib.MAX_WBITS | 16, found, max_bytes) :]
        if rest[:2] != _GZIP_START:
            return bytes(found)
    raise _damaged()


def _inflated(content: bytes, format_bits: int, max_bytes: int) -> bytes:
    found = bytearray()
    _inflate(memoryview(content), format_bits, found, max_bytes)
    return bytes(found)


def _bare_inflated(content: bytes, max_bytes: int) -> bytes:
    """Undo deflate without zlib's frame, as some send it, unless the content is plain."""
    try:
        return _inflated(content, -zlib.MAX_WBITS, max_bytes)
    except ItemError as error:
        if error.code == "too_large":
            raise
        return content


def _inflate(content: memoryview, format_bits: int, found: bytearray, max_bytes: int) -> int:
    """Append what one stream unpacks to, in steps small enough to count a bomb; return its length."""
    inflate = zlib.decompressobj(format_bits)
    for start in range(0, len(content), _STEP_BYTES):
        part: bytes | memoryview = content[start : start + _STEP_BYTES]
        end = start + len(part)
        while part and not inflate.eof:
            try:
                found += inflate.decompress(part, _STEP_BYTES)
            except zlib.error:
                raise _damaged() from None
            if len(found) > max_bytes:
                raise ItemError.too_large(max_bytes)
            part = inflate.unconsumed_tail
        if inflate.eof:
            return end - len(inflate.unused_data)
    raise _damaged()


class Undoing:
    """Undoes the `encodings` of content that comes in parts, by the rules of `undone`.

    Raises as that does, for more than `max_bytes` at any layer too_large.
    """

    def __init__(self, encoded: Sequence[str], max_bytes: int) -> None:
        self._layers = [_Layer(encoding, max_bytes) for encoding in encoded]

    def parts(self, part: bytes) -> Iterator[bytes]:
        """Yield what a further part of the content stands for, in small pieces."""
        return self._through(iter([part]), 0)

    def rest(self) -> Iterator[bytes]:
        """Yield what is left once the content has ended."""
        for place, layer in enumerate(self._layers, 1):
            yield from self._through(layer.end(), place)

    def _through(self, parts: Iterator[bytes], place: int) -> Iterator[bytes]:
        for layer in self._layers[place:]:
            parts = chain.from_iterable(map(layer.undo, parts))
        return parts


class _Layer:
    """One encoding of content that comes in parts."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._encoding = encoding
        self._max_bytes = self._left = max_bytes
        self._held = b""  # too short to tell what it begins
        self._format_bits: int | None = None  # of zlib; 0 for what is not encoded
        self._inflate: zlib._Decompress | None = None
        self._members = 0

    def undo(self, part: bytes) -> Iterator[bytes]:
        """Yield what a further part stands for."""
        self._held += part
        least = _TELLING_BYTES if self._encoding == _DEFLATE else len(_GZIP_START)
        if self._format_bits is None and len(self._held) >= least:
            self._format_bits = self._format_of(self._held)
        if self._format_bits is not None:
            yield from self._undone(self._format_bits)

    def end(self) -> Iterator[bytes]:
        """Yield what is left. Raises ItemError where the content broke off."""
        if self._format_bits is None:
            yield undone(self._held, [self._encoding], self._max_bytes)
        if self._inflate is not None:
            raise _damaged()

    def _format_of(self, start: bytes) -> int:
        if start.startswith(_GZIP_START):
            return zlib.MAX_WBITS | 16
        if len(start) > 1 and start[0] & 0x0F == 8 and int.from_bytes(start[:2]) % 31 == 0:
            return zlib.MAX_WBITS
        if self._encoding == _DEFLATE:
            with suppress(zlib.error):
                zlib.decompressobj(-zlib.MAX_WBITS).decompress(start, _STEP_BYTES)
                return -zlib.MAX_WBITS
        return 0

    def _undone(self, format_bits: int) -> Iterator[bytes]:
        part, self._held = self._held, b""
        if not format_bits:
            yield part
            return
        while part:
            if self._inflate is None:
                if self._members and not (format_bits > zlib.MAX_WBITS and part.startswith(_GZIP_START)):
                    # What follows is padding, unless it is half of a next member's start.
                    self._held = part if part == _GZIP_START[:1] else b""
                    return
                self._inflate = zlib.decompressobj(format_bits)
                self._members += 1
            try:
                found = self._inflate.decompress(part, _STEP_BYTES)
            except zlib.error:
                raise _damaged() from None
            self._left -= len(found)
            if self._left < 0:
                raise ItemError("too_large", f"it unpacks to more than {self._max_bytes:,} bytes")
            yield found
            part = self._inflate.unconsumed_tail
            if self._inflate.eof:
                part, self._inflate = self._inflate.unused_data, None
                if self._members == _MAX_MEMBERS:
                    raise _damaged()


def _damaged() -> ItemError:
    detail = "the content is damaged: not whole gzip or deflate, as its Content-Encoding says"
    return ItemError("connect_error", detail, final=True)
