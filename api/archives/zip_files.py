"""Reading the pictures of a zip."""

import stat
import struct
import zipfile
from collections.abc import Iterator
from typing import IO, cast
from zlib import crc32
from zlib import error as ZlibError  # noqa: N812 - what else would an error be called

from api.archives.file_names import decoded_names
from api.archives.unpacking import PIECE, Content, Unpacking
from image_search.models.image_files import HEAD_BYTES
from shared.errors import InvalidRequest

# A zip's directory is read in one call: this bounds its memory.
_MAX_READ = 32 * 2**20
_END = struct.Struct("<4s4H2LH")
_NOT_HERE = 0xFFFF  # the number is in the directory's large form
_UNICODE_PATH = 0x7075
_DOS_FOLDER = 0x10


def read_zip(file: IO[bytes], unpacking: Unpacking) -> Iterator[tuple[str, Content]]:
    """Yield as `read_archive` does."""
    _check_end(file, unpacking)
    with zipfile.ZipFile(cast("IO[bytes]", _BoundedReads(file, unpacking))) as archive:
        entries = archive.infolist()
        _check_start(file, min((info.header_offset for info in entries), default=0))
        for info, name in zip(entries, decoded_names([_name(info) for info in entries]), strict=True):
            unpacking.entry()
            path = name.replace("\\", "/")
            mode = stat.S_IFMT(info.external_attr >> 16)
            if path.endswith("/") or (info.external_attr & _DOS_FOLDER and not info.file_size):
                continue
            if mode and mode != stat.S_IFREG:
                unpacking.left_out.files.add(path, "linked" if mode == stat.S_IFLNK else "special")
                continue
            if unpacking.skips(path):
                continue
            content = _content(archive, info, path, unpacking)
            if content is not None:
                yield name, content


def _content(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str, unpacking: Unpacking
) -> Content | None:
    """Read an entry; None of what is no picture. One that cannot be read costs itself alone."""
    if info.flag_bits & 0x1:
        return "unsupported_format: The file is encrypted in its archive."
    # The other methods unpack a block without any bound on what comes out of it.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "unsupported_format: The file is compressed by another method than deflate in its archive."
    try:
        with archive.open(info) as entry:
            head = entry.read(HEAD_BYTES)
            if unpacking.skips_content(path, head):
                return None
            fits = info.file_size <= unpacking.limits.entry_bytes
            return _read_entry(head, entry, unpacking) if fits else unpacking.limits.too_large
    except (zipfile.BadZipFile, ZlibError, EOFError):
        return "corrupt_image: The file is damaged in its archive."


def _read_entry(head: bytes, entry: IO[bytes], unpacking: Unpacking) -> Content:
    data = bytearray(head)
    unpacking.unpacked(len(head))
    while piece := entry.read(PIECE):
        unpacking.unpacked(len(piece))
        data += piece
        if len(data) > unpacking.limits.entry_bytes:
            return unpacking.limits.too_large
    return bytes(data)


def _name(info: zipfile.ZipInfo) -> str:
    """Return an entry's name: the field for it in Unicode where there is one, else its bytes as UTF-8."""
    if info.flag_bits & 0x800:
        return info.orig_filename
    raw = info.orig_filename.encode("cp437")  # as zipfile decoded it: every byte is a character there
    return (_unicode_path(info.extra, raw) or raw).decode("utf-8", "surrogateescape")


def _unicode_path(extra: bytes, raw: bytes) -> bytes | None:
    """Return the name in Info-ZIP's field for it; None where it is of another name: a tool changed that."""
    start = 0
    while start + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, start)
        body, start = extra[start + 4 : start + 4 + size], start + 4 + size
        if kind == _UNICODE_PATH and len(body) > 5 and body[0] == 1:
            (checksum,) = struct.unpack_from("<L", body, 1)
            if checksum == crc32(raw):
                return body[5:]
    return None


def _check_end(file: IO[bytes], unpacking: Unpacking) -> None:
    """Refuse a part of a split zip, and remark on what stands behind the zip's end."""
    size = file.seek(0, 2)
    start = max(0, size - _END.size - 0xFFFF)
    file.seek(start)
    tail = file.read(_END.size + 0xFFFF)
    position = tail.rfind(b"PK\x05\x06")
    if position < 0 or position + _END.size > len(tail):
        raise InvalidRequest("The archive breaks off, or is one part of a split one.")
    _, disk, first_disk, here, entries, _, _, comment = _END.unpack_from(tail, position)
    if disk not in (0, _NOT_HERE) or first_disk not in (0, _NOT_HERE) or here != entries:
        raise InvalidRequest("The archive is one part of a split one: join them first.")
    if start + position + _END.size + comment < size:
        unpacking.left_out.remarks.append("What stands behind the archive's end was not read.")


def _check_start(file: IO[bytes], first: int) -> None:
    """Refuse a zip behind another, which its directory does not have; its own entries begin at `first`."""
    file.seek(0)
    if first and file.read(4) == b"PK\x03\x04":
        problem = "The archive begins with files that its directory does not have"
        raise InvalidRequest(f"{problem}: if it is several zips in one, upload each by itself.")


class _BoundedReads:
    """A file whose single reads are bounded, in bytes and in entries of a directory.

    What zipfile makes of an entry takes ten times its bytes.
    """

    def __init__(self, file: IO[bytes], unpacking: Unpacking) -> None:
        self._file = file
        self._unpacking = unpacking
        self.seek = file.seek
        self.tell = file.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_READ:
            raise InvalidRequest("The archive's directory is too large.")
        data = self._file.read(min(size, _MAX_READ) if size >= 0 else _MAX_READ)
        self._unpacking.check_entries(data.count(b"PK\1\2"))
        return data
