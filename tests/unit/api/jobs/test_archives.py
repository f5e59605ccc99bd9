import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from tempfile import SpooledTemporaryFile

import pytest

from api.jobs import archives
from api.jobs.archives import HEAD_BYTES, ArchiveKind, ArchiveLimits, archive_kind, display_name, read_archive
from shared.errors import ImageSearchError, InvalidRequest, RequestTooLarge
from tests.sample_files import make_tar

LIMITS = ArchiveLimits(entry_bytes=1000, total_bytes=100_000)
ENTRIES = {"photos/a.jpg": b"first", "photos/b.png": b"second"}


def make_zip(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def make_tar_gz(entries: dict[str, bytes]) -> bytes:
    return make_tar(entries, "w:gz")


def read(
    data: bytes, limits: ArchiveLimits = LIMITS, *, spool_bytes: int = 2**20
) -> list[tuple[str, bytes | None]]:
    """Reads an archive out of a file like an upload's: in memory, but on disk over `spool_bytes`."""
    kind = archive_kind(data[:HEAD_BYTES])
    assert kind is not None
    with SpooledTemporaryFile(spool_bytes) as file:
        file.write(data)
        return list(read_archive(file, kind, limits))


MAKERS = pytest.mark.parametrize("make", [make_zip, make_tar, make_tar_gz])
Maker = Callable[[dict[str, bytes]], bytes]


@MAKERS
@pytest.mark.parametrize("spool_bytes", [2**20, 1], ids=["in-memory", "on-disk"])
def test_entries_come_in_the_archives_order(make: Maker, spool_bytes: int) -> None:
    assert read(make(ENTRIES), spool_bytes=spool_bytes) == list(ENTRIES.items())


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (make_zip(ENTRIES), ArchiveKind.ZIP),
        (make_zip({}), ArchiveKind.ZIP),
        (make_tar(ENTRIES), ArchiveKind.TAR),
        (make_tar_gz(ENTRIES), ArchiveKind.TAR_GZ),
        (gzip.compress(b"<svg/>"), None),
        (b"\x1f\x8bnot gzip at all", None),
        (b"\xff\xd8\xff\xe0 a JPEG", None),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 1000, None),
        (b"\0" * 2000, None),
        (b"", None),
    ],
    # Not from the bytes: archives have the time in them, and parallel runs must collect the same names.
    ids=["zip", "empty-zip", "tar", "tar-gz", "gzip", "not-gzip", "jpeg", "png", "zeros", "empty"],
)
def test_an_archive_is_known_by_its_content(data: bytes, kind: ArchiveKind | None) -> None:
    assert archive_kind(data[:HEAD_BYTES]) == kind


@MAKERS
def test_hidden_files_and_names_that_climb_out_are_skipped(make: Maker) -> None:
    names = ["ok.jpg", ".DS_Store", "__MACOSX/x.jpg", "a/.hidden/b.jpg", "../../evil.jpg", "./also-ok.jpg"]
    assert [name for name, _ in read(make(dict.fromkeys(names, b"x")))] == ["ok.jpg", "also-ok.jpg"]


