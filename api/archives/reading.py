"""Reading the pictures of an uploaded zip, tar or tar.gz, within bounds and without trusting a word of it.

Nothing is ever written under an entry's name. Folders are passed over; links, devices, hidden files and what
is no picture are left out and counted, an archive inside the archive, too.
"""

import zipfile
from collections.abc import Iterator
from enum import StrEnum
from typing import IO

from api.archives.tar_files import begins_with_tar, begins_with_tar_gz, read_tar
from api.archives.unpacking import ArchiveLimits, Content, LeftOut, Unpacking, ours
from api.archives.zip_files import read_zip
from image_search.models.image_files import is_image
from shared.errors import InvalidRequest

_HEAD_BYTES = 16 * 1024
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK00PK")


class ArchiveKind(StrEnum):
    ZIP = "zip"
    TAR = "tar"
    TAR_GZ = "tar.gz"


def archive_kind(file: IO[bytes]) -> ArchiveKind | None:
    """Return the kind of archive by a seekable file's content; None for anything that we do not read.

    `file` is at its start, and is left anywhere.
    """
    head = file.read(_HEAD_BYTES)
    if head.startswith(_ZIP_STARTS):
        return ArchiveKind.ZIP
    if begins_with_tar_gz(head):
        return ArchiveKind.TAR_GZ
    if begins_with_tar(head):
        return ArchiveKind.TAR
    # Anything may stand before a zip, such as the program that unpacks it.
    return ArchiveKind.ZIP if not is_image(head) and zipfile.is_zipfile(file) else None


def read_archive(
    file: IO[bytes], kind: ArchiveKind, limits: ArchiveLimits, left_out: LeftOut
) -> Iterator[tuple[str, Content]]:
    """Yield the name and content of each picture, in the archive's order.

    A name is the archive's own, with each byte that is no UTF-8 as a lone surrogate: file_names.py makes it
    fit to be shown. `file` is seekable and at its end. Raises InvalidRequest for a broken or suspicious
    archive, one of which no picture can be read or that has none, RequestTooLarge for one with too many
    entries or bytes.
    """
    unpacking = Unpacking(file.tell(), limits, left_out)
    file.seek(0)
    read = 0
    failed = ""
    with ours():
        entries = (
            read_zip(file, unpacking)
            if kind is ArchiveKind.ZIP
            else read_tar(file, unpacking, gzipped=kind is ArchiveKind.TAR_GZ)
        )
        for name, content in entries:
            if isinstance(content, bytes) or content == limits.too_large:
                read += 1
            else:
                failed = failed or content.partition(": ")[2]
            yield name, content
    if not read and failed:
        raise InvalidRequest(f"No picture of the archive can be read. {failed}")
    if not read:
        has = f"it has {left_out.files}" if len(left_out.files) else "it is empty"
        raise InvalidRequest(f"The archive has no picture: {has}.")
