"""Reads a Parquet file in a process of its own, whose memory and time the kernel limits.

Its arguments are PLACES and ROWS, its standard input is the file. It writes frames: a Header where PLACES is
null, else Batches of the columns at these places, no more than ROWS rows whatever the file says; a Failure or
an End is the last.
"""

import gc
import json
import os
import pickle
import resource
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import IO, Any

import pyarrow as pa
from pyarrow import parquet

from shared.tables.arrow_cells import Cells, leaves
from shared.tables.parquet import FRAME, Batch, End, Failure, Header
from shared.tables.rows import MAX_COLUMNS
from shared.validation import MAX_METADATA_BYTES

MEMORY_BYTES = 768 * 2**20  # of the whole process
MAX_FRAME_BYTES = 8 * 2**20
_CPU_S, _CELLS_PER_CPU_S = 60, 10**6
_BATCH_BYTES = 8 * 2**20  # as the file says: decoded they may be more
_LEAST_ROWS, _MOST_ROWS = 16, 2_048  # of a batch
_DECODED_BYTES = 16 * 2**30
_LEAVE_OUT = "leave out its columns of large values"
_READ_BYTES = 2**20
_WEIGHT = 16  # of what is no text, in characters
_SIZED = (str, list, dict)
_TOO_LONG = "…" * (MAX_METADATA_BYTES + 1)


def main() -> None:
    """Read the file that is standard input."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get into the frames
    places, rows = json.loads(sys.argv[1]), int(sys.argv[2])
    gc.disable()  # it would look through millions of lists again and again, and nothing is in a circle
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, _CPU_S + rows * len(places or ()) // _CELLS_PER_CPU_S)
    _limit(resource.RLIMIT_DATA, MEMORY_BYTES)
    try:
        with pa.OSFile("/dev/fd/0") as source:  # opened again: its position is nobody else's
            file = parquet.ParquetFile(
                source, buffer_size=_READ_BYTES, pre_buffer=False, coerce_int96_timestamp_unit="us"
            )
            for frame in [_header(file)] if places is None else _batches(file, places, rows):
                _write(out, frame)
        last: Failure | End = End()
    except BrokenPipeError:
        os._exit(0)  # nobody wants the rest
    except MemoryError:
        last = Failure(
            f"takes more than {MEMORY_BYTES // 2**20} MiB of memory to read: {_LEAVE_OUT}, or write it again "
            "with smaller row groups and pages"
        )
    except pa.ArrowNotImplementedError:
        last = Failure(
            "has a column of a type, or a compression, that is not read: write it again without, or as CSV"
        )
    except _TooLarge as error:
        last = Failure(str(error))
    except Exception:  # whatever a damaged file leads a library to
        last = Failure("is damaged, cut off, encrypted, or nests too deeply")
    _send(out, pickle.dumps(last))


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)  # past which the process is killed without saying why
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _header(file: Any) -> Header:
    count, schema = file.metadata.num_columns, file.schema_arrow
    if count > MAX_COLUMNS:
        raise _TooLarge(f"has {count:,} columns; at most {MAX_COLUMNS:,} are read")
    of_bytes = {place for place, field in enumerate(schema) if not any(leaves(field.type))}
    return Header(schema.names, of_bytes, file.metadata.num_rows)


def _batches(file: Any, places: Sequence[int], rows: int) -> Iterator[Batch]:
    paths, numbers, come = _chosen(file, set(places))
    order = [come[place] for place in places]
    left = _DECODED_BYTES
    for group in range(file.num_row_groups):
        found = file.metadata.row_group(group)
        size = sum(found.column(number).total_uncompressed_size for number in numbers)
        usual = min(max(_BATCH_BYTES * found.num_rows // (size or 1), _LEAST_ROWS), _MOST_ROWS)
        done = 0
        for most in (usual, _LEAST_ROWS):
            try:
                for batch, decoded in _group(file, group, paths, order, most=most, skipped=done):
                    done += batch.rows
                    rows -= batch.rows
                    left -= decoded
                    if rows < 0:
                        raise ValueError
                    if left < 0:
                        raise _TooLarge(
                            f"has more than {_DECODED_BYTES // 2**30} GiB of values: {_LEAVE_OUT}"
                        )
                    yield batch
                break
            except MemoryError:  # where many rows have what the file has once
                if most == _LEAST_ROWS:
                    raise
    if rows:
        raise ValueError


def _group(
    file: Any, group: int, paths: list[str], order: list[int], *, most: int, skipped: int
) -> Iterator[tuple[Batch, int]]:
    """Yield a row group's rows but the first ones, and the bytes that it took to read them."""
    for batch in file.iter_batches(most, row_groups=[group], columns=paths, use_threads=False):
        if (count := batch.num_rows) > skipped:
            batch.validate()
            cells = Cells()
            columns = [cells.plain(batch.column(number)[skipped:]) for number in order]
            sizes = [0] * (count - skipped)
            for column in columns:
                _measure(column, sizes)
            yield Batch(count - skipped, columns, sizes, cells.replaced), batch.nbytes
        skipped = max(skipped - count, 0)


