"""With what each URL of a job was asked for, for a later job to ask again only for what has changed.

Parquet files beside the job's results, one for each delivery of a chunk, their rows in the order of the URL's
hash. Before a job with `since` asks, the rows of the earlier one are joined with its own items: a file for
each of its manifest's segments, in the order of the items (worker/stages/since.py).
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from shared.download.validators import Validators
from shared.formats import FIELD, check_format
from shared.models import Chunk
from shared.storage.blobs import Blobs, job_prefix
from shared.storage.manifest import SEGMENT_ITEMS

FORMAT = 1
_VALIDATORS = [
    pa.field("said_of", pa.binary(16)),
    pa.field("etag", pa.string()),
    pa.field("last_modified", pa.string()),
    pa.field("image_id", pa.binary(32)),
]
OF_URLS = pa.schema([pa.field("url", pa.binary(16)), *_VALIDATORS])
OF_ITEMS = pa.schema([pa.field("item", pa.int32()), *_VALIDATORS, pa.field("shared", pa.bool_())])


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an item's URL brought in the earlier job.

    `shared` where another item of the new job has the same image or key, `unsettled` where an older job of
    the collection is still at work: only the writer puts them in order.
    """

    image_id: str
    validators: Validators
    shared: bool = False
    unsettled: bool = False


def url_hash(url: str) -> bytes:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).digest()[:16]


def _of_urls(job_id: str) -> str:
    return f"{job_prefix(job_id)}validators/"


def _of_segment(job_id: str, segment: int) -> str:
    return f"{job_prefix(job_id)}since/{segment:06d}.parquet"


def write_validators(blobs: Blobs, chunk: Chunk, token: str, found: Mapping[str, Earlier]) -> None:
    """Record what URLs brought in one delivery of a chunk, by URL; before the ledger advances."""
    if not found:
        return
    rows = sorted((url_hash(url), one) for url, one in found.items())
    record = [
        {
            "url": url,
            "said_of": one.validators.at,
            "etag": one.validators.etag,
            "last_modified": one.validators.last_modified,
            "image_id": bytes.fromhex(one.image_id),
        }
        for url, one in rows
    ]
    name = f"{chunk.generation:04d}.{chunk.number:07d}.{chunk.attempt:02d}.{token}.parquet"
    blobs.put(_of_urls(chunk.job_id) + name, _file(pa.Table.from_pylist(record, OF_URLS)))


def read_validators(blobs: Blobs, job_id: str) -> Iterator[pa.Table]:
    """Yield the rows of a job, those of later tries last; none once it has expired. Raises NewerFormat."""
    yield from map(_table, blobs.get_each(blobs.list(_of_urls(job_id))))


def write_earlier(blobs: Blobs, job_id: str, segment: int, rows: Any) -> None:
    """Record, for one segment of the manifest, what its items had in the earlier job: a table OF_ITEMS."""
    blobs.put(_of_segment(job_id, segment), _file(rows))


def read_earlier(blobs: Blobs, job_id: str, start: int, stop: int) -> dict[int, Earlier]:
    """Return what items `start` to `stop` (exclusive) had in the earlier job, by index.

    Raises KeyError before it was recorded, and NewerFormat.
    """
    found: dict[int, Earlier] = {}
    for segment in range(start // SEGMENT_ITEMS, -(-stop // SEGMENT_ITEMS)):
        rows = _table(blobs.get(_of_segment(job_id, segment)))
        first, last = np.searchsorted(rows.column("item").to_numpy(), [start, stop])
        for row in rows.slice(first, last - first).to_pylist():
            validators = Validators(row["said_of"], row["etag"], row["last_modified"])
            found[row["item"]] = Earlier(row["image_id"].hex(), validators, row["shared"])
    return found


def _file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    table = table.replace_schema_metadata({FIELD: str(FORMAT)})
    parquet.write_table(table, sink, compression="zstd", use_dictionary=False)
    return sink.getvalue()


def _table(data: bytes) -> pa.Table:
    table = parquet.ParquetFile(io.BytesIO(data)).read(use_threads=False)
    found = (table.schema.metadata or {}).get(FIELD.encode(), b"1")
    check_format(int(found), FORMAT, "A job's record of what its URLs were asked for with")
    return table
