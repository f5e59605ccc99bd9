"""A table's kind goes by its content; what is no table is named."""

import gzip
import io
import os
import re
import zipfile

import pytest

from shared.errors import ImageSearchError, InvalidRequest
from tests.unit.shared.tables.reading import HEAD, A, B, table

CSV = f"{HEAD}{A},x\n"
LINES = f'{{"url": "{A}"}}\n'
ARRAY = f'[{{"url": "{A}"}}]'
LIST = f"{A}\n{B}\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (CSV, "csv"),
        (f"url\n{A}\n", "csv"),
        (LINES, "jsonl"),
        (ARRAY, "json"),
        (f"\n [\n{ARRAY[1:]}", "json"),
        (LIST, "list"),
    ],
)
@pytest.mark.parametrize(("name", "media_type"), [("", ""), ("a.dat", "application/octet-stream")])
def test_the_content_says_which_kind(content: str, kind: str, name: str, media_type: str) -> None:
    assert table(content, name, media_type).kind == kind


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (CSV, "a.txt", "csv"),
        (CSV, "a.json", "csv"),
        (LINES, "a.csv", "jsonl"),
        (ARRAY, "a.csv", "json"),
        ("example.com/a.jpg\n", "a.txt", "list"),
        ("https://example.com/w_1,h_1/a.jpg\n", "a.txt", "list"),
        ("# mine\nhttps://example.com/a.jpg\n", "", "list"),
        (f"<{A}>\n{B}\n", "a.txt", "list"),
        (f"{LINES.strip()}broken\n{LINES}", "a.jsonl", "jsonl"),
        (f"oops\n{LINES}", "a.jsonl", "jsonl"),
    ],
)
def test_a_name_decides_only_what_the_content_leaves_open(content: str, name: str, kind: str) -> None:
    assert table(content, name).kind == kind


def test_a_list_has_a_url_a_line_without_comments() -> None:
    read = table(f"# pictures\n\n  {A} \n#{B}\n{B}", "a.txt")

    assert [(row.number, row.url, row.error) for row in read.rows()] == [(3, A, None), (5, B, None)]
    assert read.total == 2
    assert read.notes == []


def _zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, "application/vnd.oasis.opendocument.spreadsheet")
    return data.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            _zipped("[Content_Types].xml", "xl/workbook.xml"),
            r"an Excel workbook \(\.xlsx\): save the sheet as CSV",
        ),
        (_zipped("mimetype", "content.xml"), r"an OpenDocument spreadsheet .*save the sheet as CSV"),
        (_zipped("a.jpg"), "a ZIP archive: unpack it"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512),
            r"an Excel workbook \(\.xls\): save the sheet as CSV",
        ),
        (gzip.compress(CSV.encode()), "compressed by gzip: unpack it"),
        (b"%PDF-1.7\n...", "a PDF document"),
        (b"\xff\xd8\xff\xe0..JFIF", "a picture"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "an HTML page"),
        (b"<html lang=en>", "an HTML page"),
        ("\ufeff<html>".encode("utf-16-le"), "an HTML page"),
        (b"<script>location = '/sign-in'</script>", "an HTML page"),
        (b"<?xml version='1.0'?><!DOCTYPE html><html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer: fetch"),
        (b'{\n  "items": [\n    {"url": "a"}\n  ]\n}', "one JSON object over several lines: send an array"),
        (b'{"items": [\n{"url": "a"}\n]}', "one JSON object over several lines: send an array"),
        (b"<?xml version='1.0'?><rss></rss>", "an XML document"),
        (bytes(1000), "no text"),
        (bytes(range(32)) * 50, "no text"),
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"\n\n  \r\n", "empty"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_is_no_table_is_named_with_what_to_do(content: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"The table is {said}"):
        table(content, "a.csv", "text/csv")


@pytest.mark.parametrize("content", [f"// mine\n{ARRAY}", f"rows = {ARRAY}", "{'url': 'a'}\n"])
def test_what_is_only_called_json_is_told_so(content: str) -> None:
    first = re.escape(content.splitlines()[0])
    with pytest.raises(InvalidRequest, match=f"The table is not JSON: it begins with `{first}`"):
        table(content, "a.json")


@pytest.mark.parametrize("content", ["url,name\n", "url\n\n\n", f"{HEAD},,,\n", "[]", " [ ] ", "{}\n{}\n"])
def test_a_table_without_rows_is_refused(content: str) -> None:
    with pytest.raises(InvalidRequest, match="has no rows"):
        table(content)


def test_random_bytes_are_refused_in_one_sentence() -> None:
    for size in (1, 10, 1_000, 100_000):
        with pytest.raises(ImageSearchError) as caught:
            table(os.urandom(size))
        assert len(caught.value.detail) < 500
