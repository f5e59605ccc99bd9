"""A collection as Parquet: one row per image, with all that is known of it.

Columns, in any order: `id`, `vector` (a fixed-size list of float32, of length 1), every field of models.Image
but its jobs, which elsewhere mean nothing (times in seconds since the epoch; `metadata` is a JSON object as a
string) and, if asked for, `thumbnail` (a WebP file) and `rendition` (a JPEG; in earlier versions WebP). A
field that an Image may lack may be absent or null. The file's own metadata has, under HEADER, a JSON object
with the fields of Header.
"""

import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import MISSING, asdict, dataclass, field, fields
from types import NoneType, UnionType
from typing import IO, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from shared.errors import FieldError, InvalidRequest
from shared.formats import check_format
from shared.models import MAX_KEY, PHASH, RANGES, Image, JsonObject, in_range
from shared.urls.redaction import redacted
from shared.validation import MAX_SOURCE, metadata_faults

HEADER = b"image_search"
FORMAT = 1
MAX_GROUP_ROWS = 16_384
MAX_GROUP_BYTES = 512 * 2**20
MAX_LIST = 1_000
MAX_DIMENSION = 8_192
UNIT_TOLERANCE = 1e-2

FileColumn = Literal["thumbnail", "rendition"]
FILE_COLUMNS: tuple[FileColumn, ...] = get_args(FileColumn)
_ID = re.compile(r"[0-9a-f]{64}")
_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    list[str]: pa.list_(pa.string()),
}
# What pyarrow raises for a file that is not what it says: its own errors derive from these two as well.
_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError)


def _type(hint: Any) -> pa.DataType | None:
    """Return the Arrow type of a field, optional or not; None for one that travels as JSON."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
    return _TYPES.get(hint)


_FIELDS = {name: _type(hint) for name, hint in get_type_hints(Image).items() if name != "jobs"}
_COLUMNS = {name: kind or pa.string() for name, kind in _FIELDS.items()}
_OPTIONAL = frozenset(
    one.name for one in fields(Image) if one.default is not MISSING or one.default_factory is not MISSING
)


@dataclass(frozen=True, slots=True)
class Header:
    """Where a file comes from: `fingerprint` names the model's weights, as a collection's does."""

    collection: str
    model: str
    fingerprint: str
    dimension: int
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Row:
    """One image: `vector` is float32 (dimension,); `files` are those of FILE_COLUMNS that it has."""

    image: Image
    vector: NDArray[np.float32]
    files: dict[str, bytes] = field(default_factory=dict)


def write_part(file: IO[bytes], header: Header, rows: Sequence[Row], files: Sequence[str]) -> None:
    """Write one row group, with a column for each of `files`."""
    schema = _schema(header, files)
    images = [_values(row.image) for row in rows]
    columns = {name: [values[name] for values in images] for name in _COLUMNS}
    columns |= {name: [row.files.get(name) for row in rows] for name in files}
    vectors = np.stack([row.vector for row in rows]) if rows else np.empty((0, header.dimension), np.float32)
    arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
    arrays["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), header.dimension)
    table = pa.table([arrays[name] for name in schema.names], schema=schema)
    with _writer(file, schema) as writer:
        writer.write_table(table, row_group_size=MAX_GROUP_ROWS)


def joined(parts: Iterable[AbstractContextManager[IO[bytes]]]) -> Iterator[bytes]:
    """Yield the bytes of one file with the rows of all `parts`, of one schema; memory holds one row group."""
    sink = _Sink()
    writer = None
    for part in parts:
        with part as opened:
            source = parquet.ParquetFile(opened)
            writer = writer or _writer(sink, source.schema_arrow)
            for group in range(source.num_row_groups):
                writer.write_table(source.read_row_group(group, use_threads=False))
                yield sink.drain()
    if writer is not None:
        writer.close()
    yield sink.drain()


class Source:
    """A Parquet file that may come from anybody.

    Raises InvalidRequest, with a pointer to the column, for one that cannot be an export, and NewerFormat.
    """

    def __init__(self, file: IO[bytes]) -> None:
        try:
            self._file = parquet.ParquetFile(file, pre_buffer=False)
            schema = self._file.schema_arrow
            groups = [self._file.metadata.row_group(n) for n in range(self._file.num_row_groups)]
        except _BROKEN:
            raise InvalidRequest("The file is not Parquet, or is damaged.") from None
        self.header = _header(schema)
        _check_schema(schema, self.header)
        self.group_rows = [group.num_rows for group in groups]
        if any(g.num_rows > MAX_GROUP_ROWS or g.total_byte_size > MAX_GROUP_BYTES for g in groups):
            raise InvalidRequest(
                f"A row group has more than {MAX_GROUP_ROWS:,} rows or {MAX_GROUP_BYTES // 2**20} MiB; write "
                "the file again with smaller row groups."
            )

    def read(self, start: int, stop: int) -> list[Row | str]:
        """Return rows `start` to `stop` (exclusive); a string says what is wrong with one."""
        rows: list[Row | str] = []
        first = 0
        for group, count in enumerate(self.group_rows):
            wanted = slice(max(start - first, 0), min(stop - first, count))
            if wanted.start < wanted.stop:
                rows += self._read_group(group, wanted)
            first += count
        return rows

    def _read_group(self, group: int, wanted: slice) -> list[Row | str]:
        try:
            table = self._file.read_row_group(group, use_threads=False)
            table = table.slice(wanted.start, wanted.stop - wanted.start).combine_chunks()
        except _BROKEN:
            return ["The row's part of the file is damaged."] * (wanted.stop - wanted.start)
        return [row for record in _records(table, self.header) for row in [_row(record, self.header)]]


def _values(image: Image) -> JsonObject:
    """Return an image's fields as the columns hold them."""
    values = asdict(image)
    return {
        name: json.dumps(values[name]) if kind is None else values[name] for name, kind in _FIELDS.items()
    }


