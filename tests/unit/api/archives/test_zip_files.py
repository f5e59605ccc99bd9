import io
import struct
import time
import zipfile
from binascii import crc32

import pytest

from api.archives.unpacking import LeftOut
from shared.errors import InvalidRequest, RequestTooLarge
from tests.unit.api.archives.archive_files import ENTRIES, make_zip, read

ALL = list(ENTRIES.items())
PHOTOS = make_zip(ENTRIES)


class OneWay(io.RawIOBase):
    """A stream that cannot step back: what is written to it says an entry's size behind the entry."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # type: ignore[call-overload]
        return len(data)  # type: ignore[arg-type]


def with_info(name: str, data: bytes = b"x", **fields: object) -> bytes:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    for field, value in fields.items():
        setattr(info, field, value)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, data)
        archive.writestr("b.jpg", "y")
    return buffer.getvalue()


def unicode_path(name: str, of: bytes) -> bytes:
    body = struct.pack("<BL", 1, crc32(of)) + name.encode()
    return struct.pack("<2H", 0x7075, len(body)) + body


def test_a_zip_written_to_a_stream_is_read() -> None:
    stream = OneWay()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in ENTRIES.items():
            archive.writestr(name, data)
    assert read(stream.data) == ALL


def test_a_large_zips_fields_are_read() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as entry:
        entry.write(b"x")
    assert read(buffer.getvalue()) == [("a.jpg", b"x")]


@pytest.mark.parametrize("spool_bytes", [2**20, 1], ids=["in-memory", "on-disk"])
@pytest.mark.parametrize("before", [b"#!/bin/sh\nexec unzip $0\n", b"MZ" + bytes(100_000), b"PK00"])
def test_a_zip_that_unpacks_itself_is_read(before: bytes, spool_bytes: int) -> None:
    assert read(before + PHOTOS, spool_bytes=spool_bytes) == ALL


def test_comments_are_passed_over() -> None:
    buffer = io.BytesIO(PHOTOS)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"PK" * 30_000
    left_out = LeftOut()
    assert read(buffer.getvalue(), left_out=left_out) == ALL
    assert left_out.notes() == []


def test_what_stands_behind_a_zip_is_told() -> None:
    left_out = LeftOut()
    assert read(PHOTOS + b"junk", left_out=left_out) == ALL
    assert [note.code for note in left_out.notes()] == ["archive_end"]


def test_several_zips_in_a_row_are_refused_rather_than_half_read() -> None:
    with pytest.raises(InvalidRequest, match="several zips in one"):
        read(PHOTOS + make_zip({"c.jpg": b"z"}))


@pytest.mark.parametrize("offset", [4, 6, 8], ids=["disk", "directory", "entries"])
def test_one_part_of_a_split_zip_is_refused(offset: int) -> None:
    data = bytearray(PHOTOS)
    data[len(data) - 22 + offset] += 1
    with pytest.raises(InvalidRequest, match="split"):
        read(bytes(data))
    with pytest.raises(InvalidRequest, match="split"):
        read(b"PK\x07\x08" + PHOTOS[:100])


def test_folders_are_passed_over_however_they_are_spelled() -> None:
    for name, fields in (("photos\\", {}), ("photos/", {}), ("photos", {"external_attr": 0x10})):
        data = with_info(name, b"", **fields)
        left_out = LeftOut()
        assert read(data, left_out=left_out) == [("b.jpg", b"y")]
        assert left_out.notes() == []
    assert read(with_info("photos\\a.jpg")) == [("photos\\a.jpg", b"x"), ("b.jpg", b"y")]
    assert [name for name, _ in read(with_info("photos\\.a\\a.jpg"))] == ["b.jpg"]


@pytest.mark.parametrize(
    ("raw", "extra", "name"),
    [
        ("é.jpg".encode(), b"", "é.jpg"),
        ("Größe.jpg".encode("cp850"), b"", "Größe.jpg"),
        ("表/写真 東京タワー 家族旅行.jpg".encode("cp932"), b"", "表/写真 東京タワー 家族旅行.jpg"),
        (b"??.jpg", unicode_path("日本.jpg", b"??.jpg"), "日本.jpg"),
        (b"renamed.jpg", unicode_path("日本.jpg", b"??.jpg"), "renamed.jpg"),
        (b"??.jpg", b"\x75\x70\x04\x00\x01abc", "??.jpg"),
        (b"\x95\\\xff.jpg", b"", "%95%5C%FF.jpg"),
    ],
    ids=["utf-8", "cp850", "shift-jis", "unicode-field", "renamed-since", "broken-field", "neither"],
)
def test_a_name_is_read_from_what_says_most(raw: bytes, extra: bytes, name: str) -> None:
    place = "p" * len(raw)
    data = with_info(place, samples_jpeg(), extra=extra).replace(place.encode(), raw)
    assert [name for name, _ in read(data)] == [name, "b.jpg"]


def samples_jpeg() -> bytes:
    return b"\xff\xd8\xff\xe0"


def test_a_name_that_is_not_the_utf_8_that_it_says_is_told() -> None:
    data = make_zip({"日本.jpg": b"x"}).replace("日本".encode(), b"\x95\x5c\xff123")
    with pytest.raises(InvalidRequest, match="says that it is UTF-8"):
        read(data)


def test_entries_of_one_name_are_several_pictures() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.jpg", b"1")
        archive.writestr("a.jpg", b"2")
    assert read(buffer.getvalue()) == [("a.jpg", b"1"), ("a.jpg", b"2")]


def test_a_directory_of_too_many_entries_is_not_read() -> None:
    whole = make_zip({"a.jpg": b"x"})
    start, end = whole.index(b"PK\1\2"), whole.index(b"PK\5\6")
    directory = whole[start:end] * 500_000
    rest = struct.pack("<4H2LH", 0, 0, 0, 0, len(directory), start, 0)
    began = time.process_time()
    with pytest.raises(RequestTooLarge, match="more than 100,000 entries"):
        read(whole[:start] + directory + b"PK\5\6" + rest)
    assert time.process_time() - began < 1  # zipfile takes four seconds, and ten times the memory
