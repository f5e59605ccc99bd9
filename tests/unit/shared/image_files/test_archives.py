import gzip
import io
import tarfile
import zipfile

import pytest

from shared.image_files.archives import HEAD_BYTES, archive_name
from tests.sample_files import samples


def zipped() -> bytes:
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (zipped(), "a zip archive"),
        (tarfile.TarInfo("a").tobuf(), "a tar archive"),
        (gzip.compress(b"x", mtime=0), "a gzip file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        (b"\x20\x7f-lh5-", "an LHA archive"),
        (bytes(32_769) + b"CD001", "an ISO 9660 image"),
        (b"", None),
        (b"<html>", None),
        (bytes(40_000), None),
    ],
)
def test_an_archive_is_told_by_its_first_bytes(data: bytes, name: str | None) -> None:
    assert archive_name(data[:HEAD_BYTES]) == name


def test_no_picture_is_taken_for_an_archive() -> None:
    assert {name: archive_name(data) for name, data in samples().items() if archive_name(data)} == {}