def _schema(header: Header, files: Sequence[str]) -> pa.Schema:
    columns = {"id": pa.string(), "vector": pa.list_(pa.float32(), header.dimension), **_COLUMNS}
    columns |= dict.fromkeys(files, pa.binary())
    return pa.schema(list(columns.items()), metadata={HEADER: json.dumps(asdict(header)).encode()})


def _writer(file: Any, schema: pa.Schema) -> Any:
    # Vectors and WebP files do not repeat: dictionaries would only cost time.
    return parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=["format"])


def _header(schema: pa.Schema) -> Header:
    try:
        given = json.loads((schema.metadata or {})[HEADER])
        check_format(given["format"], FORMAT, "The export")
        header = Header(**{one.name: given[one.name] for one in fields(Header)})
    except (KeyError, ValueError, TypeError, OverflowError):
        raise InvalidRequest("The Parquet file is no export: its header is missing.") from None
    texts = all(isinstance(text, str) for text in (header.collection, header.model, header.fingerprint))
    known = header.format in range(1, FORMAT + 1) and header.dimension in range(1, MAX_DIMENSION + 1)
    if not (texts and known):
        raise InvalidRequest("The Parquet file's header is malformed.")
    return header


def _check_schema(schema: pa.Schema, header: Header) -> None:
    known = _schema(header, FILE_COLUMNS)
    faults: list[FieldError] = []
    for name in dict.fromkeys([*schema.names, *known.names]):
        if fault := _column_fault(name, schema, known):
            faults.append({"pointer": f"/columns/{name}", "message": fault})
    if faults:
        first = faults[0]
        raise InvalidRequest(f"The file's columns are not those of an export: {first['message']}.", faults)


