"""Tables as pandas, polars and DuckDB write them: the same rows, whatever the file."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import polars as pl
import pytest

from shared.errors import InvalidRequest
from shared.tables.table import TableOptions, open_table
from tests.unit.shared.tables.reading import A, B, C, metadata, notes

ZURICH = ZoneInfo("Europe/Zurich")
NAMES = ["plain", 'Grüße; "so", sagt\n=er', None]
COLUMNS: dict[str, list[Any]] = {
    "url": [A, B, C],
    "id": [7, 8, None],
    "name": NAMES,
    "price": [1.5, None, 3.0],
    "size": ["S", None, "M"],
    "ok": [True, False, None],
    "none": [None, None, None],
}
ROWS = [
    {"name": NAMES[0], "price": 1.5, "size": "S", "ok": True},
    {"name": NAMES[1], "ok": False},
    {"price": 3.0, "size": "M"},
]
Write = Callable[[Path], object]


def in_pandas() -> pd.DataFrame:
    """With a gap in its ids, which makes them 7.0; and pandas' own kinds of column."""
    frame = pd.DataFrame(COLUMNS)
    kinds = {"id": "float64", "name": "string", "price": "Float64", "size": "category", "ok": "boolean"}
    return frame.astype(kinds)


def in_polars() -> pl.DataFrame:
    return pl.DataFrame(COLUMNS).with_columns(pl.col("size").cast(pl.Categorical))


def by_duckdb(how: str) -> Write:
    def write(path: Path) -> None:
        with duckdb.connect() as connection:
            connection.register("frame", in_polars().to_arrow())
            connection.execute(f"COPY (SELECT * FROM frame) TO '{path}' ({how})")

    return write


def read_again(path: Path) -> None:
    """What `Unnamed: 0` comes from."""
    in_pandas().to_csv(path)
    pd.read_csv(path).to_csv(path)


WRITERS: dict[str, tuple[str, Write]] = {
    "pandas CSV": ("csv", lambda path: in_pandas().to_csv(path, index=False)),
    "pandas CSV with index": ("csv", lambda path: in_pandas().to_csv(path)),
    "pandas CSV read and written again": ("csv", read_again),
    "pandas CSV with semicolons": ("csv", lambda path: in_pandas().to_csv(path, sep=";", index=False)),
    "pandas CSV for Excel": ("csv", lambda path: in_pandas().to_csv(path, encoding="utf-8-sig")),
    "pandas UTF-16": ("csv", lambda path: in_pandas().to_csv(path, encoding="utf-16")),
    "pandas TSV": ("tsv", lambda path: in_pandas().to_csv(path, sep="\t")),
    "pandas JSON": ("json", lambda path: in_pandas().to_json(path, orient="records")),
    "pandas JSON lines": ("jsonl", lambda path: in_pandas().to_json(path, orient="records", lines=True)),
    "pandas Parquet": ("parquet", lambda path: in_pandas().to_parquet(path)),
    "pandas Parquet, its index": ("parquet", lambda path: in_pandas().set_index("url").to_parquet(path)),
    "pandas Parquet, sorted": ("parquet", lambda path: in_pandas()[::-1].sort_values("url").to_parquet(path)),
    "polars CSV": ("csv", lambda path: in_polars().write_csv(path)),
    "polars CSV, all quoted": ("csv", lambda path: in_polars().write_csv(path, quote_style="always")),
    "polars JSON": ("json", lambda path: in_polars().write_json(path)),
    "polars JSON lines": ("ndjson", lambda path: in_polars().write_ndjson(path)),
    "polars Parquet zstd": ("parquet", lambda path: in_polars().write_parquet(path, compression="zstd")),
    "polars Parquet lz4": ("parquet", lambda path: in_polars().write_parquet(path, compression="lz4")),
    "DuckDB CSV": ("csv", by_duckdb("FORMAT csv")),
    "DuckDB with bars": ("csv", by_duckdb("FORMAT csv, DELIMITER '|', HEADER")),
    "DuckDB, all quoted": ("csv", by_duckdb("FORMAT csv, FORCE_QUOTE *")),
    "DuckDB JSON": ("json", by_duckdb("FORMAT json, ARRAY true")),
    "DuckDB JSON lines": ("json", by_duckdb("FORMAT json")),
    "DuckDB Parquet snappy": ("parquet", by_duckdb("FORMAT parquet, COMPRESSION snappy")),
    "DuckDB Parquet gzip": ("parquet", by_duckdb("FORMAT parquet, COMPRESSION gzip")),
    "DuckDB Parquet v2": ("parquet", by_duckdb("FORMAT parquet, PARQUET_VERSION v2")),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_rows_are_the_same_whoever_wrote_them(writer: str, tmp_path: Path) -> None:
    suffix, write = WRITERS[writer]
    path = tmp_path / f"table.{suffix}"
    write(path)
    with path.open("rb") as file:
        table = open_table(file, TableOptions(key_column="id"), name=path.name)
        rows = list(table.rows())
    assert [row.url for row in rows] == [A, B, C]
    assert [row.key for row in rows] == ["7", "8", None]
    assert [row.metadata for row in rows] == ROWS
    assert {note.code for note in table.notes} <= {"columns_left_out"}


@pytest.mark.parametrize("library", ["pandas", "polars", "DuckDB"])
def test_cells_that_only_parquet_has(library: str, tmp_path: Path) -> None:
    at = datetime(2024, 1, 1, 12, tzinfo=ZURICH)
    columns: dict[str, list[Any]] = {
        "url": [A],
        "colours": [["red", "blue"]],
        "image": [{"bytes": b"\xff\xd8", "path": "a.jpg"}],
        "raw": [b"\xff\xd8"],
        "at": [at],
        "local": [datetime(2024, 1, 1, 12, 0, 0, 500)],
        "day": [date(2024, 1, 1)],
        "clock": [time(1, 2, 3)],
        "took": [timedelta(seconds=90)],
    }
    path = tmp_path / "table.parquet"
    if library == "pandas":
        pd.DataFrame(columns).to_parquet(path)
    elif library == "polars":
        pl.DataFrame(columns).write_parquet(path)
    else:
        frame = pl.DataFrame(columns).drop("took").to_arrow()
        with duckdb.connect() as connection:
            connection.register("frame", frame)
            connection.execute(f"COPY (SELECT *, 90.0 AS took FROM frame) TO '{path}' (FORMAT parquet)")
    with path.open("rb") as file:
        table = open_table(file, TableOptions())
        assert metadata(table) == [
            {
                "colours": ["red", "blue"],
                "image": '{"path": "a.jpg"}',
                "at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "local": "2024-01-01T12:00:00.0005",
                "day": "2024-01-01",
                "clock": "01:02:03",
                "took": 90,
            }
        ]
        assert notes(table) == [("columns_left_out", 1), ("values_as_text", 1)]


@pytest.mark.parametrize(
    ("suffix", "write", "says"),
    [
        ("csv", by_duckdb("FORMAT csv, HEADER false"), "must name the columns"),
        ("arrow", lambda path: in_polars().write_ipc(path), "save it as Parquet or CSV"),
        ("parquet", lambda path: pl.DataFrame({"x": [1]}, {"x": pl.Int128}).write_parquet(path), "of a type"),
    ],
    ids=["no names", "Feather", "128 bits"],
)
def test_what_cannot_be_read_says_what_to_do(suffix: str, write: Write, says: str, tmp_path: Path) -> None:
    path = tmp_path / f"table.{suffix}"
    write(path)
    with path.open("rb") as file, pytest.raises(InvalidRequest, match=says):
        open_table(file, TableOptions(), name=path.name)
