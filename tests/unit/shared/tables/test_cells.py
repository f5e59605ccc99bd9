"""One type a column: what counts as a number in a text, what is kept as text, what is left out."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.tables.cells import Cells
from tests.unit.shared.tables.reading import A, column, metadata, notes, table, values


def typed(*cells: Any) -> list[Any]:
    """The values that a column of these cells has in JSON lines."""
    return values(table("\n".join(json.dumps({"url": A, "x": cell}) for cell in cells)), "x")


@pytest.mark.parametrize(
    "cells",
    [
        ["1"],
        ["0", "-5", "9223372036854775807", "-9223372036854775808"],
        ["1", "2.5", ""],
        ["0.1", "1.0", "-0.0"],
        ["1e-05", "1e+16", "1.5e+300"],
        ["5", "nan", "-inf", "NaN", "Infinity"],
    ],
)
def test_numbers_are_those_whose_spelling_survives(cells: list[str]) -> None:
    expected = [float(cell) if set(cell) & set(".enN") else int(cell or "0") for cell in cells]
    assert column(*cells) == [
        value if cell and math.isfinite(value) else None for cell, value in zip(cells, expected, strict=True)
    ]
    assert [type(value) for value in column(*cells[:1])] == [type(expected[0])]


@pytest.mark.parametrize(
    "cell",
    ["1.10", "007", "1E5", "1e5", "+1", " 1", "1 ", "1_000", "1,5", "-0", ".5", "5.", "0x1F",
     "9223372036854775808", "1" * 400, "0.1000000000000000055511151231257827",
     "\uff11\uff12", "A12", "1.0.0", "--1", "1e400", "-", "nan1"],
)  # fmt: skip
@pytest.mark.parametrize("others", [[], ["1", "2", "3"]])
def test_codes_that_look_like_numbers_are_text_and_so_is_their_column(cell: str, others: list[str]) -> None:
    quoted = f'"{cell}"'
    assert column(*others, quoted, *others) == [*others, cell, *others]


def test_true_and_false_are_booleans_in_any_case() -> None:
    assert column("true", "False", "", "TRUE") == [True, False, None, True]
    assert column("true", "1") == ["true", "1"]
    assert column("true", "nan") == ["true", "nan"]


def test_a_column_of_nothing_but_nan_is_text() -> None:
    assert column("nan", "NaN") == ["nan", "NaN"]
    assert column("Inf", "Max") == ["Inf", "Max"]


def test_numbers_that_turned_into_text_are_said_with_the_cell_that_decided() -> None:
    read = table("url,x\n" + "".join(f"{A},{cell}\n" for cell in ("1", "2", "A12", "4", "007")))

    assert [(note.code, note.count, note.detail) for note in read.notes] == [
        ("values_as_text", 3, "`x` is text as a whole, since `A12` in line 4 is of another kind.")
    ]
    spelled = table(f"url,x\n{A},1.1\n{A},1.10\n{A},1.2\n")
    assert "`1.10` in line 3 would not keep its spelling" in spelled.notes[0].detail
    assert notes(table(f"url,x\n{A},A12\n{A},B\n{A},1\n")) == []


def test_the_deciding_cell_may_come_after_many_numbers() -> None:
    rows = "".join(f"{A},{n}\n" for n in range(5_000))

    read = table(f"url,x\n{rows}{A},A12\n")

    assert values(read, "x")[-2:] == ["4999", "A12"]
    assert [(note.count, "line 5,002" in note.detail) for note in read.notes] == [(5_000, True)]


def test_values_left_out_of_a_column_of_numbers_are_counted() -> None:
    assert notes(table(f"url,x\n{A},1\n{A},nan\n{A},inf\n")) == [("values_left_out", 2)]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([1, 2.5, None], [1, 2.5, None]),
        ([True, None], [True, None]),
        ([1, "a", True, 1.5], ["1", "a", "true", "1.5"]),
        ([True, 1], ["true", "1"]),
        ([float("nan"), 1.5, float("inf")], [None, 1.5, None]),
        ([float("nan"), "a"], [None, "a"]),
        ([2**63, 1], [str(2**63), "1"]),
        ([-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
        (["", 5], [None, 5]),
        (["", "a"], ["", "a"]),
        ([""], [""]),
        ([["a", 1, None, 1.5, False], []], [["a", "1", "1.5", "false"], []]),
        ([["a"], "b"], ['["a"]', "b"]),
        ([["a", ["b"]]], ['["a", ["b"]]']),
        ([{"a": [1, None]}], ['{"a": [1, null]}']),
        ([{}], ["{}"]),
        ([{"a": float("nan")}], ['{"a": null}']),
        (["a\ud83d"], ["a\ufffd"]),
        ([["\ud83d"]], [["\ufffd"]]),
        ([{"\ud83d": "\ude00"}], ['{"\ufffd": "\ufffd"}']),
    ],
)  # fmt: skip
def test_typed_cells_become_values(cells: list[Any], expected: list[Any]) -> None:
    assert typed(*cells) == expected
    assert [type(value) for value in typed(*cells)] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([float("nan"), 1.5], [("values_left_out", 1)]),
        ([{"a": 1}, {"a": 2}], [("values_as_text", 2)]),
        ([2**70], [("values_as_text", 1)]),
        ([1, 2, "a"], [("values_as_text", 2)]),
        ([True, 1], [("values_as_text", 2)]),
        (["\ud83d", "a", "b\udc00"], [("text_replaced", 2)]),
        ([None], []),
    ],
)
def test_each_change_is_one_note_a_column_and_reason(cells: list[Any], expected: list[Any]) -> None:
    assert notes(table("\n".join(json.dumps({"url": A, "x": cell}) for cell in cells))) == expected


def _converted(*cells: Any) -> tuple[list[Any], Cells]:
    found = Cells(typed=True)
    found.add(cells, range(len(cells)))
    convert = found.convert() or (lambda cell: cell)
    return [convert(cell) for cell in cells if cell is not None], found


def test_bytes_are_left_out_also_inside_nested_values() -> None:
    assert _converted(b"a", "b")[0] == [None, "b"]
    assert _converted(b"a")[1].kind is None
    values, found = _converted({"bytes": b"\xff", "path": "a.jpg"}, {"bytes": b"\xff"}, [[b"a", 1]])
    assert values == ['{"path": "a.jpg"}', None, "[[1]]"]
    assert found.left_out.total() == 3
    assert _converted(["a", b"b"])[0] == [["a"]]


def test_deeply_nested_values_are_left_out() -> None:
    deep: Any = []
    for _ in range(50_000):
        deep = [deep]
    values, found = _converted(deep, "a")

    assert values == [None, "a"]
    assert found.left_out.total() == 1


_TEXT = st.text(st.characters(), max_size=4)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.binary(max_size=2)
_CELLS = _SCALARS | st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4)
)


@given(cells=st.lists(_CELLS, max_size=12))
def test_any_cells_become_values_of_one_type_that_metadata_can_hold(cells: list[Any]) -> None:
    found = Cells(typed=True)
    found.add(cells, range(len(cells)))
    convert = found.convert() or (lambda cell: cell)
    values = [] if found.kind is None else [convert(cell) for cell in cells if cell is not None]
    wanted = {"text": str, "number": int | float, "boolean": bool, "list": list}
    for value in values:
        if value is None:
            continue
        assert isinstance(value, wanted[found.kind or ""])
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        if found.kind == "number":
            assert not isinstance(value, bool)
            assert -(2**63) <= value < 2**63 or isinstance(value, float)
        if isinstance(value, list):
            assert all(isinstance(member, str) for member in value)


def test_a_column_of_spelled_prices_is_text_and_says_how_to_have_numbers() -> None:
    text = f"url,price\n{A},19.90\n{A},7.50\n{A},ask\n{A},\n{A}, +5 \n"
    plain = table(text)
    assert metadata(plain)[0] == {"price": "19.90"}
    (note,) = plain.notes
    assert "`19.90` in line 2 would not keep its spelling as a number (`number_columns`" in note.detail
    read = table(text, number_columns=("PRICE",))
    assert metadata(read) == [{"price": 19.9}, {"price": 7.5}, {}, {}, {"price": 5}]
    assert [one.type for one in read.columns] == ["text", "number"]
    assert [(one.code, one.count) for one in read.notes] == [("values_left_out", 1)]


def test_numbers_of_other_kinds_of_tables_are_taken_however_they_are_spelled() -> None:
    rows = [
        {"url": A, "n": cell}
        for cell in ("19.90", 3, 2.5, True, None, [1], "1e400", 10**400, 2**64, "0x1", "1_0", "٣")
    ]
    read = table(json.dumps(rows), number_columns=("n",))
    assert [one.get("n") for one in metadata(read)] == [19.9, 3, 2.5, *[None] * 5, float(2**64), *[None] * 3]


def test_a_column_of_numbers_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no column `cost`, which `number_columns` names"):
        table(f"url,price\n{A},1\n", number_columns=("cost",))
