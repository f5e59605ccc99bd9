"""Parquet: cells of every type that Arrow writes, and files that may come from anybody."""

import io
import random
import signal
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as arrow

from shared.errors import ImageSearchError, InvalidRequest, RequestTooLarge, Unavailable
from shared.tables import parquet
from shared.tables.parquet import ParquetRows
from shared.tables.table import Table, TableOptions, open_table
from shared.validation import MAX_METADATA_BYTES
from tests.unit.shared.tables.reading import A, B, metadata, notes, values

LIMITED = "from shared.tables import parquet_process as p; p.MEMORY_BYTES = {mib} << 20; p.main()"
INT, TEXT = pa.int64(), pa.string()


KINDS: list[tuple[list[Any], Any, Any]] = [
    ([1], pa.timestamp("ns"), "1970-01-01T00:00:00.000000001"),
    ([1_700_000_000_500], pa.timestamp("ms", "Europe/Zurich"), "2023-11-14T22:13:20.5Z"),
    ([1], pa.timestamp("us", "Mars/Phobos"), "1970-01-01T00:00:00.000001Z"),
    ([10**12], pa.timestamp("s"), "+033658-09-27T01:46:40"),
    ([6 * 10**18], pa.timestamp("us"), "+192102-06-07T10:40:00"),
    ([-6 * 10**18], pa.timestamp("us"), "-188163-07-27T13:20:00"),
    ([4_000_000], pa.date32(), "+012921-08-18"),
    ([-719_528], pa.date32(), "+000000-01-01"),
    ([86_400_000], pa.date64(), "1970-01-02"),
    ([86_399_123_456_789], pa.time64("ns"), "23:59:59.123456789"),
    ([60_000], pa.time32("ms"), "00:01:00"),
    ([1_500_000_000], pa.duration("ns"), 1.5),
    ([2**63 + 1], pa.uint64(), 2**63 + 1),
    ([Decimal("1.10")], pa.decimal128(5, 2), 1.1),
    ([10**60], pa.decimal256(70, 0), 10**60),
    ([np.float16(1.5)], pa.float16(), 1.5),
    ([0.3], pa.float32(), 0.3),
    ([[("a", 1), ("b", None)]], pa.map_(TEXT, INT), {"a": 1, "b": None}),
    ([{"a": 1, "b": {"c": [1, None]}}], None, {"a": 1, "b": {"c": [1, None]}}),
    ([[1, None, 2]], None, [1, None, 2]),
    ([[[1], [2, 3], None]], None, [[1], [2, 3], None]),
    ([[1, 2]], pa.list_(INT, 2), [1, 2]),
    ([["a"]], pa.large_list(pa.large_string()), ["a"]),
    ([["a"]], pa.list_view(pa.string_view()), ["a"]),
    ([[{"a": [1]}]], None, [{"a": [1]}]),
    (["a"], pa.dictionary(pa.int8(), TEXT), "a"),
    ([["a"]], pa.list_(pa.dictionary(pa.int8(), TEXT)), ["a"]),
    ([UUID(int=5).bytes], pa.uuid(), str(UUID(int=5))),
    (['{"a": 1}'], pa.json_(), '{"a": 1}'),
    ([True], None, True),
]


def written(columns: dict[str, Any] | pa.Table, **how: Any) -> io.BytesIO:
    file = io.BytesIO()
    arrow.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), file, **how)
    return file


def opened(columns: dict[str, Any] | pa.Table, **options: Any) -> Table:
    return open_table(written(columns), TableOptions(**options))


def not_utf8(*texts: bytes) -> pa.Array:
    return pa.Array.from_buffers(pa.string(), len(texts), pa.array(texts).buffers())


@pytest.fixture(scope="module")
def read_kinds() -> list[list[Any]]:
    """The cells of each of KINDS: a value, a missing one, the value."""
    columns = [pa.array([A] * 3)]
    for given, kind, _ in KINDS:
        array = pa.array(given, kind)
        columns.append(pa.concat_arrays([array, pa.nulls(1, array.type), array]))
    rows = ParquetRows(written(pa.Table.from_arrays(columns, names=["url", *map(str, range(len(KINDS)))])))
    return [list(cells) for cells in zip(*(row.cells[1:] for row in rows), strict=True)]


@pytest.mark.parametrize("number", range(len(KINDS)), ids=lambda number: f"{KINDS[number][1]}-{number}")
def test_every_type_of_cell_becomes_a_plain_value(number: int, read_kinds: list[list[Any]]) -> None:
    expected = KINDS[number][2]
    assert read_kinds[number] == [expected, None, expected]


