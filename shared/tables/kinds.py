"""Which kind of table a file is; what is none is named, with what to do instead."""

import re
from pathlib import PurePath
from typing import IO

from shared.errors import InvalidRequest
from shared.tables.columns import URL, find_column, shown
from shared.tables.delimited import DelimitedRows, UrlListRows, find_dialect
from shared.tables.json_rows import JsonArrayRows, JsonLinesRows
from shared.tables.parquet import ParquetRows
from shared.tables.rows import Rows
from shared.tables.text import SAMPLE_BYTES, Text, find_encoding

_SHEET = "save the sheet as CSV (UTF-8) and send that"
_UNPACK = "unpack it and send the table itself"
_ZIPPED = (
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "an OpenDocument spreadsheet (.ods)", _SHEET),
    (b"xl/workbook.bin", "an Excel workbook (.xlsb)", _SHEET),
    (b"xl/", "an Excel workbook (.xlsx)", _SHEET),
    (b"Index/Document.iwa", "a Numbers document", _SHEET),
    (b"", "a ZIP archive", "unpack it and send the table itself; archives of pictures are `files`"),
)
_KINDS = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", _SHEET),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh9", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a", "a RAR archive", _UNPACK),
    (b"%PDF-", "a PDF document", "save its table as CSV and send that"),
    (b"{\\rtf", "an RTF document", "save its table as CSV and send that"),
    (b"ARROW1\0", "an Arrow (Feather) file", "save it as Parquet or CSV"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "save it as Parquet or CSV"),
    (b"Obj\x01", "an Avro file", "save it as Parquet or CSV"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file that it stands for (git lfs pull)"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "send pictures as `files`"),
    (b"\x89PNG", "a picture (PNG)", "send pictures as `files`"),
)
_PARQUET = b"PAR1"
_JSON_LINES = (
    "application/jsonl",
    "application/x-ndjson",
    "application/x-jsonlines",
    "application/json-lines",
)
_DELIMITED = ("text/csv", "text/tab-separated-values")
_ARRAY = re.compile(r"\s*\[\s*[\[{\"\]]")
_OBJECT = re.compile(r"\s*\{\s*[\"}]")
_MARKUP = re.compile(r"\s*<(?![A-Za-z+.-]+://)(\?xml|rss|feed|urlset|svg)?")  # a list may have <https://…>
_PRETTY = re.compile(r"\s*\{[^\r\n]*(?<=[{\[,:])[ \t]*[\r\n]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MOST_CONTROLS, _CONTROLS_SHARE = 32, 0.05


def open_rows(file: IO[bytes], url_column: str | None, *, name: str, media_type: str, cut: bool) -> Rows:
    """Return the rows of a file, of the kind that its content shows; `name` and `media_type` are hints.

    With `cut` it is only the start of a text. Raises InvalidRequest for what is no table.
    """
    file.seek(0)
    sample = file.read(SAMPLE_BYTES)
    if sample.startswith(_PARQUET):
        return ParquetRows(file)
    _refuse_known(file, sample)
    encoding = find_encoding(sample)
    start = sample[encoding.start :].decode(encoding.codec, errors="replace")
    if not start.strip():
        raise InvalidRequest("The table is empty.")
    _refuse_other_text(start)
    if _PRETTY.match(start):
        raise InvalidRequest(
            "The table is one JSON object over several lines: send an array of objects, or an object a line."
        )
    text = Text(file, encoding, cut=cut)
    suffix, media_type = PurePath(name).suffix.lower(), media_type.partition(";")[0].strip().lower()
    said_json = suffix == ".json" or media_type == "application/json"
    if _ARRAY.match(start) or (said_json and start.lstrip().startswith("[")):
        return JsonArrayRows(text, cut=cut)
    if _OBJECT.match(start) or media_type in _JSON_LINES or suffix in (".jsonl", ".ndjson"):
        return JsonLinesRows(text)
    dialect = find_dialect(start, lambda head: find_column(head, url_column) is not None)
    if find_column(dialect.head, url_column) is not None:
        return DelimitedRows(text, dialect, cut=cut)
    if said_json:
        raise InvalidRequest(
            f"The table is not JSON: it begins with `{shown(start.strip().splitlines()[0])}`."
        )
    first = next((line for line in start.splitlines() if line.strip() and not line.startswith("#")), "")
    said_list = suffix == ".txt" or media_type == "text/plain"
    said_table = suffix in (".csv", ".tsv") or media_type in _DELIMITED
    if not url_column and (
        (said_list and len(dialect.head) < 2) or (URL.match(first.lstrip()) and (said_list or not said_table))
    ):
        return UrlListRows(text)
    return DelimitedRows(text, dialect, cut=cut)


def _refuse_known(file: IO[bytes], sample: bytes) -> None:
    """Raise InvalidRequest where the file's first bytes are those of something that is no table."""
    if sample.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        end = _last_bytes(file)
        raise _refusal(next(kind for kind in _ZIPPED if kind[0] in sample or kind[0] in end))
    for kind in _KINDS:
        if sample.startswith(kind[0]):
            raise _refusal(kind)


def _refuse_other_text(text: str) -> None:
    """Raise InvalidRequest where a file's beginning is a page or document, or no text."""
    markup = _MARKUP.match(text)
    if markup and (not markup[1] or "<html" in text):
        raise InvalidRequest(
            "The table is an HTML page: the address that it came from may have asked for a sign-in; "
            "download the table itself."
        )
    if markup:
        raise InvalidRequest("The table is an XML document: save it as CSV, JSON lines or Parquet.")
    if len(_CONTROLS.findall(text)) > max(_MOST_CONTROLS, _CONTROLS_SHARE * len(text)):
        raise InvalidRequest("The table is no text: send CSV, TSV, JSON, JSON lines or Parquet.")


def _refusal(kind: tuple[bytes, str, str]) -> InvalidRequest:
    return InvalidRequest(f"The table is {kind[1]}: {kind[2]}.")


def _last_bytes(file: IO[bytes]) -> bytes:
    file.seek(0, 2)
    file.seek(max(file.tell() - SAMPLE_BYTES, 0))
    return file.read(SAMPLE_BYTES)
