"""JSON lines and arrays: read element by element, with faults that cost their row."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest, NoUrlColumn, RequestTooLarge
from shared.tables.rows import MAX_ROW_CHARS
from tests.unit.shared.tables.reading import A, B, metadata, notes, table

PROPERTY = "Expecting property name enclosed in double quotes"
FORMS = pytest.mark.parametrize("array", [True, False], ids=["array", "lines"])


def written(rows: list[Any], *, array: bool) -> str:
    return json.dumps(rows) if array else "\n".join(map(json.dumps, rows))


@FORMS
def test_rows_may_have_different_names(array: bool) -> None:
    read = table(written([{"url": A, "n": 1}, {"b": "x", "url": B}, {"n": 2, "url": A}], array=array))

    assert [row.url for row in read.rows()] == [A, B, A]
    assert metadata(read) == [{"n": 1}, {"b": "x"}, {"n": 2}]
    assert [row.number for row in read.rows()] == [1, 2, 3]


@FORMS
def test_an_item_is_read_as_it_is_sent_as_a_stream(array: bool) -> None:
    items = [
        {"url": A, "key": "k", "metadata": {"url": "x", "shop": "north", "tags_": ["a"]}},
        {"metadata": {"n": 1}, "url": B},
        {"url": B, "metadata": None},
    ]

    read = table(written(items, array=array))

    assert [(row.url, row.key) for row in read.rows()] == [(A, "k"), (B, None), (B, None)]
    assert metadata(read) == [{"url": "x", "shop": "north", "tags_": ["a"]}, {"n": 1}, {}]
    assert read.notes == []


def test_metadata_that_is_no_object_is_a_column_like_others() -> None:
    assert metadata(table(f'{{"url": "{A}", "metadata": "x"}}')) == [{"metadata": "x"}]


@FORMS
def test_rows_that_are_no_objects_fail_alone_and_empty_ones_are_skipped(array: bool) -> None:
    read = table(
        written(
            [{"url": A}, 5, [], {}, "x", None, {"url": B}, {"n": 1}, {"url": 5.5}, {"url": [A]}], array=array
        )
    )

    word = "Row" if array else "Line"
    assert [(row.url, row.error) for row in read.rows()] == [
        (A, None),
        ("", f"invalid_url: {word} 2 is malformed: not a JSON object."),
        ("", f"invalid_url: {word} 3 is malformed: not a JSON object."),
        ("", f"invalid_url: {word} 5 is malformed: not a JSON object."),
        ("", f"invalid_url: {word} 6 is malformed: not a JSON object."),
        (B, None),
        ("", f"invalid_url: {word} 8 is malformed: the URL is empty."),
        ("5.5", None),
        ("", f"invalid_url: {word} 10 is malformed: the URL is no text."),
    ]
    assert ("rows_skipped", 1) in notes(read)


def test_a_malformed_line_fails_alone() -> None:
    deep = "[" * 100_000
    lines = [
        f'{{"url": "{A}"}}',
        "{oops",
        f'{{"url": "{A}"}} {{}}',
        f'{{"url": {deep}',
        "",
        f'{{"url": "{B}"}}',
    ]

    read = table("\r\n".join(lines))

    assert [(row.number, row.error) for row in read.rows()] == [
        (1, None),
        (2, f"invalid_url: Line 2 is malformed: not JSON: {PROPERTY} at character 2."),
        (3, "invalid_url: Line 3 is malformed: not JSON: something comes after its end."),
        (4, "invalid_url: Line 4 is malformed: nested too deeply."),
        (6, None),
    ]
    assert notes(read) == [("rows_skipped", 1)]


@FORMS
def test_a_table_of_malformed_rows_only_is_refused(array: bool) -> None:
    with pytest.raises(
        InvalidRequest, match=r"No row of the table can be used: (Row|Line) 1 is not a JSON object"
    ):
        table(
            written([[1], [2]], array=array) if array else "[1]\n[2]\n", "a.jsonl" if not array else "a.json"
        )


def test_columns_that_are_objects_are_told_how_to_be_rows() -> None:
    by_column = {"url": {"0": A, "1": B}, "name": {"0": "x", "1": "y"}}  # as pandas does unasked

    with pytest.raises(InvalidRequest, match=r"no URL in any row.*orient='records'"):
        table(json.dumps(by_column))


def test_one_object_around_a_table_is_told_that_the_array_is_one() -> None:
    with pytest.raises(NoUrlColumn, match=r"it has `info`, `images`.*a table is an array of objects"):
        table(json.dumps({"info": {}, "images": [{"url": A}]}))


@FORMS
def test_urls_alone_are_rows(array: bool) -> None:
    texts = [A, "no URL", {"url": B, "n": 1}]
    content = json.dumps(texts) if array else "\n".join(map(json.dumps, texts))

    read = table(content, "a.json" if array else "a.jsonl")

    assert [(row.url, row.metadata) for row in read.rows()] == [(A, {}), ("", {}), (B, {"n": 1})]
    assert [row.error is None for row in read.rows()] == [True, False, True]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"url": "a"} {"url": "b"}]', "malformed after row 1: `,` or `]` expected"),
        ('[{"url": "a"}, {"url": "b"', "Row 2 .* does not end"),
        ('[{"url": "a"}, {"url": "b', "Row 2 .* does not end"),
        ('[{"url": "a"},', "Row 2 .* does not end"),
        ('[{"url": "a"}', "malformed after row 1: `,` or `]` expected"),
        ('[{"url": "a"},]', "Row 2 .* is not JSON: Expecting value"),
        ("[{'url': 'a'}]", "Row 1 .* is not JSON: Expecting property name"),
        ('[{"url": "a"}] x', "comes after the end of the array"),
        ('[{"url": "a"}]\n[{"url": "b"}]', "comes after the end of the array"),
        ("[{'url': 'a'}" + " " * 100 + "]", "Row 1 .* is not JSON"),
        ('[{"url": ' + "[" * 100_000, "Row 1 .* nested too deeply"),
        ('[{"url": "a"}, {"x": tru}' + " " * 100 + "]", "Row 2 .* is not JSON"),
    ],
)
def test_an_array_that_is_malformed_is_refused_with_the_row(content: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        table(content)


def test_an_array_is_read_in_pieces_wherever_they_end() -> None:
    rows = [{"url": f"{A}?{n}", "n": n, "text": "é" * (n % 97) + '"\\\n'} for n in range(8_000)]
    for separators in ((",", ":"), (" ,\n  ", "\t: ")):
        content = json.dumps(rows, ensure_ascii=False, separators=separators)
        assert len(content) > 5 * 65_536

        read = table(content)

        assert [row.url for row in read.rows()] == [row["url"] for row in rows]
        assert [row["text"] for row in metadata(read)] == [row["text"] for row in rows]


def test_a_row_may_be_longer_than_a_piece_but_not_than_the_most() -> None:
    long = json.dumps([{"url": A, "text": "x" * 200_000}, {"url": B}])
    assert [row.url for row in table(long).rows()] == [A, B]
    with pytest.raises(RequestTooLarge, match=r"Row 1 .* more than 1,048,576 characters"):
        table(json.dumps([{"url": A, "text": "x" * 3 * MAX_ROW_CHARS}]))


@FORMS
def test_numbers_of_any_length_and_words_that_are_no_json_are_read(array: bool) -> None:
    rows = f'{{"url": "{A}", "a": {"1" * 6_000}, "b": NaN, "c": -Infinity, "d": 1e999, "e": 1}}'

    read = table(f"[{rows}]" if array else rows)

    assert metadata(read) == [{"a": "1" * 6_000, "e": 1}]


@FORMS
def test_the_last_of_repeated_names_counts(array: bool) -> None:
    row = f'{{"url": "x", "n": 1, "url": "{A}", "n": 2}}'

    read = table(f"[{row}]" if array else row)

    assert [(row.url, row.metadata) for row in read.rows()] == [(A, {"n": 2})]


@FORMS
def test_any_number_of_names_is_bounded(array: bool) -> None:
    read = table(written([{"url": A, f"n{n}": n, "x" * 2_000: 1} for n in range(3_000)], array=array))

    assert len(read.columns) == 1_000
    assert len(list(read.rows())) == 3_000
    assert sum(note.count for note in read.notes if note.code == "values_left_out") > 2_000


@FORMS
def test_the_start_of_a_file_is_read_wherever_it_ends(array: bool) -> None:
    rows = [{"url": A, "name": "日本🙂", "n": 12, "metadata": {"a": [True]}}, {"url": B, "name": 'é"\\'}]
    text = (
        json.dumps(rows, ensure_ascii=False)
        if array
        else "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    )
    whole = text.encode()
    first = len(json.dumps(rows[0], ensure_ascii=False).encode()) + 1
    for end in range(first, len(whole)):
        read = table(whole[:end], partial=True)
        assert [row.url for row in read.rows()] in ([A], [A, B])
        assert read.notes == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@FORMS
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["a", "b", "key", "metadata", "url", "日"]), _JSON, max_size=5),
        max_size=5,
    )
)
def test_any_rows_become_items_that_can_be_stored(array: bool, rows: list[dict[str, Any]]) -> None:
    read = table(written([{"url": A}, *rows, {"url": B}], array=array))

    items = list(read.rows())
    assert (items[0].url, items[-1].url) == (A, B)
    assert (
        len(items)
        == read.total
        == len([row for row in rows if row and row not in ({"metadata": {}}, {"metadata": None})]) + 2
    )
    for item in items:
        json.dumps([item.url, item.key, item.metadata], allow_nan=False, ensure_ascii=False).encode()