def test_a_text_that_is_no_utf8_is_read_and_counted() -> None:
    array = not_utf8(b"\xff\xfe", b"caf\xc3\xa9")
    table = opened({"url": [A, B], "x": array, "list": pa.ListArray.from_arrays([0, 1, 2], array)})
    assert metadata(table) == [{"x": "��", "list": ["��"]}, {"x": "café", "list": ["café"]}]
    assert notes(table) == [("text_replaced", 2)]


def test_bytes_are_left_out_wherever_they_are_and_not_even_read() -> None:
    picture = random.Random(1).randbytes(2**16)
    file = written(
        {
            "url": [A],
            "image": [{"bytes": picture, "path": "a.jpg"}],
            "raw": [picture],
            "pages": [[picture]],
        },
        compression="none",
        use_dictionary=False,
    )
    damaged = io.BytesIO(file.getvalue().replace(picture, bytes(len(picture))))
    table = open_table(damaged, TableOptions())
    assert metadata(table) == [{"image": '{"path": "a.jpg"}'}]
    assert [column.use for column in table.columns] == ["url", "metadata", "left_out", "left_out"]
    assert ("columns_left_out", 2) in notes(table)


def test_columns_of_one_name_and_with_dots_in_theirs_are_told_apart() -> None:
    names = ["a", "url", "a", "b", "b.c", "b"]
    arrays = [[1], [A], [b"bytes"], [{"e": b"bytes", "d": 2}], ["dot"], [{"c": 3}]]
    rows = ParquetRows(written(pa.Table.from_arrays([pa.array(array) for array in arrays], names=names)))
    assert (rows.names, [row.cells for row in rows]) == (names, [[1, A, b"", {"d": 2}, "dot", {"c": 3}]])


@pytest.mark.parametrize("in_memory", [10**6, 10])
def test_an_upload_is_read_in_memory_and_on_disk_and_as_often_as_one_likes(in_memory: int) -> None:
    with tempfile.SpooledTemporaryFile(in_memory) as file:
        arrow.write_table(pa.table({"url": [A, B], "x": [1, 2]}), file, row_group_size=1)
        table = open_table(file, TableOptions())
        first, second = table.rows(), table.rows()
        assert [(one.url, other.url) for one, other in zip(first, second, strict=True)] == [(A, A), (B, B)]
        assert values(table, "x") == [1, 2]


def test_rows_of_nothing_are_counted_and_rows_keep_their_numbers() -> None:
    rows = ParquetRows(written({"url": pa.array([None, A, None], TEXT), "x": pa.array([None, None, 3])}))
    assert [(row.number, row.cells) for row in rows] == [(2, [A, None]), (3, [None, 3])]
    assert rows.skipped == 1


@pytest.mark.parametrize("columns", [{"url": pa.array([], TEXT)}, {}, {"image": [b"bytes"]}])
def test_a_file_without_rows_or_columns_is_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"no (rows|column)"):
        opened(columns)


def test_many_rows_are_refused_by_what_the_file_says_of_itself() -> None:
    with pytest.raises(RequestTooLarge, match="6,000,000 rows"):
        opened({"url": pa.nulls(6_000_000, TEXT)})


def test_more_cells_than_can_be_looked_at_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_CELLS", 5)
    file = written({"url": [A, B], "x": [1, 2], "y": [3, 4]})
    with pytest.raises(RequestTooLarge, match="6 cells; of a file of its size at most 5 are read"):
        open_table(file, TableOptions())
    assert values(open_table(file, TableOptions(skip_columns=("y",))), "x") == [1, 2]


def deep() -> pa.Table:
    array = pa.array([1])
    for _ in range(300):
        array = pa.ListArray.from_arrays([0, 1], array)
    return pa.table({"url": [A], "x": array})


