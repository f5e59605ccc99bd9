"""A DuckDB database in a temporary folder: lists of millions of rows, compared in little memory.

Rows come and go as streams; the folder is deleted at the end, or by whoever comes next.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

MEMORY_LIMIT = "128MiB"
ROWS = 64 * 1024  # of one batch on its way
BATCH_BYTES = 8 * 2**20  # about as much, where rows are long
_PREFIX = "image-search-join-"

Failed = (duckdb.Error, OSError)


class Database:
    """Tables that are loaded from streams; `check` is called at each of their parts, and may raise."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, check: Callable[[], None]) -> None:
        self._connection = connection
        self._check = check

    def load(self, name: str, schema: pa.Schema, tables: Iterable[pa.Table], columns: str = "*") -> None:
        """Make a table of `columns` of Arrow tables. Raises what they raise, and one of Failed."""
        stream = _Stream(schema, self._checked(tables))
        self._connection.register("stream", pa.RecordBatchReader.from_batches(schema, stream.batches()))
        try:
            self._connection.execute(f"CREATE TABLE {name} AS SELECT {columns} FROM stream")  # noqa: S608 - ours
        except duckdb.Error:
            if stream.failure is None:
                raise
            raise stream.failure from None  # DuckDB makes an error of its own of any other
        self._connection.unregister("stream")

    def execute(self, statements: str) -> None:
        self._connection.execute(statements)

    def read(self, query: str, rows: int = ROWS) -> pa.RecordBatchReader:
        """Return a query's rows as a stream, `rows` in a batch; one at a time."""
        return self._connection.sql(query).to_arrow_reader(rows)

    def first(self, query: str) -> tuple[Any, ...]:
        """Return the first row of a query that has one."""
        found: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
        return found[0]

    def _checked(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            self._check()
            yield table


@contextmanager
def opened(name: str, check: Callable[[], None] = lambda: None) -> Iterator[Database]:
    """Open an empty database; `name` helps to tell its folder from others'. Raises one of Failed."""
    config: dict[str, Any] = {"memory_limit": MEMORY_LIMIT, "threads": 1, "preserve_insertion_order": False}
    with _folder(name) as folder, duckdb.connect(folder / "join.duckdb", config=config) as connection:
        yield Database(connection, check)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """Make a folder of this process's own, locked while it is used: what is not is what a killed one left."""
    clear_left()
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}{name}-"))
    folder = made.with_name(made.name[1:])
    with _locked(made):
        made.rename(folder)  # before that nobody takes it for what a killed one left
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def clear_left() -> None:
    """Delete the folders of processes that were killed, whether or not others have use for theirs."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError), _locked(folder):  # else another's
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which a process gives up when it is killed. Raises OSError."""
    descriptor = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def numbered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Add a column `place`, which counts the rows of all tables from 0."""
    place = 0
    for table in tables:
        yield table.append_column("place", pa.array(range(place, place + len(table)), pa.int64()))
        place += len(table)


class _Stream:
    """Small tables, joined to batches that are worth a turn; `failure` is why there are no more of them."""

    def __init__(self, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
        self._schema = schema
        self._tables = tables
        self.failure: Exception | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        try:
            waiting, count, size = [self._schema.empty_table()], 0, 0
            for table in self._tables:
                waiting.append(table)
                count += len(table)
                size += table.nbytes
                if count >= ROWS or size >= BATCH_BYTES:
                    yield from self._joined(waiting)
                    waiting, count, size = [], 0, 0
            if waiting:
                yield from self._joined(waiting)
        except Exception as error:
            self.failure = error
            raise

    def _joined(self, tables: list[pa.Table]) -> Iterator[pa.RecordBatch]:
        yield from pa.concat_tables([one.cast(self._schema) for one in tables]).combine_chunks().to_batches()
