import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from api.archives import tar_files, unpacking, zip_files
from api.archives.reading import ArchiveKind, archive_kind
from api.archives.unpacking import ArchiveLimits, LeftOut
from shared.errors import ImageSearchError, InvalidRequest, RequestTooLarge
from tests.sample_files import make_tar, samples
from tests.unit.api.archives.archive_files import ENTRIES, LIMITS, add, make_tar_gz, make_zip, read

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
    assert archive_kind(io.BytesIO(data)) == kind


@MAKERS
def test_hidden_files_are_skipped_and_folders_above_are_none(make: Maker) -> None:
    names = ["ok.jpg", ".DS_Store", "__MACOSX/x.jpg", "a/.hidden/b.jpg", "../../b.jpg", "./also-ok.jpg"]
    left_out = LeftOut()
    files = read(make(dict.fromkeys(names, b"x")), left_out=left_out)
    assert [name for name, _ in files] == ["ok.jpg", "../../b.jpg", "./also-ok.jpg"]
    assert str(left_out.files) == "3 hidden"


def test_links_devices_and_folders_in_a_tar_are_skipped() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)):
            info = tarfile.TarInfo(f"x{number}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        add(archive, "real.jpg", b"x")
    left_out = LeftOut()
    assert read(buffer.getvalue(), left_out=left_out) == [("real.jpg", b"x")]
    assert str(left_out.files) == "2 linked, 1 special"


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
def test_what_is_no_picture_is_left_out_and_told_by_suffix(make: Maker) -> None:
    names = ["a.jpg.json", "b.jpg.JSON", "Thumbs.db", "d/Thumbs.db", "raw.dng", "inner.zip", "LICENSE", ".A"]
    left_out = LeftOut()
    entries = dict.fromkeys(names, make_zip({"a.jpg": b"x"})) | {"a.jpg": b"broken"}
    assert read(make(entries), ArchiveLimits(100_000, 10**6), left_out=left_out) == [("a.jpg", b"broken")]
    assert [(note.code, note.detail, note.count) for note in left_out.notes()] == [
        ("files_skipped", "No pictures: 2 .json, 2 Thumbs.db, 1 raw.dng, 1 inner.zip, 1 LICENSE, 1 .A.", 8)
    ]


@MAKERS
@pytest.mark.parametrize("name", ["a", "photo.jpg?w=100", "IMG_1.HIF", "x.insp", "a.jpg~", "at 10.02.33"])
def test_a_picture_is_taken_where_its_name_says_so_or_nothing(make: Maker, name: str) -> None:
    data = samples()["jpeg"]
    assert read(make({name: data}), ArchiveLimits(10**6, 10**6)) == [(name, data)]


@MAKERS
@pytest.mark.parametrize(
    ("entries", "has"),
    [({"a.json": b"{}", "b.mov": b""}, "it has 1 a.json, 1 b.mov"), ({}, "it is empty")],
)
def test_an_archive_without_a_picture_says_what_it_has(
    make: Maker, entries: dict[str, bytes], has: str
) -> None:
    if make is make_zip or entries:
        with pytest.raises(InvalidRequest, match=f"no picture: {has}"):
            read(make(entries))


@MAKERS
def test_a_large_companion_is_left_out_like_a_small_one(make: Maker) -> None:
    left_out = LeftOut()
    assert read(make({"film.mov": bytes(5000), "a.jpg": b"x"}), left_out=left_out) == [("a.jpg", b"x")]
    assert str(left_out.files) == "1 film.mov"


@MAKERS
def test_an_entry_over_the_limit_comes_without_bytes_and_the_rest_still_comes(make: Maker) -> None:
    assert read(make({"big.jpg": b"x" * 1001, "small.jpg": b"y"})) == [
        ("big.jpg", LIMITS.too_large),
        ("small.jpg", b"y"),
    ]


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
    monkeypatch.setattr(unpacking, "_RATIO_FLOOR", 100_000)
    limits = ArchiveLimits(entry_bytes=10_000_000, total_bytes=10**9)
    with pytest.raises(InvalidRequest, match="over 100 times its size"):
        read(make({"zeros.bmp": bytes(5_000_000)}), limits)


def test_the_bytes_of_an_oversize_tar_entry_count_although_they_are_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unpacking, "_RATIO_FLOOR", 100_000)
    with pytest.raises(InvalidRequest, match="over 100 times its size"):
        read(make_tar_gz({"zeros.bmp": bytes(5_000_000), "after.jpg": b"x"}), ArchiveLimits(1000, 10**9))


def encrypted(data: bytes) -> bytes:
    """A zip whose first entry says that it is encrypted."""
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[changed.index(signature) + offset] |= 1
    return bytes(changed)


def damaged(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[changed.index(b"picture")] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encrypted(make_zip({"a.jpg": b"x"})), "encrypted"),
        (make_zip({"a.jpg": b"x"}, zipfile.ZIP_BZIP2), "another method than deflate"),
        (damaged(make_zip({"a.jpg": b"bytes of a picture"}, zipfile.ZIP_STORED)), "damaged"),
    ],
)
def test_a_zip_of_which_no_picture_can_be_read_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        read(data)


@pytest.mark.parametrize(
    ("break_first", "error"),
    [
        (encrypted, "unsupported_format: The file is encrypted in its archive."),
        (damaged, "corrupt_image: The file is damaged in its archive."),
    ],
)
def test_a_file_of_a_zip_that_cannot_be_read_fails_alone(
    break_first: Callable[[bytes], bytes], error: str
) -> None:
    entries = {"a.jpg": b"bytes of a picture", "b.jpg": b"others"}
    assert read(break_first(make_zip(entries, zipfile.ZIP_STORED))) == [
        ("a.jpg", error),
        ("b.jpg", b"others"),
    ]


def test_a_zip_with_a_huge_directory_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_files, "_MAX_READ", 100_000)
    with pytest.raises(InvalidRequest, match="directory is too large"):
        read(make_zip({f"{i}.jpg": b"" for i in range(3000)}))


def test_a_long_name_record_of_a_tar_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_files, "_MAX_HEADER", 2000)
    with pytest.raises(InvalidRequest, match="damaged"):
        read(make_tar({"n" * 5000 + ".jpg": b"x"}))


@MAKERS
@pytest.mark.parametrize("kept", [0.31, 0.5, 0.8])
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


def test_a_zip_whose_entry_hides_its_size_is_still_bounded() -> None:
    data = bytearray(make_zip({"a.jpg": b"x" * 5000}))
    position = data.index(b"PK\x01\x02") + 24
    data[position : position + 4] = struct.pack("<I", 10)
    try:
        (entry,) = read(bytes(data))
    except ImageSearchError:
        return
    assert entry[1] == LIMITS.too_large or len(entry[1]) <= LIMITS.entry_bytes