def test_links_devices_and_folders_in_a_tar_are_skipped() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)):
            info = tarfile.TarInfo(f"x{number}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert read(buffer.getvalue()) == []


def test_symbolic_links_and_folders_in_a_zip_are_skipped() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("folder/", "")
        archive.writestr("real.jpg", "x")
    assert read(buffer.getvalue()) == [("real.jpg", b"x")]


@MAKERS
def test_an_archive_inside_is_an_entry_like_any_other(make: Maker) -> None:
    inner = make_zip({"a.jpg": b"x"})
    assert read(make({"inner.zip": inner})) == [("inner.zip", inner)]


@MAKERS
def test_an_entry_over_the_limit_comes_without_bytes_and_the_rest_still_comes(make: Maker) -> None:
    assert read(make({"big.jpg": b"x" * 1001, "small.jpg": b"y"})) == [("big.jpg", None), ("small.jpg", b"y")]


@MAKERS
def test_too_many_entries_are_refused(make: Maker) -> None:
    limits = ArchiveLimits(entry_bytes=1000, total_bytes=100_000, entries=3)
    with pytest.raises(RequestTooLarge, match="more than 3 entries"):
        read(make({f"{i}.jpg": b"x" for i in range(4)}), limits)


@MAKERS
def test_too_many_bytes_in_all_are_refused(make: Maker) -> None:
    limits = ArchiveLimits(entry_bytes=1000, total_bytes=4000)
    with pytest.raises(RequestTooLarge, match="unpacks to more than 4,000 bytes"):
        read(make({f"{i}.jpg": bytes(range(250)) * 4 for i in range(9)}), limits)


@pytest.mark.parametrize("make", [make_zip, make_tar_gz])
def test_a_bomb_is_refused_by_its_ratio(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_RATIO_FLOOR", 100_000)
    limits = ArchiveLimits(entry_bytes=10_000_000, total_bytes=10**9)
    with pytest.raises(InvalidRequest, match="over 100 times its size"):
        read(make({"zeros.bmp": bytes(5_000_000)}), limits)


def test_the_bytes_of_an_oversize_tar_entry_count_although_they_are_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archives, "_RATIO_FLOOR", 100_000)
    with pytest.raises(InvalidRequest, match="over 100 times its size"):
        read(make_tar_gz({"zeros.bmp": bytes(5_000_000), "after.jpg": b"x"}), ArchiveLimits(1000, 10**9))


def test_an_encrypted_zip_is_refused() -> None:
    data = bytearray(make_zip({"a.jpg": b"x"}, zipfile.ZIP_STORED))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    with pytest.raises(InvalidRequest, match="encrypted"):
        read(bytes(data))


def test_a_zip_with_an_unbounded_compression_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="other than deflate"):
        read(make_zip({"a.jpg": b"x"}, zipfile.ZIP_BZIP2))


def test_a_zip_with_a_huge_directory_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_READ", 100_000)
    with pytest.raises(InvalidRequest, match="directory is too large"):
        read(make_zip({f"{i}.jpg": b"" for i in range(3000)}))


def test_a_long_name_record_of_a_tar_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_READ", 2000)
    with pytest.raises(InvalidRequest):
        read(make_tar({"n" * 5000 + ".jpg": b"x"}))


@MAKERS
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8])
def test_a_cut_archive_is_refused(make: Maker, kept: float) -> None:
    # Incompressible, so that a cut of the tar falls into the files and not into the padding at its end.
    noise = bytes((i * i * 7919 >> 3) & 0xFF for i in range(900))
    data = make({f"{i}.jpg": noise for i in range(40)})
    with pytest.raises(InvalidRequest):
        read(data[: int(len(data) * kept)])


def test_a_tar_with_a_damaged_header_in_its_middle_is_refused() -> None:
    data = bytearray(make_tar({"a.jpg": b"x" * 512, "b.jpg": b"y"}))
    data[1024:1034] = b"\xff" * 10
    with pytest.raises(InvalidRequest, match="damaged"):
        read(bytes(data))


def test_a_zip_entry_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(make_zip({"a.jpg": b"some bytes of a picture"}, zipfile.ZIP_STORED))
    data[data.index(b"picture")] ^= 1
    with pytest.raises(InvalidRequest):
        read(bytes(data))


def test_a_zip_whose_entry_hides_its_size_is_still_bounded() -> None:
    data = bytearray(make_zip({"a.jpg": b"x" * 5000}))
    position = data.index(b"PK\x01\x02") + 24
    data[position : position + 4] = struct.pack("<I", 10)
    try:
        (entry,) = read(bytes(data))
    except ImageSearchError:
        return
    assert entry[1] is None or len(entry[1]) <= LIMITS.entry_bytes


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.jpg", "a.jpg"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\fakepath\\cat.jpg", "fakepath/cat.jpg"),
        ("../../a/./b.jpg", "a/b.jpg"),
        ("line\nbreak\x1b[31m.jpg", "line�break�[31m.jpg"),
        ("", ""),
    ],
)
def test_names_are_made_fit_to_show(name: str, shown: str) -> None:
    assert display_name(name) == shown


def test_long_names_are_cut() -> None:
    assert len(display_name("d/" * 500 + "cat.jpg")) == 255
