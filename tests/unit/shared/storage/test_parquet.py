"""Exports as files: what is written comes back; what anybody else wrote is refused, or told apart by row."""

import io
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as arrow_parquet

from shared.errors import InvalidRequest
from shared.storage import parquet
from shared.storage.parquet import Header, Row, Source, joined, write_part
from tests.unit.stages import image

HEADER = Header("images", "m/one", "1" * 16, 4)


def row(number: int, **fields: Any) -> Row:
    given = {"metadata": {"n": number, "shops": ["north"]}, "taken_at": 5.5, **fields}
    vector = np.eye(4, dtype=np.float32)[number % 4]
    return Row(replace(image(f"{number:064x}"), **given), vector, {"thumbnail": b"webp"})


def part(rows: list[Row], header: Header = HEADER) -> bytes:
    file = io.BytesIO()
    write_part(file, header, rows, ["thumbnail"])
    return file.getvalue()


def source(data: bytes) -> Source:
    return Source(io.BytesIO(data))


def changed(change: Callable[[pa.Table], pa.Table], rows: int = 3) -> bytes:
    """An export that somebody has edited."""
    table = arrow_parquet.read_table(io.BytesIO(part([row(n) for n in range(rows)])))
    file = io.BytesIO()
    arrow_parquet.write_table(change(table), file)
    return file.getvalue()


