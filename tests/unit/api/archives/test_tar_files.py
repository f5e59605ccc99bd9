import gzip
import io
import tarfile
import time
from collections.abc import Callable

import pytest

from api.archives.unpacking import ArchiveLimits, LeftOut
from shared.errors import InvalidRequest, RequestTooLarge
from tests.sample_files import make_tar
from tests.unit.api.archives.archive_files import LIMITS, add, read

A, B = make_tar({"a.jpg": b"x" * 700}), make_tar({"b.jpg": b"y"})
BOTH = [("a.jpg", b"x" * 700), ("b.jpg", b"y")]
EMPTY = bytes(10_240)
END = 1536  # of the last entry's data in A, with its padding
NO_END = "The archive has no end mark: if it was cut off, files are missing."
BEHIND = "What stands behind the archive's end was not read."


def header(kind: bytes, size: int, name: bytes = b"x.jpg") -> bytes:
    info = tarfile.TarInfo()
    info.type, info.size = kind, size
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    block[:100] = name.ljust(100, b"\0")
    return checked(block)


def checked(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(*records: tuple[bytes, bytes], kind: bytes = tarfile.XHDTYPE) -> bytes:
    parts = []
    for key, value in records:
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        parts.append(b"%d %s=%s\n" % (length, key, value))
    body = b"".join(parts)
    return header(kind, len(body)) + padded(body)


@pytest.mark.parametrize("spool_bytes", [2**20, 1], ids=["in-memory", "on-disk"])
@pytest.mark.parametrize(
    "data",
    [
        A + B,
        EMPTY + A + EMPTY + B,
        A[:END] + bytes(512) + B,
        gzip.compress(A) + gzip.compress(B),
        gzip.compress(A) + bytes(1000) + gzip.compress(B) + bytes(7),
        gzip.compress((A + B)[:100]) + gzip.compress((A + B)[100:1100]) + gzip.compress((A + B)[1100:]),
    ],
    ids=[
        "tars",
        "empty-ones-between",
        "one-block-between",
        "gzips",
        "zeros-between",
        "one-tar",
    ],
)
def test_several_in_a_row_are_read_to_the_end(data: bytes, spool_bytes: int) -> None:
    left_out = LeftOut()
    assert read(data, spool_bytes=spool_bytes, left_out=left_out) == BOTH
    assert left_out.notes() == []


@pytest.mark.parametrize(
    ("data", "remarks"),
    [
        (A[: END + 512], []),
        (A + bytes(99_999), []),
        (A[:END], [NO_END]),
        (A[: END - 300], [NO_END]),
        (gzip.compress(A[:END]), [NO_END]),
        (A + b"junk", [BEHIND]),
        (A + b"junk" * 1000 + B, [BEHIND]),
        (gzip.compress(A) + b"junk", [BEHIND]),
        (gzip.compress(A) + b"j", [BEHIND]),
    ],
    ids=[
        "one-zero-block", "zeros", "no-end", "no-padding", "gzip-no-end", "junk", "more-junk", "gzip-junk",
        "a-byte",
    ],
)  # fmt: skip
def test_any_end_loses_nothing_and_what_may_be_missing_is_told(data: bytes, remarks: list[str]) -> None:
    left_out = LeftOut()
    assert read(data, ArchiveLimits(1000, 10**6), left_out=left_out) == BOTH[:1]
    assert [(note.code, note.detail) for note in left_out.notes()] == [
        ("archive_end", one) for one in remarks
    ]


@pytest.mark.parametrize(
    "data",
    [
        A[: END - 400],
        A[:END] + b"junk",
        A[:END] + b"junk" * 128 + B,
        gzip.compress(A[:END]) + b"junk",
        gzip.compress(A)[:-4],
        gzip.compress(A) + gzip.compress(B)[:-20],
        gzip.compress(A)[:-8] + bytes(8),
        A[:END] + header(tarfile.GNUTYPE_LONGNAME, 600),
        A[:END] + header(tarfile.GNUTYPE_LONGNAME, 4) + padded(b"name"),
        A[:END] + pax((b"path", b"name.jpg")) + bytes(1024),
        A[:END] + pax((b"mtime", b"1.5")) + bytes(1024),
    ],
    ids=range(11),  # not from the bytes: gzip writes the time
)
def test_where_bytes_of_an_entry_may_be_missing_it_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"breaks off|damaged"):
        read(data)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["d/" * 200 + "a.jpg", "日本/写真.jpg", "n" * 65_000 + ".jpg"])
