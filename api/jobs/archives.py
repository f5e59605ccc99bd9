"""Reading the files of an uploaded zip, tar or tar.gz, within bounds and without trusting a word of it.

Nothing is ever written under an entry's name. Folders, links, devices, dotfiles and `__MACOSX` are skipped;
an archive inside the archive is an entry like any other, so it fails later as a file that is no picture.
"""

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, cast

from shared.errors import InvalidRequest, RequestTooLarge

HEAD_BYTES = 16 * 1024
_PIECE = 64 * 1024
_BLOCK = tarfile.BLOCKSIZE
# A zip's directory and a tar's long-name record are read in one call each: this bounds their memory.
_MAX_READ = 32 * 2**20
# A few flat bitmaps may compress a thousandfold; only an archive that unpacks to more than this is judged.
_RATIO_FLOOR = 32 * 2**20


class ArchiveKind(StrEnum):
    ZIP = "zip"
    TAR = "tar"
    TAR_GZ = "tar.gz"


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """The limits of an archive; `entries` counts skipped ones, `ratio` is bytes unpacked per byte."""

    entry_bytes: int
    total_bytes: int
    entries: int = 100_000
    ratio: int = 100


def archive_kind(head: bytes) -> ArchiveKind | None:
    """Return the kind of archive by a file's first HEAD_BYTES; None for anything that we do not read."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ArchiveKind.ZIP
    if head.startswith(b"\x1f\x8b"):
        try:
            start = zlib.decompressobj(wbits=31).decompress(head, _BLOCK)
        except zlib.error:
            return None
        return ArchiveKind.TAR_GZ if _is_tar(start) else None
    return ArchiveKind.TAR if _is_tar(head[:_BLOCK]) else None


def read_archive(
    file: IO[bytes], kind: ArchiveKind, limits: ArchiveLimits
) -> Iterator[tuple[str, bytes | None]]:
    """Yield (display name, bytes) of each entry, in the archive's order; None for one over `entry_bytes`.

    `file` is seekable and at its end. Raises InvalidRequest for a broken, encrypted or suspicious archive,
    RequestTooLarge for one with too many entries or too many bytes.
    """
    packed = file.tell()
    file.seek(0)
    with _ours():
        yield from (
            _read_zip(file, packed, limits)
            if kind is ArchiveKind.ZIP
            else _read_tar(file, kind, packed, limits)
        )


def display_name(name: str) -> str:
    """Make a file name fit to be shown: printable, `/` between folders, no drive, no `..`, 255 long."""
    printable = "".join(char if char.isprintable() else "�" for char in name.replace("\\", "/"))
    parts = [part for part in printable.split("/") if part not in ("", ".", "..")]
    if len(parts) > 1 and parts[0].endswith(":"):
        parts = parts[1:]
    return "/".join(parts)[-255:]


class _Meter:
    """A counter of the bytes that an archive unpacks to."""

    def __init__(self, packed: int, limits: ArchiveLimits) -> None:
        self._packed = packed
        self._limits = limits
        self._entries = 0
        self._unpacked = 0

    def entry(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise RequestTooLarge(f"the archive has more than {self._limits.entries:,} entries")

    def bytes(self, count: int) -> None:
        self._unpacked += count
        if self._unpacked > self._limits.total_bytes:
            raise RequestTooLarge(f"the archive unpacks to more than {self._limits.total_bytes:,} bytes")
        if self._unpacked > max(_RATIO_FLOOR, self._packed * self._limits.ratio):
            raise InvalidRequest(f"the archive unpacks to over {self._limits.ratio} times its size")


def _read_zip(file: IO[bytes], packed: int, limits: ArchiveLimits) -> Iterator[tuple[str, bytes | None]]:
    meter = _Meter(packed, limits)
    with zipfile.ZipFile(cast("IO[bytes]", _BoundedReads(file))) as archive:
        for info in archive.infolist():
            meter.entry()
            mode = info.external_attr >> 16
            if info.is_dir() or _hidden(info.filename) or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
                continue
            if info.flag_bits & 0x1:
                raise InvalidRequest("the archive is encrypted")
            # The other methods unpack a block without any bound on what comes out of it.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InvalidRequest("the archive uses a compression other than deflate")
            if info.file_size > limits.entry_bytes:
                yield display_name(info.filename), None
                continue
            with archive.open(info) as entry:
                yield display_name(info.filename), _read_entry(entry, limits.entry_bytes, meter)


def _read_entry(entry: IO[bytes], limit: int, meter: _Meter) -> bytes | None:
    data = bytearray()
    while piece := entry.read(_PIECE):
        meter.bytes(len(piece))
        data += piece
        if len(data) > limit:
            return None
    return bytes(data)


def _read_tar(
    file: IO[bytes], kind: ArchiveKind, packed: int, limits: ArchiveLimits
) -> Iterator[tuple[str, bytes | None]]:
    meter = _Meter(packed, limits)
    # Without a mode, gzip would take the file's: a spooled upload says it is open for writing.
    plain = cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb")) if kind is ArchiveKind.TAR_GZ else file
    source = _ForwardReads(plain, meter, max(limits.entry_bytes, _MAX_READ))
    with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r:") as archive:
        for member in archive:
            meter.entry()
            if not member.isreg() or member.issparse() or _hidden(member.name):
                continue
            if member.size > limits.entry_bytes:
                yield display_name(member.name), None
                continue
            entry = archive.extractfile(member)
            data = entry.read() if entry else b""
            if len(data) != member.size:
                raise InvalidRequest("the archive breaks off")
            yield display_name(member.name), data
    # tarfile takes a damaged header, or none, for the end; a real end is a block of zeros.
    if source.last != bytes(_BLOCK):
        raise InvalidRequest("the archive is damaged or breaks off")


class _BoundedReads:
    """A file whose single reads are bounded."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_READ:
            raise InvalidRequest("the archive's directory is too large")
        return self._file.read(min(size, _MAX_READ) if size >= 0 else _MAX_READ)


class _ForwardReads:
    """A file read from front to end, every byte of it metered, also those that are skipped.

    `last` is what the last read gave.
    """

    def __init__(self, file: IO[bytes], meter: _Meter, max_read: int) -> None:
        self._file = file
        self._meter = meter
        self._max_read = max_read
        self._furthest = 0
        self.last = b""

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._max_read:
            raise InvalidRequest("the archive is damaged")
        data = bytearray()
        while len(data) < size and (piece := self._file.read(min(_PIECE, size - len(data)))):
            data += piece
            self._count()
        self.last = bytes(data)
        return self.last

    def seek(self, position: int) -> int:
        # tarfile steps back by at most one byte; a header that asks for more would have it read in circles.
        if position < self.tell() - _BLOCK:
            raise InvalidRequest("the archive is damaged")
        if position < self.tell():
            return self._file.seek(position)
        while self.tell() < position and self._file.read(min(_PIECE, position - self.tell())):
            self._count()
        return self.tell()

    def _count(self) -> None:
        position = self.tell()
        if position > self._furthest:
            self._meter.bytes(position - self._furthest)
            self._furthest = position


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def _hidden(name: str) -> bool:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return not parts or any(part.startswith(".") or part == "__MACOSX" for part in parts)


@contextmanager
def _ours() -> Iterator[None]:
    """Turn what zipfile, tarfile and gzip raise on damaged input into InvalidRequest."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError, ValueError) as error:
        raise InvalidRequest("the archive is damaged") from error
    except (NotImplementedError, RuntimeError) as error:
        raise InvalidRequest("the archive uses a feature that is not supported") from error