def _column_fault(name: str, schema: pa.Schema, known: pa.Schema) -> str | None:
    if name not in known.names:
        return f"{name!r:.80} is an unknown column"
    if name not in schema.names:
        return None if name in _OPTIONAL or name in FILE_COLUMNS else f"the column {name!r} is missing"
    if schema.names.count(name) > 1:
        return f"the column {name!r} is there twice"
    found, expected = schema.field(name).type, known.field(name).type
    return None if found == expected else f"the column {name!r} is {found}, not {expected}"


def _records(table: Any, header: Header) -> list[JsonObject | None]:
    """Return the plain values of each row; None for one that cannot be read, found by halving."""
    try:
        return _plain(table, header)
    except _BROKEN:
        if table.num_rows == 1:
            return [None]
    middle = table.num_rows // 2
    return _records(table.slice(0, middle), header) + _records(table.slice(middle), header)


def _plain(table: Any, header: Header) -> list[JsonObject | None]:
    vectors = np.full((table.num_rows, header.dimension), np.nan, np.float32)
    column = pa.concat_arrays(table.column("vector").chunks) if table.num_rows else None
    if column is not None:
        present = column.is_valid().to_numpy(zero_copy_only=False)
        vectors[present] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, header.dimension)
    rest: list[JsonObject] = table.drop_columns(["vector"]).to_pylist()
    return [record | {"vector": vector} for record, vector in zip(rest, vectors, strict=True)]


def _row(record: JsonObject | None, header: Header) -> Row | str:
    if record is None:
        return "The row cannot be read."
    values = {name: record[name] for name in _COLUMNS if record.get(name) is not None}
    try:
        values |= {name: json.loads(value) for name, value in values.items() if _FIELDS[name] is None}
    except (ValueError, RecursionError):
        return "A column that must hold JSON does not."
    for name in _COLUMNS:
        if fault := _fault(name, values.get(name)):
            return f"{name}: {fault}."
    if not abs(float(np.linalg.norm(record["vector"])) - 1) < UNIT_TOLERANCE:  # false for NaN too
        return "vector: it must be of finite numbers and of length 1."
    values["source"] = redacted(values["source"])
    values["sources"] = list(dict.fromkeys(map(redacted, values["sources"])))
    names = [name for name in FILE_COLUMNS if record.get(name) is not None]
    return Row(Image(**values), record["vector"], {name: record[name] for name in names})


def _fault(name: str, value: Any) -> str | None:
    """Return what is wrong with a field's value, of its column's type or None for an absent one."""
    if value is None:
        return None if name in _OPTIONAL else "it is missing"
    if name == "id" and not _ID.fullmatch(value):
        return "it must be the SHA-256 of the picture's file, 64 lower-case hex digits"
    if name == "phash" and not PHASH.fullmatch(value):
        return "it must be 16 lower-case hex digits"
    if name in RANGES and not in_range(name, value):
        return "it must be from {:,} to {:,}".format(*RANGES[name])
    if name == "keys" and not all(one and len(one) <= MAX_KEY for one in value):
        return f"each must have 1 to {MAX_KEY} characters"
    return _metadata_fault(value) if name == "metadata" else _value_fault(value)


def _metadata_fault(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "it must be a JSON object"
    return next((f"{fault['pointer']} {fault['message']}" for fault in metadata_faults(value)), None)


def _value_fault(value: Any) -> str | None:
    match value:
        case str() if len(value) > MAX_SOURCE:
            return f"it has more than {MAX_SOURCE} characters"
        case float() if not math.isfinite(value):
            return "it must be a finite number"
        case list() if len(value) > MAX_LIST or not all(isinstance(one, str) for one in value):
            return f"it must be a list of at most {MAX_LIST} strings"
        case list() if any(len(one) > MAX_SOURCE for one in value):
            return f"one of its strings has more than {MAX_SOURCE} characters"
    return None


class _Sink(io.RawIOBase):
    """A file for writing that keeps what was written since the last `drain`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def drain(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