def _chosen(file: Any, places: set[int]) -> tuple[list[str], list[int], dict[int, int]]:
    """Return the paths of the leaves to read, their numbers, and where the columns at these places come.

    A path may stand for leaves of other columns as well, of the same name or with dots in theirs.
    """
    named = defaultdict(list)
    chosen: dict[str, int] = {}
    number = 0
    for place, field in enumerate(file.schema_arrow):
        for is_read in leaves(field.type):
            path = file.schema.column(number).path
            parts = path.split(".")
            for end in range(1, len(parts) + 1):
                named[".".join(parts[:end])].append(place)
            if is_read and place in places:
                chosen.setdefault(path, number)
            number += 1
    if number != file.metadata.num_columns:
        raise ValueError
    come = dict.fromkeys(place for path in chosen for place in named[path])
    return list(chosen), list(chosen.values()), {place: at for at, place in enumerate(come)}


def _measure(column: list[Any], sizes: list[int]) -> None:
    """Add the size of each cell; a nested one that is too long for metadata gives way to a simpler one."""
    for row, cell in enumerate(column):
        if cell.__class__ is str:
            sizes[row] += len(cell)
        elif isinstance(cell, list | dict):
            size = _size(cell)
            if size > _WEIGHT * MAX_METADATA_BYTES:
                column[row] = _too_long(cell)
                size = len(_TOO_LONG)
            sizes[row] += size


def _size(cell: str | list[Any] | dict[str, Any]) -> int:
    """Return at least the number of the cell's characters, and at most _WEIGHT times that of its JSON's."""
    if isinstance(cell, str):
        return len(cell)
    if isinstance(cell, dict):
        return sum(map(len, cell)) + _size(list(cell.values()))
    return _WEIGHT + sum(_size(one) if one.__class__ in _SIZED else _WEIGHT for one in cell)


def _too_long(cell: list[Any] | dict[str, Any]) -> list[Any] | dict[str, Any]:
    if isinstance(cell, dict):
        return {"": _TOO_LONG}
    return [[_TOO_LONG]] if any(isinstance(member, list | dict) for member in cell) else [_TOO_LONG]


def _write(out: IO[bytes], frame: Header | Batch) -> None:
    data = pickle.dumps(frame)
    if len(data) <= MAX_FRAME_BYTES:
        _send(out, data)
    elif isinstance(frame, Batch) and frame.rows > 1:
        half = frame.rows // 2
        for start, stop, replaced in ((0, half, frame.replaced), (half, frame.rows, 0)):
            columns = [column[start:stop] for column in frame.columns]
            _write(out, Batch(stop - start, columns, frame.sizes[start:stop], replaced))
    else:
        raise _TooLarge(
            f"has a row of over {MAX_FRAME_BYTES // 2**20} MiB: leave columns of large values out"
        )


def _send(out: IO[bytes], data: bytes) -> None:
    out.write(FRAME.pack(len(data)) + data)
    out.flush()


class _TooLarge(Exception):
    pass
