"""Tables as a whole: keys, limits, reading twice, and bytes of any kind."""

import csv
import io
import json
import tempfile
from time import process_time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import ImageSearchError, RequestTooLarge
from shared.tables import survey
from shared.tables.table import TableOptions, open_table
from shared.validation import MAX_METADATA_BYTES, metadata_faults
from tests.unit.shared.tables.reading import A, B, metadata, notes, table


def keys(*cells: Any, array: bool = False) -> list[str | None]:
    if array:
        read = table(json.dumps([{"url": A, "key": cell} for cell in cells]))
    else:
        read = table("url,key\n" + "".join(f"{A},{cell}\n" for cell in cells))
    return [row.key for row in read.rows()]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["7.0", "8.0", ""], ["7", "8", None]),
        (["7", "8.0"], ["7", "8"]),
        (["7.0", "nan", "007"], ["7", None, "007"]),
        (["7.0", "A12"], ["7.0", "A12"]),
        (["7.0", "7.5"], ["7.0", "7.5"]),
        (["007", " x "], ["007", "x"]),
        (["12345678901234567890.0"], ["12345678901234567890"]),
        (["1e5"], ["1e5"]),
        (["nan", "x"], ["nan", "x"]),
    ],
)
def test_keys_are_text_but_whole_numbers_lose_the_fraction_that_a_gap_gave_them(
    cells: list[str], expected: list[str | None]
) -> None:
    assert keys(*cells) == expected


def test_a_column_that_is_the_key_by_its_name_alone_can_be_left_out() -> None:
    text = f"url,Key,id\n{A},k-1,i-1\n"
    assert [row.key for row in table(text, skip_columns=("key",)).rows()] == [None]
    assert [row.key for row in table(text, skip_columns=("Key",), key_column="id").rows()] == ["i-1"]
    assert [row.key for row in table(text, skip_columns=("Key",), key_column="Key").rows()] == ["k-1"]
    assert [one.use for one in table(text, skip_columns=("Key",)).columns] == ["url", "left_out", "metadata"]


def test_typed_keys_are_the_same_as_those_of_text() -> None:
    assert keys(7.0, None, 8, array=True) == ["7", None, "8"]
    assert keys(7.0, float("nan"), array=True) == ["7", None]
    assert keys(7.0, 7.5, True, "\ud83d", array=True) == ["7.0", "7.5", "true", "\ufffd"]
    assert keys("7.0", "8.0", array=True) == ["7", "8"]


def test_a_key_that_cannot_be_one_fails_its_row() -> None:
    read = table(
        json.dumps([{"url": A, "key": "x" * 257}, {"url": A, "key": ["a"]}, {"url": B, "key": "x" * 256}])
    )

    assert [(row.key is None, row.error) for row in read.rows()] == [
        (True, "invalid_url: Row 1 is malformed: the key has 257 characters; at most 256 are allowed."),
        (True, "invalid_url: Row 2 is malformed: the key is no text."),
        (False, None),
    ]


def test_a_key_column_is_found_in_any_case_or_named() -> None:
    assert [row.key for row in table(f"url,KEY\n{A},k\n").rows()] == ["k"]
    read = table(f"url,key,sku\n{A},k,s\n", key_column="SKU")
    assert [(row.key, row.metadata) for row in read.rows()] == [("s", {"key_": "k"})]


def test_the_largest_values_of_a_row_over_the_limits_are_left_out_and_counted() -> None:
    rows = [{"url": A, "a": "x" * 40_000, "b": "é" * 40_000, "c": "ok"}, {"url": A, "a": "x"}]

    read = table(json.dumps(rows))

    assert [list(values) for values in metadata(read)] == [["a", "c"], ["a"]]
    assert notes(read) == [("values_left_out", 1)]
    lists = [{"url": A, "a": ["x"] * 600, "b": ["y"] * 500, "c": 1}, {"url": A, "a": ["x"] * 1_000}]
    read = table(json.dumps(lists))
    assert [list(values) for values in metadata(read)] == [["b", "c"], ["a"]]
    assert notes(read) == [("values_left_out", 1)]


def test_metadata_of_just_the_most_bytes_is_kept() -> None:
    for extra, kept in ((0, 2), (1, 1)):
        text = "x" * (MAX_METADATA_BYTES - len('{"a":"","b":"ok"}') + extra)
        assert len(metadata(table(f"url,a,b\n{A},{text},ok\n"))[0]) == kept


def test_what_expands_as_json_is_kept_within_the_limits() -> None:
    plain = f"{A},x,y\n" * 3_000  # what begins with control characters is no text

    read = table(f"url,a,b\n{plain}{A},{chr(1) * 9_000},{chr(2) * 9_000}\n")

    assert all(not list(metadata_faults(values)) for values in metadata(read))
    assert len(metadata(read)[-1]) == 1


