"""Archives to be read, and how an upload is read."""

import io
import tarfile
import zipfile
from tempfile import SpooledTemporaryFile

from api.archives.reading import archive_kind, read_archive
from api.archives.unpacking import ArchiveLimits, Content, LeftOut
from tests.sample_files import make_tar

LIMITS = ArchiveLimits(entry_bytes=1000, total_bytes=100_000)
ENTRIES = {"photos/a.jpg": b"first", "photos/b.png": b"second"}


def make_zip(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def make_tar_gz(entries: dict[str, bytes]) -> bytes:
    return make_tar(entries, "w:gz")


def read(
    data: bytes, limits: ArchiveLimits = LIMITS, *, spool_bytes: int = 2**20, left_out: LeftOut | None = None
) -> list[tuple[str, Content]]:
    """Reads an archive out of a file like an upload's: in memory, but on disk over `spool_bytes`."""
    with SpooledTemporaryFile(spool_bytes) as file:
        file.write(data)
        file.seek(0)
        kind = archive_kind(file)
        assert kind is not None
        file.seek(len(data))
        return list(read_archive(file, kind, limits, LeftOut() if left_out is None else left_out))
