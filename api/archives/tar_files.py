"""Reading the pictures of a tar, packed with gzip or not, or of several one after another.

Only headers are left to tarfile, block by block. Its reader of whole archives stops at the first of several,
steps back, and needs minutes, or more memory than there is, for headers that were made for it.
"""

import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Protocol

from api.archives.unpacking import PIECE, Content, Unpacking
from image_search.models.image_files import HEAD_BYTES
from shared.errors import InvalidRequest
from shared.validation import is_unicode

_BLOCK = tarfile.BLOCKSIZE
_MAX_HEADER = 2**20  # of a long name, or of an entry's attributes
_START_BYTES = 16 * 1024  # of which the first header is looked for
_MAX_HEADERS = 6  # before one entry
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_FOLDERS = (tarfile.DIRTYPE, b"D")  # GNU tar's, with the folder's list of names
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WITHOUT_DATA = (*_LINKS, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_ISO_8859 = re.compile(rb"ISO-IR 8859 (1[013-6]?|[2-9]) \d{4}")
_CHARSET, _SPARSE = b"hdrcharset", b"GNU.sparse."
_BEHIND = "What stands behind the archive's end was not read."
_NO_END = "The archive has no end mark: if it was cut off, files are missing."

Pax = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of the archive; `size` is what follows of it, `left_out` says why it is not to be read."""

    name: str
    size: int
    left_out: str = ""
    folder: bool = False


def begins_with_tar(head: bytes) -> bool:
    """Return whether the first block that is not all zeros is a tar's header."""
    blocks = (head[start : start + _BLOCK] for start in range(0, len(head), _BLOCK))
    first = next((block for block in blocks if block.strip(b"\0")), b"")
    return _header(first) is not None


def begins_with_tar_gz(head: bytes) -> bool:
    """Return whether a file unpacks to a tar, by its first bytes."""
    if not head.startswith(b"\x1f\x8b"):
        return False
    members, start = _Gunzip(io.BytesIO(head)), b""
    with suppress(EOFError, zlib.error):
        while len(start) < _START_BYTES and (piece := members.read(_BLOCK)):
            start += piece
    return begins_with_tar(start)


def read_tar(file: IO[bytes], unpacking: Unpacking, *, gzipped: bool) -> Iterator[tuple[str, Content]]:
    """Yield as `read_archive` does."""
    source = _Source(_Gunzip(file) if gzipped else file, unpacking)
    for entry in _entries(source, unpacking):
        unpacking.entry()
        # In other encodings than UTF-8 a backslash's byte may be half of a character.
        path = entry.name.replace("\\", "/") if is_unicode(entry.name) else entry.name
        rest = entry.size
        if entry.left_out:
            unpacking.left_out.files.add(path, entry.left_out)
        elif not (entry.folder or (path.endswith("/") and not rest) or unpacking.skips(path)):
            head = source.take(min(rest, HEAD_BYTES))
            rest -= len(head)
            if not unpacking.skips_content(path, head):
                fits = entry.size <= unpacking.limits.entry_bytes
                yield entry.name, head + source.take(rest) if fits else unpacking.limits.too_large
                rest = 0 if fits else rest
        source.skip(rest)
        source.read(-entry.size % _BLOCK)  # the last entry's may be missing


def _entries(source: "_Source", unpacking: Unpacking) -> Iterator[_Entry]:
    """Yield each entry, whose content is to be taken before the next."""
    charset, name = b"", b""
    own: Pax = {}
    headers, expected = 0, False  # of the next entry, which then has to come
    ended = True  # by a block of zeros, and not begun again
    while block := source.read(_BLOCK):
        if not block.strip(b"\0") and not expected:
            charset, ended = b"", True
            continue
        if (header := _header(block)) is None:
            if not ended:
                raise InvalidRequest("The archive is damaged or breaks off.")
            unpacking.left_out.remarks.append(_BEHIND)
            return
        ended = False
        if header.type in (*_PAX_TYPES, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            headers += 1
            if headers > _MAX_HEADERS or not 0 <= header.size <= _MAX_HEADER:
                raise InvalidRequest("The archive is damaged.")
            body = source.take(header.size)
            source.skip(-header.size % _BLOCK)
            expected = expected or header.type != tarfile.XGLTYPE
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = body.partition(b"\0")[0]
            elif header.type == tarfile.XGLTYPE:
                charset = _pax(body).get(_CHARSET, charset)
            elif header.type in _PAX_TYPES:
                own = {**own, **_pax(body)}
            continue
        yield _entry(header, block, name, {_CHARSET: charset, **own}, source)
        own, name, headers, expected = {}, b"", 0, False
    if expected:
        raise InvalidRequest("The archive breaks off.")
    if not ended:
        unpacking.left_out.remarks.append(_NO_END)


def _entry(header: tarfile.TarInfo, block: bytes, name: bytes, pax: Pax, source: "_Source") -> _Entry:
    size = int(pax.get(b"size") or header.size)
    if size < 0:
        raise InvalidRequest("The archive is damaged.")
    text = _name(block, name, pax)
    if header.type == tarfile.GNUTYPE_SPARSE or _SPARSE in pax:
        extended = header.type == tarfile.GNUTYPE_SPARSE and block[482]
        while extended:
            extended = source.take(_BLOCK)[504]
        return _Entry(text, size, "sparse")
    if header.type in _WITHOUT_DATA:
        size = 0
    if header.type in _FOLDERS or (header.type == tarfile.AREGTYPE and text.endswith("/")):
        return _Entry(text, size, folder=True)
    if header.type in _LINKS:
        return _Entry(text, size, "linked")
    return _Entry(text, size, "" if header.type in _REGULAR else "special")


def _name(block: bytes, long_name: bytes, pax: Pax) -> str:
    raw = pax.get(b"path") or long_name
    if not raw:
        raw = block[:100].partition(b"\0")[0]
        prefix = block[345:500].partition(b"\0")[0]
        if prefix and block[257:263] == b"ustar\0":  # the others have something else there
            raw = prefix + b"/" + raw
    elif pax.get(b"path") and (charset := _ISO_8859.fullmatch(pax[_CHARSET])):
        return raw.decode(f"iso8859-{int(charset[1])}", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")


def _pax(body: bytes) -> Pax:
    """Return the attributes that matter; each is `LENGTH KEY=VALUE` and a line end, all of it counted."""
    records = {}
    start = 0
    while start < len(body) and body[start]:
        space = body.index(b" ", start, start + 20)
        end = start + int(body[start:space])
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end <= space or not equals or body[end - 1 : end] != b"\n":
            raise InvalidRequest("The archive is damaged.")
        if key in (_CHARSET, b"path", b"size"):
            records[key] = value
        elif key.startswith(_SPARSE):
            records[_SPARSE] = value
        start = end
    return records


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return None


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Source:
    """A file read from front to end, every byte of it metered, also those that are skipped."""

    def __init__(self, file: _Readable, unpacking: Unpacking) -> None:
        self._file = file
        self._unpacking = unpacking

    def read(self, size: int) -> bytes:
        return b"".join(self._pieces(size))

    def take(self, size: int) -> bytes:
        """Read so many bytes. Raises InvalidRequest where there are fewer."""
        data = self.read(size)
        if len(data) < size:
            raise InvalidRequest("The archive breaks off.")
        return data

    def skip(self, size: int) -> None:
        """Go on by so many bytes. Raises InvalidRequest where there are fewer."""
        if sum(len(piece) for piece in self._pieces(size)) < size:
            raise InvalidRequest("The archive breaks off.")

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size > 0 and (piece := self._file.read(min(PIECE, size))):
            self._unpacking.unpacked(len(piece))
            size -= len(piece)
            yield piece


class _Gunzip:
    """The content of a file's gzip members, one after another, each checked by its checksum.

    What follows the last member is one block that is no tar's: it is taken for what stands behind the end.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packed = b""
        self._member = zlib.decompressobj(wbits=31)
        self._followed = False

    def read(self, size: int) -> bytes:
        """Return some bytes, at most `size`; none at the end. Raises EOFError where a member breaks off."""
        while not self._member.eof or self._next_member():
            packed = self._packed or self._file.read(PIECE)
            data = self._member.decompress(packed, size)
            self._packed = self._member.unconsumed_tail or self._member.unused_data
            if data:
                return data
            if not packed and not self._member.eof:
                raise EOFError
        if self._packed and not self._followed:
            self._followed = True
            return b"\1"
        return b""

    def _next_member(self) -> bool:
        packed = self._packed.lstrip(b"\0")
        while not packed and (piece := self._file.read(PIECE)):
            packed = piece.lstrip(b"\0")
        self._packed = packed + self._file.read(1)
        if not self._packed.startswith(b"\x1f\x8b"):
            return False
        self._member = zlib.decompressobj(wbits=31)
        return True
