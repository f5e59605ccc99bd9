"""Which encoding a text has, what is no character, and lines without an end."""
# ruff: noqa: RUF001 - letters that look alike are what this is about

import io
import time
import tracemalloc

import pytest

from shared.errors import InvalidRequest, RequestTooLarge
from shared.tables.table import TableOptions, open_table
from shared.tables.text import Text, find_encoding
from tests.unit.shared.tables.reading import HEAD, A, B, notes, table, values

NAMES = f"{HEAD}{A},Größe 日本 🙂\n"


@pytest.mark.parametrize(
    "encoded",
    [
        NAMES.encode(),
        NAMES.encode("utf-8-sig"),
        b"\xef\xbb\xbf" + NAMES.encode("utf-8-sig"),
        NAMES.encode("utf-16"),
        b"\xfe\xff" + NAMES.encode("utf-16-be"),
        NAMES.encode("utf-16-le"),
        NAMES.encode("utf-16-be"),
    ],
    ids=["utf-8", "mark", "two marks", "utf-16", "utf-16-be mark", "utf-16-le bare", "utf-16-be bare"],
)
def test_unicode_is_read_with_or_without_a_byte_order_mark(encoded: bytes) -> None:
    assert values(table(encoded), "name") == ["Größe 日本 🙂"]


@pytest.mark.parametrize(
    ("codec", "text", "name"),
    [
        ("cp1252", "Käse", "windows-1252"),
        ("cp1252", "José", "windows-1252"),
        ("cp1252", "CAFÉ", "windows-1252"),
        ("cp1252", "a “quoted” – text…", "windows-1252"),
        ("cp1252", "5 €", "windows-1252"),
        ("iso8859_1", "Ação São João", "ISO-8859-1"),
        ("cp1256", "قميص أحمر حذاء رياضي", "windows-1256"),
        ("cp1250", "żółty kůň", "windows-1250"),
        ("cp1254", "kırmızı gömlek", "windows-1254"),
        ("cp1251", "Красная рубашка", "windows-1251"),
        ("cp1251", "Мир", "windows-1251"),
        ("koi8_r", "Красная рубашка", "KOI8-R"),
        ("cp1253", "Κόκκινο πουκάμισο", "windows-1253"),
        ("shift_jis", "赤いシャツ", "Shift_JIS"),
        ("euc_jp", "赤いシャツ", "EUC-JP"),
        ("iso2022_jp", "赤いシャツ", "ISO-2022-JP"),
        ("gb18030", "红色衬衫", "GB18030"),
        ("big5", "紅色襯衫", "Big5"),
        ("euc_kr", "빨간 셔츠", "EUC-KR"),
    ],
)
def test_another_encoding_is_named_with_its_first_line(codec: str, text: str, name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"Line 3 of the table is not UTF-8.*{name}.*save it as UTF-8"):
        table(f"{HEAD}{A},plain\n{B},{text}\n".encode(codec))


@pytest.mark.parametrize("codec", ["utf-32", "utf-32-le", "utf-32-be"])
def test_utf_32_is_named(codec: str) -> None:
    with pytest.raises(InvalidRequest, match="UTF-32"):
        table(NAMES.encode(codec))


@pytest.mark.parametrize("form", ['[{"url": "u", "name": "Käse"}]', '{"url": "u", "name": "Käse"}\n'])
def test_json_in_another_encoding_is_named(form: str) -> None:
    with pytest.raises(InvalidRequest, match=r"Line 1 .*windows-1252"):
        table(form.encode("cp1252"))


def test_a_file_that_is_utf_8_but_for_some_cells_is_taken() -> None:
    read = table(f"{HEAD}{A},Größe\n{B},".encode() + b"K\xe4se\n")

    assert values(read, "name") == ["Größe", "K\ufffdse"]
    assert notes(read) == [("text_replaced", 1)]


@pytest.mark.parametrize("damage", [b"\xff", b"\xff\xfe", b"\xe2\x80", b"\xf0\x9f\x98"])
def test_damage_that_no_encoding_explains_is_replaced(damage: bytes) -> None:
    read = table(f"{HEAD}{A},a".encode() + damage + b" b\n")

    assert values(read, "name") == ["a\ufffd b"]
    assert notes(read) == [("text_replaced", 1)]


def test_half_a_character_in_utf_16_is_replaced() -> None:
    content = NAMES.encode("utf-16") + f"{B},".encode("utf-16-le") + b"\x3d\xd8a\0\n\0"

    read = table(content)

    assert values(read, "name")[1] == "\ufffda"
    assert notes(read) == [("text_replaced", 1)]


def test_the_note_counts_one_reading() -> None:
    read = table(f"{HEAD}{A},Größe\n{B},".encode() + b"\xff\n")
    list(read.rows())

    assert notes(read) == [("text_replaced", 1)]


def test_another_encoding_is_said_without_reading_all() -> None:
    file = io.BytesIO(HEAD.encode() + f"{A},Größe\n".encode("cp1252") * 100_000)

    with pytest.raises(InvalidRequest, match="windows-1252"):
        open_table(file, TableOptions())
    assert file.tell() < 2**20


class _Endless(io.RawIOBase):
    """A line of a gigabyte, which counts what was read of it."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self.at = self.most = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = 2**30 + offset if whence == 2 else offset
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        size = min(len(buffer), 2**30 - self.at)
        head = self._start[self.at : self.at + size]
        buffer[:size] = head + b"x" * (size - len(head))
        self.at += size
        self.most = max(self.most, self.at)
        return size


@pytest.mark.parametrize(
    "start",
    [
        b"url,name",
        b"url,name\nhttps://example.com/a.jpg,",
        b'url,name\nhttps://example.com/a.jpg,"',
        b'[{"url": "',
        b'[{"url": "a"}, {"url": "b", "c": [',
        b'{"url": "',
        b"https://example.com/",
    ],
)
def test_a_line_of_a_gigabyte_is_refused_without_reading_it(start: bytes) -> None:
    file = _Endless(start)
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises((RequestTooLarge, InvalidRequest)):
            open_table(io.BufferedReader(file), TableOptions())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert file.most < 32 * 2**20
    assert peak < 64 * 2**20
    assert time.monotonic() - started < 30


def test_an_unclosed_quote_names_the_row_that_it_stands_in() -> None:
    rows = "".join(f"{A},{n}\n" for n in range(10))

    with pytest.raises(InvalidRequest, match="begins in line 12 does not end: a quote"):
        table(f'url,name\n{rows}{B},"never closed\n{rows}')
    with pytest.raises(RequestTooLarge, match=r"begins in line 12 is longer than .*a quote"):
        table(f'url,name\n{rows}{B},"never closed\n{rows * 100_000}')


def test_lines_are_counted_and_the_file_stays_open() -> None:
    file = io.BytesIO("a\r\nb\rc\n\nü".encode())
    text = Text(file, find_encoding(b"a"))

    assert list(text.lines()) == ["a\r\n", "b\r", "c\n", "\n", "ü"]
    assert text.number == 5
    assert not file.closed
    assert next(text.lines()) == "a\r\n"
    assert not file.closed