@pytest.mark.parametrize("most", [10, 10**9], ids=["rolled", "in memory"])
def test_a_spooled_upload_is_read_as_often_as_wanted(most: int) -> None:
    with tempfile.SpooledTemporaryFile(most, mode="w+b") as file:
        file.write(f"url,n\n{A},1\n{B},2\n".encode())
        file.seek(0)
        read = open_table(file, TableOptions())
        assert [row.url for row in read.rows()] == [A, B]
        next(read.rows())
        assert [row.url for row in read.rows()] == [A, B]
        assert not file.closed


def test_a_table_of_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MAX_ROWS", 3)
    assert table("url\n" + f"{A}\n" * 3).total == 3
    with pytest.raises(RequestTooLarge, match="more than 3 rows: send it in parts"):
        table("url\n" + f"{A}\n" * 4)


def test_types_are_those_of_the_whole_table() -> None:
    rows = "".join(f"{A},{n},true,\n" for n in range(3_000))

    read = table(f"url,n,flag,late\n{rows}{A},x,yes,z\n")

    assert [column.type for column in read.columns] == ["text"] * 4
    assert metadata(read)[0] == {"n": "0", "flag": "true"}


_STARTS = (
    b"", b"url,name\n", b"\xef\xbb\xbfurl;a\n", b"\xff\xfe", b"[", b'[{"url":"a"},', b'{"url":"a"}\n',
    b"PK\x03\x04",    b"http://a\n", b"sep=;\n", b'url,"', b"url,a\nx,",
)  # fmt: skip
_PIECES = (
    b'"', b"\n", b"\r", b",", b'{"url":', b"}", b"]", b"\0", b"1", b"[", b'\\ud83d"', "ü".encode(),
    b"true", b"nan",
)  # fmt: skip


@given(
    start=st.sampled_from(_STARTS),
    pieces=st.lists(st.binary(max_size=12) | st.sampled_from(_PIECES), max_size=20),
    name=st.sampled_from(["", "a.csv", "a.jsonl", "a.txt", "a.json"]),
    partial=st.booleans(),
)
@example(start=b"url\n", pieces=[b"\0" * 50], name="", partial=False)
@example(start=b"", pieces=[b'"'], name="a.csv", partial=False)
def test_any_bytes_are_read_or_refused(start: bytes, pieces: list[bytes], name: str, partial: bool) -> None:
    try:
        read = table(start + b"".join(pieces), name, partial=partial)
    except ImageSearchError as error:
        assert 0 < len(error.detail) < 2_000
        error.detail.encode()
        return
    rows = list(read.rows())
    assert len(rows) == read.total
    for row in rows:
        assert list(metadata_faults(row.metadata)) == []
        json.dumps([row.url, row.key, row.metadata, row.error], ensure_ascii=False).encode()
        assert row.url or row.error


@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.booleans(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        ),
        min_size=1, max_size=30,
    )
)  # fmt: skip
def test_what_python_writes_as_csv_has_its_types_again(rows: list[tuple[Any, ...]]) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["url", "whole", "real", "flag", "text"])
    for cells in rows:
        writer.writerow([A, *cells[:3], f"t{cells[3]}"])

    read = table(file.getvalue())

    assert metadata(read) == [
        {
            name: value
            for name, value in zip(
                ("whole", "real", "flag", "text"), (*cells[:3], f"t{cells[3]}"), strict=True
            )
            if value is not None
        }
        for cells in rows
    ]


def test_the_start_of_a_table_may_have_no_url_yet() -> None:
    start = table(f"url,name\n,a\n,b\n{A}", partial=True)
    assert [row.error for row in start.rows()] == [
        f"invalid_url: Line {line} is malformed: the URL is empty." for line in (2, 3)
    ]


@pytest.mark.parametrize("rows", ["wide and narrow", "names asked for", "empty"])
def test_many_columns_cost_no_more_than_their_cells(rows: str) -> None:
    names = [f"c{number}" for number in range(9_999)]
    head = ",".join(["url", *names])
    began = process_time()
    if rows == "wide and narrow":
        wide_one = f"{A}{',' * 9_999}x\n" + f"{A}\n" * 1_023
        assert table(f"{head}\n" + wide_one * 20).total == 20 * 1_024
    elif rows == "names asked for":
        read = table(f"{head}\n{A},1\n", columns=tuple(names), skip_columns=tuple(names[:5_000]))
        assert len(read.columns) == 10_000
    else:
        first = json.dumps(dict.fromkeys(names[:990], 1) | {"url": A})
        assert table(f"{first}\n" + f'{{"url":"{A}"}}\n' * 20_000).total == 20_001
    assert process_time() - began < 2
