"""Undoing what a Content-Encoding header says, where it is true: some name what encodes nothing."""

import zlib
from collections.abc import Iterator

from shared.errors import ItemError

_STEP_BYTES = 64 * 1024
_GZIP, _DEFLATE = frozenset({"gzip", "x-gzip"}), "deflate"
# Encodings that change the content and that no library here undoes. Others, such as aws-chunked, do not.
_UNREAD = frozenset({"br", "zstd", "compress", "x-compress", "exi", "pack200-gzip", "dcb", "dcz"})
_MAX_LAYERS = 3
_GZIP_START = b"\x1f\x8b"


class ContentDecoder:
    """A decoder of the content under a Content-Encoding header.

    Raises ItemError `not_an_image` for one that is not read.
    """

    def __init__(self, header: str) -> None:
        tokens = [token.strip().lower() for token in header.split(",")]
        if unread := [token for token in tokens if token in _UNREAD]:
            raise ItemError("not_an_image", f"the answer's Content-Encoding is {unread[0]}, not asked for")
        known = [token for token in tokens if token in _GZIP or token == _DEFLATE]
        if len(known) > _MAX_LAYERS:
            raise ItemError(
                "not_an_image", f"the answer's Content-Encoding has more than {_MAX_LAYERS} layers"
            )
        self._layers = [_Gzip() if token in _GZIP else _Deflate() for token in reversed(known)]

    @property
    def changes_length(self) -> bool:
        return bool(self._layers)

    def decoded(self, part: bytes) -> Iterator[bytes]:
        """Yield what the next part adds, in steps small enough to count a bomb as it unpacks.

        Raises ItemError `connect_error` for what is damaged.
        """
        return self._through(0, part)

    def end(self) -> None:
        """Raise ItemError `connect_error` if the content broke off."""
        for layer in self._layers:
            layer.end()

    def _through(self, layer: int, part: bytes) -> Iterator[bytes]:
        if layer == len(self._layers):
            yield part
            return
        for step in self._layers[layer].decoded(part):
            yield from self._through(layer + 1, step)


class _Layer:
    """One encoding; content that does not begin as it should was never encoded, and passes as it is."""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: zlib._Decompress | None = None
        self._plain = False

    def decoded(self, part: bytes) -> Iterator[bytes]:
        if self._plain:
            yield part
        elif self._inflate is None:
            self._head += part
            if len(self._head) >= 2:
                yield from self._first(self._head)
        else:
            yield from self._inflated(part)

    def end(self) -> None:
        if self._inflate is not None and not self._inflate.eof:
            raise broken_encoding()

    def _first(self, head: bytes) -> Iterator[bytes]:
        raise NotImplementedError

    def _inflated(self, part: bytes) -> Iterator[bytes]:
        inflate = self._inflate
        assert inflate is not None  # noqa: S101 - set by _first
        while part:
            if inflate.eof:
                if not part.startswith(_GZIP_START):
                    return  # padding
                inflate = self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                step = inflate.decompress(part, _STEP_BYTES)
            except zlib.error:
                raise broken_encoding() from None
            if step:
                yield step
            part = inflate.unused_data if inflate.eof else inflate.unconsumed_tail


class _Gzip(_Layer):
    def _first(self, head: bytes) -> Iterator[bytes]:
        if head.startswith(_GZIP_START):
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            yield from self._inflated(head)
        else:
            self._plain = True
            yield head


class _Deflate(_Layer):
    """zlib's format, as the standard says, or bare deflate, as some send."""

    def _first(self, head: bytes) -> Iterator[bytes]:
        wrapped = head[0] & 0x0F == 8 and int.from_bytes(head[:2]) % 31 == 0
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        steps = self._inflated(head)
        try:
            first = next(steps, b"")
        except ItemError:
            if wrapped:
                raise
            self._plain, first = True, head
        yield first
        yield from steps


def broken_encoding() -> ItemError:
    """Return the error of content that is not what its Content-Encoding says."""
    return ItemError("connect_error", "the answer is not whole gzip or deflate, as its header says")
