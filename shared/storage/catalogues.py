"""The catalogues of sources: what a listing has, and what its source has brought. Parquet files.

An entry is the same in two catalogues if its `entry` is: the hash of its key, or without one of its URL.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from shared.formats import FIELD, check_format
from shared.models import Note
from shared.storage.blobs import Blobs
from shared.validation import nfc

FORMAT = 1
MAX_ROWS = 16_384
_NOTES = b"notes"

# `place` counts from 0; `said` is the hash of all that the listing says of the entry but the stamp.
LISTED = pa.schema(
    [
        pa.field("entry", pa.binary(16)),
        pa.field("place", pa.int64()),
        pa.field("said", pa.binary(16)),
        pa.field("key", pa.string()),
        pa.field("url", pa.string()),
        pa.field("metadata", pa.string()),  # JSON
        pa.field("stamp", pa.string()),
        pa.field("error", pa.string()),
    ]
)
# An entry has one row that is `sure`, its present image's; others are of images that a sync which was
# cancelled, or failed with it, may have brought under it.
BROUGHT = pa.schema(
    [
        pa.field("entry", pa.binary(16)),
        pa.field("said", pa.binary(16)),
        pa.field("key", pa.string()),
        pa.field("url", pa.string()),
        pa.field("stamp", pa.string()),
        pa.field("image_id", pa.binary(32)),
        pa.field("sure", pa.bool_()),
        pa.field("said_of", pa.binary(16)),
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.string()),
    ]
)


def entry_hash(url: str, key: str | None) -> bytes:
    return _digest(f"url {url}" if key is None else f"key {nfc(key)}")


def said_hash(url: str, key: str | None, metadata: str) -> bytes:
    return _digest(json.dumps([url, key and nfc(key), metadata]))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def write_catalogue(
    blobs: Blobs, key: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], notes: Iterable[Note] = ()
) -> None:
    """Write a catalogue, which appears whole or not at all, with what there is to note of it."""
    told = json.dumps([[note.code, note.detail, note.count] for note in notes])
    schema = schema.with_metadata({FIELD: str(FORMAT), _NOTES.decode(): told})
    with (
        blobs.open_write(key) as file,
        parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer,
    ):
        for batch in batches:
            writer.write_table(pa.table(batch).cast(schema))


def read_catalogue(blobs: Blobs, key: str, schema: pa.Schema, rows: int = MAX_ROWS) -> Iterator[pa.Table]:
    """Yield a catalogue's rows, up to `rows` at once. Raises KeyError without it, and NewerFormat."""
    with _opened(blobs, key) as file:
        for batch in file.iter_batches(batch_size=rows, use_threads=False):
            yield pa.table(batch).replace_schema_metadata(None).cast(schema)


def count_rows(blobs: Blobs, key: str) -> int:
    """Return how many rows a catalogue has; 0 without it. Raises NewerFormat."""
    with suppress(KeyError), _opened(blobs, key) as file:
        return int(file.metadata.num_rows)
    return 0


def read_notes(blobs: Blobs, key: str) -> list[Note]:
    """Return what was noted of a catalogue. Raises KeyError without it, and NewerFormat."""
    with _opened(blobs, key) as file:
        written = (file.schema_arrow.metadata or {}).get(_NOTES, b"[]")
    return [Note(*fields) for fields in json.loads(written)]


@contextmanager
def _opened(blobs: Blobs, key: str) -> Iterator[Any]:
    with blobs.open_read(key) as file, parquet.ParquetFile(file) as catalogue:
        found = (catalogue.schema_arrow.metadata or {}).get(FIELD.encode(), b"1")
        check_format(int(found), FORMAT, "A source's catalogue")
        yield catalogue
