"""What a source has brought by the end of a sync: what it had before, and what became of the job's items.

As in the comparison, DuckDB has nothing that may be long: it tells which rows of the listing and of the
former catalogue count, and these are read beside it, in step.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from shared.models import ItemState, Job
from shared.services import Services
from shared.storage.blobs import brought_key, listing_key
from shared.storage.catalogues import BROUGHT, LISTED, entry_hash, write_catalogue
from shared.storage.manifest import SEGMENT_ITEMS, read_items, read_results
from shared.storage.validators import OF_URLS, read_validators
from worker.database import Database, numbered, opened
from worker.syncs.comparison import NUMBERED, Row, rows_of

_KEPT = (ItemState.INDEXED, ItemState.DUPLICATE, ItemState.UNCHANGED, ItemState.UPDATED)
_ITEMS = 16_384  # that are held at once
_URL = "md5_number(unhex(left(sha256(url), 32))) AS url"  # as OF_URLS have it

_ENDED = pa.schema(
    [
        pa.field("item", pa.int64()),
        pa.field("entry", pa.binary(16)),
        pa.field("url", pa.string()),
        pa.field("good", pa.bool_()),
        pa.field("found", pa.binary(32)),
    ]
)
_ASKED = OF_URLS.append(pa.field("place", pa.int64()))
_GONE = pa.schema([pa.field("entry", pa.binary(16))])

_BRING = """
CREATE TABLE latest AS SELECT url, max(place) AS place FROM asked GROUP BY url;
CREATE TABLE told AS SELECT asked.* EXCLUDE (place) FROM asked JOIN latest USING (url, place);
CREATE TABLE good AS
    SELECT item, ended.entry, ended.url, coalesce(found, image_id) AS image_id,
        coalesce(ended.url = before.url AND coalesce(found, image_id) = image_id, false) AS same,
        said_of, etag, last_modified
    FROM ended LEFT JOIN (FROM brought WHERE sure) AS before USING (entry)
    WHERE good AND coalesce(found, image_id) IS NOT NULL;
"""
# What a picture, or a URL, was asked for with is its own. An image that was found for an item that did not
# come to a good end may be in the collection all the same: it is kept in mind, for the next sync to put in
# order.
_NOW = """
SELECT item, true AS sure, good.image_id,
    CASE WHEN told.url IS NOT NULL THEN told.said_of WHEN same THEN good.said_of END AS said_of,
    CASE WHEN told.url IS NOT NULL THEN told.etag WHEN same THEN good.etag END AS etag,
    CASE WHEN told.url IS NOT NULL THEN told.last_modified WHEN same THEN good.last_modified END
        AS last_modified
FROM good LEFT JOIN told ON told.url = good.url AND told.image_id = good.image_id
UNION ALL
SELECT item, false, found, NULL, NULL, NULL
FROM ended ANTI JOIN good USING (item) ANTI JOIN brought ON brought.entry = ended.entry AND image_id = found
WHERE found IS NOT NULL
ORDER BY item
"""
_LEFT = "SELECT place FROM brought ANTI JOIN good USING (entry) ANTI JOIN gone USING (entry) ORDER BY place"


def write_brought(services: Services, job: Job, source: str) -> None:
    """Write what the source has brought; done again, it writes the same."""
    blobs = services.blobs
    with opened(job.job_id) as database:
        outcomes = _outcomes(services, job)
        known = numbered(rows_of(blobs, brought_key(source), BROUGHT))
        columns = f"md5_number(entry) AS entry, place, image_id, sure, {_URL}, said_of, etag, last_modified"
        database.load("brought", NUMBERED, known, columns)
        told = "md5_number(url) AS url, place, image_id, said_of, etag, last_modified"
        database.load("asked", _ASKED, numbered(read_validators(blobs, job.job_id)), told)
        ended = _ended(rows_of(blobs, listing_key(job.job_id), LISTED), outcomes)
        database.load("ended", _ENDED, ended, f"item, md5_number(entry) AS entry, {_URL}, good, found")
        database.load("gone", _GONE, _gone(services, job, outcomes), "md5_number(entry) AS entry")
        database.execute(_BRING)
        rows = chain(_now(services, job, database), _left(services, source, database))
        write_catalogue(blobs, brought_key(source), BROUGHT, rows)


def _outcomes(services: Services, job: Job) -> Iterator[tuple[ItemState, bytes | None]]:
    """Yield the state of each of the job's items, and the image that was found for it."""
    size = max(_ITEMS // job.chunk_size, 1) * job.chunk_size
    for start in range(0, job.total, size):
        held, _ = services.ledger.items(job.job_id, None, start, size)
        found = {}
        if any(state is not ItemState.UNCHANGED for _, state in held):  # whose image is the one that it was
            found = read_results(services.blobs, job.job_id, job.chunk_size, start, start + len(held))
        for index, state in held:
            image_id = found[index].image_id if index in found else None
            yield state, bytes.fromhex(image_id) if image_id else None


def _ended(
    listed: Iterator[pa.Table], outcomes: Iterator[tuple[ItemState, bytes | None]]
) -> Iterator[pa.Table]:
    first = 0
    for table in listed:
        ended = list(islice(outcomes, len(table)))
        yield pa.table(
            [
                pa.array(range(first, first + len(table)), pa.int64()),
                table["entry"],
                table["url"],
                pa.array([state in _KEPT for state, _ in ended]),
                pa.array([image for _, image in ended], pa.binary(32)),
            ],
            schema=_ENDED,
        )
        first += len(table)


def _gone(
    services: Services, job: Job, outcomes: Iterator[tuple[ItemState, bytes | None]]
) -> Iterator[pa.Table]:
    """Yield what was removed, or was not there, of what the items past the listing's were to remove."""
    left = [state in (ItemState.REMOVED, ItemState.UNCHANGED) for state, _ in outcomes]
    first = job.total - len(left)
    for start in range(first, job.total, SEGMENT_ITEMS):
        items = read_items(services.blobs, job.job_id, start, min(start + SEGMENT_ITEMS, job.total))
        ended = zip(items, left[start - first :], strict=False)
        hashes = [entry_hash(item.url or "", item.key) for item, is_gone in ended if is_gone]
        yield pa.table([pa.array(hashes, pa.binary(16))], schema=_GONE)


def _now(services: Services, job: Job, database: Database) -> Iterator[pa.RecordBatch]:
    """Yield a row for each item that has an image, with what the listing says of it."""
    found = chain.from_iterable(batch.to_pylist() for batch in database.read(_NOW))
    following: Row | None = next(found, None)
    item = 0
    for table in rows_of(services.blobs, listing_key(job.job_id), LISTED):
        rows: list[dict[str, Any]] = []
        for listed in table.select(["entry", "said", "key", "url", "stamp"]).to_pylist():
            if following is not None and following["item"] == item:
                rows.append({**listed, **following} | ({} if following["sure"] else {"stamp": None}))
                following = next(found, None)
            item += 1
        yield from pa.Table.from_pylist(rows, BROUGHT).to_batches()


def _left(services: Services, source: str, database: Database) -> Iterator[pa.RecordBatch]:
    """Yield the former rows that stay."""
    places = chain.from_iterable(batch["place"].to_pylist() for batch in database.read(_LEFT))
    following = next(places, None)
    place = 0
    for table in rows_of(services.blobs, brought_key(source), BROUGHT):
        kept = []
        for _ in range(len(table)):
            kept.append(following == place)
            following = next(places, None) if following == place else following
            place += 1
        yield from table.filter(pa.array(kept, pa.bool_())).to_batches()