def test_long_names_and_names_in_any_script_are_read(form: int, name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        add(archive, name, b"x")
        add(archive, "b.jpg", b"y")
    assert read(buffer.getvalue(), ArchiveLimits(1000, 10**6)) == [(name, b"x"), ("b.jpg", b"y")]


def test_the_fields_of_each_kind_of_header_are_told_apart() -> None:
    def entry(name: bytes, magic: bytes, prefix: bytes, kind: bytes = b"0") -> bytes:
        block = bytearray(header(kind, 1, name))
        block[257:265], block[345 : 345 + len(prefix)] = magic, prefix
        return checked(block) + padded(b"x")

    v7 = entry(b"v7.jpg", bytes(8), b"", b"\0")
    v7_folder = bytearray(header(b"\0", 0, b"folder/"))
    v7_folder[257:265] = bytes(8)
    ustar = entry(b"a.jpg", b"ustar\x0000", b"folder")
    gnu = entry(b"gnu.jpg", b"ustar  \0", b"14524000000")  # there it has times
    assert [name for name, _ in read(v7 + checked(v7_folder) + ustar + gnu + EMPTY)] == [
        "v7.jpg",
        "folder/a.jpg",
        "gnu.jpg",
    ]


def test_attributes_name_and_measure_their_entry_alone() -> None:
    data = (
        pax((b"comment", b"12345"), kind=tarfile.XGLTYPE)
        + pax((b"path", "é.jpg".encode()), (b"size", b"3"))
        + header(b"0", 0)
        + padded(b"xyz")
        + pax((b"hdrcharset", b"ISO-IR 8859 1 1998"), (b"path", b"\xe9.jpg"))
        + header(b"0", 1)
        + padded(b"x")
        + pax((b"hdrcharset", b"BINARY"), (b"path", b"\xff.jpg"))
        + header(b"0", 1)
        + padded(b"x")
        + header(b"0", 1, b"last.jpg")
        + padded(b"x")
        + EMPTY
    )
    assert read(data) == [("é.jpg", b"xyz"), ("é.jpg", b"x"), ("\udcff.jpg", b"x"), ("last.jpg", b"x")]


def test_an_archive_of_git_begins_with_attributes_for_all() -> None:
    attributes = pax((b"comment", b"0" * 40), kind=tarfile.XGLTYPE)
    assert read(attributes + A) == BOTH[:1]
    with pytest.raises(InvalidRequest, match="it is empty"):
        read(attributes + EMPTY)


def test_sparse_files_are_left_out_and_told() -> None:
    old = bytearray(header(tarfile.GNUTYPE_SPARSE, 512))
    old[482] = 1  # its map goes on in the next block
    new = pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.name", b"b.jpg")) + header(b"0", 700)
    data = checked(old) + bytes(1024) + new + padded(b"0" * 700) + A
    left_out = LeftOut()
    assert read(data, left_out=left_out) == BOTH[:1]
    assert str(left_out.files) == "2 sparse"


def test_backslashes_are_folders() -> None:
    data = make_tar({"photos\\": b"", "photos\\.a\\b.jpg": b"x", "photos\\a.jpg": b"x"})
    left_out = LeftOut()
    assert read(data, left_out=left_out) == [("photos\\a.jpg", b"x")]
    assert len(left_out.files) == 1


def bomb(make: Callable[[], bytes]) -> object:
    return pytest.param(make, id=make.__name__)


def endless_number() -> bytes:
    return header(tarfile.XHDTYPE, 2**20) + b"1" * 2**20 + A


def records_without_values() -> bytes:
    return header(tarfile.XHDTYPE, 2**20) + b"5 a\n" * 2**18 + A


def a_negative_length() -> bytes:
    return header(tarfile.XHDTYPE, 9) + padded(b"-9 a=bcd\n") + A


def a_chain_of_headers() -> bytes:
    return pax((b"a", b"b")) * 5000 + A


def a_name_of_many_megabytes() -> bytes:
    return header(tarfile.GNUTYPE_LONGNAME, 2**24) + b"n" * 2**24 + A


def a_negative_size() -> bytes:
    block = bytearray(header(b"0", 0))
    block[124:136] = b"\xff" * 12
    return checked(block) + A


def a_size_of_many_digits() -> bytes:
    return pax((b"size", b"9" * 100_000)) + header(b"0", 0) + A


def a_huge_size() -> bytes:
    return pax((b"size", b"9" * 18)) + header(b"0", 0) + A


@pytest.mark.parametrize(
    "make",
    [
        bomb(make)
        for make in (
            endless_number, records_without_values, a_negative_length, a_chain_of_headers,
            a_name_of_many_megabytes, a_negative_size, a_size_of_many_digits, a_huge_size,
        )
    ],
)  # fmt: skip
def test_hostile_headers_are_refused_at_once(make: Callable[[], bytes]) -> None:
    data = make()
    began = time.process_time()
    with pytest.raises(InvalidRequest, match=r"damaged|breaks off"):
        read(data, ArchiveLimits(10**6, 10**9))
    assert time.process_time() - began < 2


def test_attributes_for_all_cost_no_entry_anything() -> None:
    records = [(b"%d" % number, b"") for number in range(20_000)]
    data = (pax(*records, (b"path", b"n" * 10), kind=tarfile.XGLTYPE) + A[:END]) * 20
    began = time.process_time()
    assert read(data + A[:END] * 500 + EMPTY, ArchiveLimits(1000, 10**8)) == BOTH[:1] * 520
    assert time.process_time() - began < 5


def test_the_entries_of_all_tars_in_a_row_are_counted_together() -> None:
    with pytest.raises(RequestTooLarge, match="more than 50 entries"):
        read(A * 51, ArchiveLimits(1000, 10**7, entries=50))
    with pytest.raises(InvalidRequest, match="over 100 times its size"):
        read(gzip.compress(A) + gzip.compress(bytes(40 * 2**20)), ArchiveLimits(1000, 10**9))


def test_the_bytes_of_what_is_left_out_are_counted() -> None:
    with pytest.raises(RequestTooLarge, match="unpacks to more than 100,000 bytes"):
        read(make_tar({"film.mov": bytes(200_000), "a.jpg": b"x"}, "w:gz"), LIMITS)
