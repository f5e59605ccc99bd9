"""The join of a job's items with what their URLs brought in an earlier job: out of memory, in one go.

Both lists may have millions of rows, so DuckDB holds them, in a file that is deleted at the end, and little
memory; rows come and go as a stream.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import structlog

from shared.storage.blobs import Blobs
from shared.storage.manifest import SEGMENT_ITEMS, read_urls
from shared.storage.validators import OF_ITEMS, OF_URLS, read_validators, url_hash, write_earlier
from shared.validation import nfc
from worker.database import Failed, numbered, opened

_ASKED = pa.schema([("item", pa.int32()), ("url", pa.binary(16)), ("key", pa.binary(16))])

# Of a URL that stood in the earlier job twice, or was tried again, the last row counts.
_JOIN = """
CREATE TABLE latest AS SELECT url, max(place) AS place FROM known GROUP BY url;
CREATE TABLE found AS
    SELECT asked.item, asked.key, known.* EXCLUDE (url, place)
    FROM asked JOIN latest USING (url) JOIN known ON known.place = latest.place;
CREATE TABLE keys AS SELECT key FROM asked WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1;
CREATE TABLE images AS SELECT image_id FROM found GROUP BY image_id HAVING count(*) > 1;
"""
_FOUND = """
SELECT item, said_of, etag, last_modified, image_id,
    coalesce(key IN (FROM keys), false) OR image_id IN (FROM images) AS shared
FROM found ORDER BY item
"""

log = structlog.get_logger(__name__)


def join(
    blobs: Blobs, job_id: str, total: int, earlier: str, check: Callable[[], None] = lambda: None
) -> None:
    """Write what the job's `total` items had in the job `earlier`: nothing, once that has expired.

    Nothing, too, where there is no room for the lists: then all is downloaded. `check` is called at every
    file, and may raise.
    """
    segments = -(-total // SEGMENT_ITEMS)
    try:
        with _joined(blobs, job_id, total, earlier, check) as rows:
            for segment, table in enumerate(_by_segment(rows, segments)):
                check()
                write_earlier(blobs, job_id, segment, table)
    except Failed:
        check()  # another process may have cleared the folder away
        log.exception("lists_not_compared", job_id=job_id, since=earlier)
        give_up(blobs, job_id, total)


def give_up(blobs: Blobs, job_id: str, total: int) -> None:
    """Write that the job's items had nothing in the earlier job."""
    for segment in range(-(-total // SEGMENT_ITEMS)):
        write_earlier(blobs, job_id, segment, OF_ITEMS.empty_table())


@contextmanager
def _joined(
    blobs: Blobs, job_id: str, total: int, earlier: str, check: Callable[[], None]
) -> Iterator[pa.RecordBatchReader]:
    """Open the stream of the items that have a row in the earlier job, in their order."""
    with opened(job_id, check) as database:
        database.load(
            "known", OF_URLS.append(pa.field("place", pa.int64())), numbered(read_validators(blobs, earlier))
        )
        database.load("asked", _ASKED, _asked(blobs, job_id, total))
        database.execute(_JOIN)
        yield database.read(_FOUND)


def _asked(blobs: Blobs, job_id: str, total: int) -> Iterator[pa.Table]:
    for start in range(0, total, SEGMENT_ITEMS):
        rows = read_urls(blobs, job_id, start // SEGMENT_ITEMS)
        yield pa.table(
            [
                pa.array(range(start, start + len(rows)), pa.int32()),
                pa.array([url and url_hash(url) for url, _ in rows], pa.binary(16)),
                pa.array([key and _key_hash(key) for _, key in rows], pa.binary(16)),
            ],
            schema=_ASKED,
        )


def _key_hash(key: str) -> bytes:
    return hashlib.sha256(nfc(key).encode("utf-8", "surrogatepass")).digest()[:16]


def _by_segment(rows: Iterable[pa.RecordBatch], segments: int) -> Iterator[pa.Table]:
    """Yield the rows of each segment in turn, also of those that have none."""
    left = OF_ITEMS.empty_table()
    segment = 0
    for batch in rows:
        left = pa.concat_tables([left, pa.table(batch).cast(OF_ITEMS)])
        whole = left.column("item")[-1].as_py() // SEGMENT_ITEMS
        while segment < whole:
            here = _before(left, (segment + 1) * SEGMENT_ITEMS)
            yield left.slice(0, here)
            left, segment = left.slice(here), segment + 1
    for last in range(segment, segments):
        here = _before(left, (last + 1) * SEGMENT_ITEMS)
        yield left.slice(0, here)
        left = left.slice(here)


def _before(table: pa.Table, item: int) -> int:
    """Return how many of the table's first rows are of items before this one; they are in order."""
    return int(np.searchsorted(table.column("item").to_numpy(), item))
