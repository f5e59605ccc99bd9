"""Parquet, as rows. A throwaway process reads it: a file may take any memory, or crash what reads it."""

import io
import json
import os
import pickle
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import IO, Any, NamedTuple

from shared.errors import InvalidRequest, RequestTooLarge, Unavailable
from shared.tables.rows import MAX_ROWS, Cell, Row

AT_ONCE = 4  # processes
MAX_CELLS = 50 * MAX_ROWS
MAX_CHARS = 4 * 2**30
# What a file of any size may have, and one of more bytes for each: values that repeat take next to nothing.
LEAST_CELLS, LEAST_CHARS = 20_000_000, 256 * 2**20
RATIO = 100
STALL_S = 60  # without a byte of the process, which counts the seconds that it computes itself
_READ_BYTES = 2**20
FRAME = struct.Struct("<I")  # the length of the pickle that follows
_READER = "from shared.tables.parquet_process import main; main()"
# Arrow's own heaps and its threads' stacks would count as memory that the file takes.
_FRUGAL = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "ARROW_IO_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}

_turns = threading.BoundedSemaphore(AT_ONCE)


class Header(NamedTuple):
    """What the file says of itself; `of_bytes` has the places of columns with nothing but bytes."""

    names: list[str]
    of_bytes: set[int]
    rows: int


class Batch(NamedTuple):
    """Cells of so many rows, by column; the rows' sizes (rows.Row); how many texts were no UTF-8."""

    rows: int
    columns: list[list[Any]]
    sizes: list[int]
    replaced: int


class Failure(NamedTuple):
    """Why the file cannot be read, as the end of a sentence about it."""

    fault: str


class End(NamedTuple):
    """All rows have been written."""


class ParquetRows:
    """The rows of a Parquet file (see rows.Rows); cells of columns in `unread` are None."""

    kind = "parquet"
    unit = "Row"
    typed = True

    def __init__(self, file: IO[bytes]) -> None:
        self._file = _on_disk(file)
        self._bytes = file.seek(0, os.SEEK_END)
        (header,) = _frames(self._file, None, 0)
        assert isinstance(header, Header)  # noqa: S101 - what the process writes where it is asked for no columns
        if header.rows > MAX_ROWS:
            raise RequestTooLarge(
                f"The table has {header.rows:,} rows; at most {MAX_ROWS:,} are taken: split it into several."
            )
        self._header = header
        self.names = header.names
        self.inner: set[int] = set()
        self.unread: Collection[int] = ()
        self.skipped = self.replaced = self.beyond = 0

    def __iter__(self) -> Iterator[Row]:
        self.skipped = self.replaced = 0
        wanted = set(range(len(self.names))) - set(self.unread)
        of_bytes = wanted & self._header.of_bytes
        places = sorted(wanted - of_bytes)
        most_cells = min(max(LEAST_CELLS, RATIO * self._bytes), MAX_CELLS)
        if (count := len(places) * self._header.rows) > most_cells:
            raise RequestTooLarge(
                f"The table has {count:,} cells; of a file of its size at most {most_cells:,} are read: "
                "leave columns out."
            )
        most_chars = min(max(LEAST_CHARS, RATIO * self._bytes), MAX_CHARS)
        number = chars = 0
        for batch in _frames(self._file, places, self._header.rows):
            assert isinstance(batch, Batch)  # noqa: S101 - as above
            self.replaced += batch.replaced
            chars += sum(batch.sizes)
            if chars > most_chars:
                raise RequestTooLarge(
                    f"The Parquet file unpacks to more than {most_chars:,} characters, far more than its "
                    "size: leave out columns of large values that repeat."
                )
            columns: list[Iterable[Cell]] = [
                repeat(b"" if n in of_bytes else None) for n in range(len(self.names))
            ]
            for place, column in zip(places, batch.columns, strict=True):
                columns[place] = column
            known = zip(*batch.columns, strict=True) if places else repeat((), batch.rows)
            for read, cells, size in zip(known, zip(*columns, strict=False), batch.sizes, strict=False):
                number += 1
                if read.count(None) < len(read):
                    yield Row(number, list(cells), size)
                else:
                    self.skipped += 1


def _on_disk(file: IO[bytes]) -> IO[bytes]:
    """Return the file, or a copy of one that is only in memory."""
    try:
        file.fileno()  # of a spooled file, writes it to the disk
    except (io.UnsupportedOperation, AttributeError):
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the rows are wanted
        file.seek(0)
        shutil.copyfileobj(file, copy)
        file = copy
    file.flush()
    return file


def _frames(file: IO[bytes], places: Sequence[int] | None, rows: int) -> Iterator[Header | Batch]:
    """Yield what the process writes (see parquet_process), which ends when nobody wants more of it."""
    command = [sys.executable, "-c", _READER, json.dumps(places), str(rows)]
    with (
        _turn(),
        subprocess.Popen(
            command,
            stdin=file.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | _FRUGAL,
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            while not isinstance(frame := _frame(process.stdout), End):
                if isinstance(frame, Failure):
                    raise InvalidRequest(f"The Parquet file {frame.fault}.")
                yield frame
        except (TimeoutError, EOFError) as error:
            slow = isinstance(error, TimeoutError) or process.wait(STALL_S) == -signal.SIGXCPU
            fault = (
                "takes too long to read: leave columns out, or split it"
                if slow
                else "is damaged, or takes too much memory to read: write it again with smaller row groups"
            )
            raise InvalidRequest(f"The Parquet file {fault}.") from None
        finally:
            process.kill()


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=STALL_S):
        raise Unavailable("Other Parquet files are being read; try again later.")
    try:
        yield
    finally:
        _turns.release()


def _frame(pipe: IO[bytes]) -> Header | Batch | Failure | End:
    (length,) = FRAME.unpack(_exactly(pipe, FRAME.size))
    frame: Header | Batch | Failure | End = pickle.loads(_exactly(pipe, length))  # noqa: S301 - of our own process
    return frame


def _exactly(pipe: IO[bytes], length: int) -> bytearray:
    """Read so many bytes. Raises EOFError when the process has ended before, TimeoutError when it stopped."""
    data = bytearray()
    ready = select.poll()
    ready.register(pipe, select.POLLIN)
    while len(data) < length:
        if not ready.poll(STALL_S * 1_000):
            raise TimeoutError
        if not (some := pipe.read(min(length - len(data), _READ_BYTES))):
            raise EOFError
        data += some
    return data