def repeated(size: int) -> pa.Table:
    """A text of that size in every row, which the file has once."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), ["x" * size])
    return pa.table({"url": [A] * 100_000, "x": column})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: repeated(10**7), "more than .* MiB of memory"),
        (
            lambda: {"url": [A], "x": pa.ListArray.from_arrays([0, 10**7], pa.nulls(10**7, INT))},
            "memory",
        ),
        (lambda: {f"c{number}": [1] for number in range(10_001)}, "10,001 columns"),
        (deep, "nests too deeply"),
    ],
    ids=["one text in each row", "a list of nulls", "columns", "depth"],
)
def test_what_takes_memory_ends_with_what_to_do(
    make: Callable[[], Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_READER", LIMITED.format(mib=112))
    with pytest.raises(InvalidRequest, match=says):
        open_table(written(make(), compression="zstd", store_schema=False), TableOptions())


def test_the_kernel_holds_the_process_to_its_memory_and_what_is_not_wanted_takes_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet, "_READER", LIMITED.format(mib=80))
    file = written({"url": [A], "html": ["x" * (30 << 20)], "x": [1]}, compression="zstd")
    with pytest.raises(InvalidRequest, match="more than 80 MiB of memory"):
        open_table(file, TableOptions())
    for options in (TableOptions(skip_columns=("html",)), TableOptions(columns=("x",))):
        assert metadata(open_table(file, options)) == [{"x": 1}]


def test_what_is_too_long_for_metadata_is_cut_where_it_is_read() -> None:
    numbers = list(range(70_000))
    long = {"list": [numbers], "lists": [[numbers]], "struct": [{"x": numbers}], "text": ["x" * 10**6]}
    (row,) = ParquetRows(written({"url": [A], **long}))
    assert sum(len(str(cell)) for cell in row.cells) < 5 * MAX_METADATA_BYTES
    assert row.size > 4 * MAX_METADATA_BYTES
    table = opened(
        {"url": [A, B], "short": [[[1] * 9_000], None], **{name: [*x, *x] for name, x in long.items()}}
    )
    assert [set(row.metadata) for row in table.rows()] == [{"short"}, set()]
    assert [pair for pair in notes(table) if pair[0] == "values_left_out"] == [("values_left_out", 2)] * 4


def test_what_repeats_in_a_small_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a kilobyte anybody would otherwise fill the disk, with the rows of a job, or the time."""
    monkeypatch.setattr(parquet, "LEAST_CHARS", 10**7)
    with pytest.raises(RequestTooLarge, match=r"unpacks to more than 10,000,000 characters"):
        open_table(written(repeated(1_000)), TableOptions())
    assert open_table(written(repeated(50)), TableOptions()).total == 100_000
    monkeypatch.setattr(parquet, "LEAST_CELLS", 1_000)
    with pytest.raises(RequestTooLarge, match="200,000 cells; of a file of its size"):
        open_table(written(repeated(50)), TableOptions())


def test_a_category_of_a_long_text_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("LEAST_CHARS", "MAX_CHARS"):
        monkeypatch.setattr(parquet, limit, 10**12)
    rows = ParquetRows(written(repeated(10**6)))
    assert {len(row.cells[1]) for row in rows} == {MAX_METADATA_BYTES + 1}


@pytest.mark.parametrize(
    ("reader", "says"),
    [
        ("import os; os.abort()", "damaged, or takes too much memory"),
        ("import os; os._exit(0)", "damaged, or takes too much memory"),
        (f"import os, signal; os.kill(os.getpid(), {signal.SIGXCPU.value})", "too long"),
        ("import time; time.sleep(60)", "too long"),
    ],
)
def test_a_process_that_dies_or_hangs_is_an_error(
    reader: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "STALL_S", 1)
    monkeypatch.setattr(parquet, "_READER", reader)
    with pytest.raises(InvalidRequest, match=says):
        opened({"url": [A]})


def test_a_process_ends_when_its_rows_are_not_wanted_and_few_run_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = written({"url": [A] * 10_000}, row_group_size=10)
    monkeypatch.setattr(parquet, "AT_ONCE", 2)
    monkeypatch.setattr(parquet, "_turns", threading.BoundedSemaphore(2))
    readings = [iter(ParquetRows(file)) for _ in range(parquet.AT_ONCE)]
    assert [next(rows).number for rows in readings] == [1] * parquet.AT_ONCE
    monkeypatch.setattr(parquet, "STALL_S", 0.1)
    with pytest.raises(Unavailable):
        ParquetRows(file)
    readings.clear()
    monkeypatch.setattr(parquet, "STALL_S", 60)
    assert len(list(ParquetRows(file))) == 10_000


def test_damage_anywhere_ends_as_rows_or_as_an_error() -> None:
    columns = {"url": [A] * 99, "x": range(99), "list": [["a", None]] * 99, "struct": [{"b": "c"}] * 99}
    sound = written(columns, row_group_size=30).getvalue()

    def read(seed: int) -> str:
        rng = random.Random(seed)
        data = bytearray(sound)
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(4, len(data) - 4)] = rng.randrange(256)
        try:
            return f"{len(list(ParquetRows(io.BytesIO(data))))} rows"
        except ImageSearchError as error:
            return error.detail

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(read, range(6)))) > 1