def with_column(name: str, values: list[Any], kind: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        column = pa.array(values, kind)
        if name not in table.column_names:
            return table.append_column(name, column)
        return table.set_column(table.column_names.index(name), name, column)

    return change


def same(read: Row | str, written: Row) -> bool:
    assert isinstance(read, Row), read
    return (
        read.image == written.image
        and read.files == written.files
        and np.array_equal(read.vector, written.vector)
    )


def test_rows_come_back_as_they_were_also_across_joined_parts() -> None:
    rows = [row(n) for n in range(10)]
    parts = [part(rows[:4]), part([]), part(rows[4:])]
    whole = source(b"".join(joined(closing(io.BytesIO(data)) for data in parts)))
    assert whole.header == HEADER
    assert sum(whole.group_rows) == 10
    assert all(same(*pair) for pair in zip(whole.read(0, 10), rows, strict=True))
    assert all(same(*pair) for pair in zip(whole.read(3, 6), rows[3:6], strict=True))


def test_a_row_brings_no_credentials_in() -> None:
    secrets = [f"https://u:p@h/a.jpg?sig={n}" for n in range(2)]
    (read,) = source(part([row(0, source=secrets[0], sources=[*secrets, "b"])])).read(0, 1)
    assert isinstance(read, Row)
    shown = "https://REDACTED@h/a.jpg?sig=REDACTED"
    assert (read.image.source, read.image.sources) == (shown, [shown, "b"])


def test_a_row_without_what_it_may_lack_is_whole() -> None:
    bare = Row(image("0" * 64), np.eye(4, dtype=np.float32)[0])
    assert same(source(part([bare])).read(0, 1)[0], bare)


def test_parts_of_a_collection_have_one_schema_whatever_their_rows_lack() -> None:
    bare = Row(image("0" * 64), np.eye(4, dtype=np.float32)[0])
    assert source(b"".join(joined(closing(io.BytesIO(d)) for d in (part([bare]), part([row(1)]))))).group_rows


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no parquet at all", b"PAR1" + b"\xff" * 200 + b"PAR1"])
def test_what_is_no_parquet_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not Parquet"):
        source(data)


def test_parquet_that_is_cut_off_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not Parquet"):
        source(part([row(0)])[:-20])


def test_parquet_that_no_export_wrote_is_refused() -> None:
    file = io.BytesIO()
    arrow_parquet.write_table(pa.table({"id": ["x"]}), file)
    with pytest.raises(InvalidRequest, match="no export"):
        source(file.getvalue())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": -1}, "malformed"),
        ({"format": float("inf")}, "missing"),
        ({"dimension": 0}, "malformed"),
        ({"model": 3}, "malformed"),
    ],
)
def test_a_header_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    given = json.dumps(
        {"collection": "c", "model": "m", "fingerprint": "f", "dimension": 4, "format": 1} | fields
    )
    data = changed(lambda table: table.replace_schema_metadata({parquet.HEADER: given}))
    with pytest.raises(InvalidRequest, match=message):
        source(data)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (lambda table: table.drop_columns(["source"]), "/columns/source"),
        (lambda table: table.drop_columns(["vector"]), "/columns/vector"),
        (with_column("price", [1, 2, 3], pa.int64()), "/columns/price"),
        (with_column("width", ["1", "2", "3"], pa.string()), "/columns/width"),
        (with_column("vector", [[1.0] * 3] * 3, pa.list_(pa.float32(), 3)), "/columns/vector"),
    ],
)
def test_columns_that_are_not_an_exports_are_named(change: Any, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        source(changed(change))
    assert [fault["pointer"] for fault in refused.value.errors] == [pointer]


def test_an_optional_column_may_be_absent() -> None:
    read = source(changed(lambda table: table.drop_columns(["taken_at", "thumbnail"]))).read(0, 1)[0]
    assert isinstance(read, Row)
    assert read.image.taken_at is None
    assert read.files == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_column("id", ["0" * 64, "../etc", "1" * 64], pa.string()), "id: "),
        (with_column("id", ["0" * 64, None, "1" * 64], pa.string()), "id: it is missing"),
        (
            with_column("vector", [[1, 0, 0, 0], [np.nan, 0, 0, 1], [0, 1, 0, 0]], pa.list_(pa.float32(), 4)),
            "vector",
        ),
        (
            with_column("vector", [[1, 0, 0, 0], [3, 0, 0, 0], [0, 1, 0, 0]], pa.list_(pa.float32(), 4)),
            "vector",
        ),
        (with_column("vector", [[1, 0, 0, 0], None, [0, 1, 0, 0]], pa.list_(pa.float32(), 4)), "vector"),
        (
            with_column("vector", [[1, 0, 0, 0], [None, 1, 0, 0], [0, 1, 0, 0]], pa.list_(pa.float32(), 4)),
            "vector",
        ),
        (with_column("width", [1, -1, 1], pa.int64()), "width"),
        (with_column("lat", [1.0, float("inf"), 1.0], pa.float64()), "lat"),
        (with_column("lat", [1.0, -90.5, 1.0], pa.float64()), "lat: it must be from -90 to 90"),
        (with_column("lon", [1.0, 181.0, 1.0], pa.float64()), "lon"),
        (with_column("nsfw", [1.0, 1.5, 1.0], pa.float64()), "nsfw"),
        (with_column("taken_at", [1.0, float("nan"), 1.0], pa.float64()), "taken_at"),
        (with_column("taken_at", [1.0, -62135600400.0, 1.0], pa.float64()), "taken_at"),
        (with_column("created_at", [1.0, 253402300800.0, 1.0], pa.float64()), "created_at"),
        (with_column("phash", ["0" * 16, "no hash", "f" * 16], pa.string()), "phash: it must be 16"),
        (with_column("source", ["a", "b" * 9000, "c"], pa.string()), "source"),
        (with_column("sources", [["a"], [None], ["c"]], pa.list_(pa.string())), "sources"),
        (with_column("keys", [["a"], [""], ["c"]], pa.list_(pa.string())), "keys: each must"),
        (with_column("keys", [["a"], ["b" * 257], ["c"]], pa.list_(pa.string())), "keys: each must"),
        (with_column("keys", [["a"], [None], ["c"]], pa.list_(pa.string())), "keys: each must"),
        (with_column("metadata", ["{}", "[]", "{}"], pa.string()), "metadata"),
        (with_column("metadata", ["{}", "{not json", "{}"], pa.string()), "JSON"),
        (
            with_column("metadata", ["{}", '{"id": "x"}', "{}"], pa.string()),
            "/id id is the name of a built-in",
        ),
        (with_column("metadata", ["{}", '{"a": {"b": 1}}', "{}"], pa.string()), "/a must be a string"),
        (with_column("metadata", ["{}", '{"a": NaN}', "{}"], pa.string()), "finite"),
        (with_column("metadata", ["{}", "[" * 100_000, "{}"], pa.string()), "JSON"),
    ],
)
def test_a_bad_row_says_why_and_its_neighbours_are_read(change: Any, reason: str) -> None:
    first, bad, last = source(changed(change)).read(0, 3)
    assert isinstance(first, Row)
    assert isinstance(bad, str)
    assert reason in bad
    assert isinstance(last, Row)


def test_text_that_is_not_unicode_spoils_its_row_alone() -> None:
    raw = pa.StringArray.from_buffers(
        3, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"a\xffc")
    )
    data = changed(lambda table: table.set_column(table.column_names.index("source"), "source", raw))
    first, bad, last = source(data).read(0, 3)
    assert isinstance(bad, str)
    assert isinstance(first, Row)
    assert isinstance(last, Row)


def test_row_groups_that_would_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_GROUP_ROWS", 2)
    with pytest.raises(InvalidRequest, match="smaller row groups"):
        source(changed(lambda table: table))


def test_damaged_pages_spoil_their_rows_and_raise_nothing() -> None:
    data = bytearray(part([row(n) for n in range(50)]))
    data[40:400] = b"\xaa" * 360
    read = source(bytes(data)).read(0, 50)
    assert len(read) == 50
    assert any(isinstance(one, str) for one in read)
