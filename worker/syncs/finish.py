"""The end of a sync: what the source has brought by now, for the next one to compare its listing with.

It runs also after a sync was cancelled, and may run twice: what it writes follows from what stood there and
from what became of the job's items, and from what it has written follows the same.
"""

from collections.abc import Iterator

import pyarrow as pa

from shared.models import Claim, ItemState, Job, JobStatus
from shared.services import Services
from shared.sources.store import delete_source, source_exists
from shared.storage.blobs import brought_key, listing_key
from shared.storage.catalogues import BROUGHT, LISTED, entry_hash, write_catalogue
from shared.storage.manifest import read_items, read_results
from shared.storage.validators import OF_URLS, read_validators
from worker.database import Database, opened
from worker.stages.transition import end_chunk
from worker.syncs.comparison import rows_of
from worker.syncs.runs import WITHHELD, record_run

_ENDED = pa.schema(
    [pa.field("item", pa.int64()), pa.field("state", pa.string()), pa.field("found", pa.binary(32))]
)
_ITEMS = 16_384  # that are held at once
_GONE = pa.schema([pa.field("entry", pa.binary(16))])

# The items of entries are numbered as the listing has them. An image that was found for one that did not come
# to a good end may be in the collection all the same: it is kept in mind, for the next sync to put in order.
_BRING = """
CREATE TABLE entries AS
    SELECT * FROM (
        SELECT row_number() OVER (ORDER BY place) - 1 AS item, entry, said, key, url, stamp FROM listed
    ) JOIN ended USING (item);
CREATE TABLE latest AS
    SELECT url AS url_hash, arg_max(said_of, place) AS said_of, arg_max(etag, place) AS etag,
        arg_max(last_modified, place) AS last_modified, arg_max(image_id, place) AS image_id
    FROM asked GROUP BY url;
CREATE TABLE good AS
    SELECT entries.entry, entries.said, entries.key, entries.url, entries.stamp,
        coalesce(found, before.image_id) AS image_id,
        CASE WHEN latest.url_hash IS NOT NULL THEN latest.said_of ELSE same.said_of END AS said_of,
        CASE WHEN latest.url_hash IS NOT NULL THEN latest.etag ELSE same.etag END AS etag,
        CASE WHEN latest.url_hash IS NOT NULL THEN latest.last_modified ELSE same.last_modified END
            AS last_modified
    FROM entries
    LEFT JOIN (FROM brought WHERE sure) AS before
        ON before.entry = entries.entry
    LEFT JOIN (FROM brought WHERE sure) AS same  -- what the former picture was asked for with is its own
        ON same.entry = entries.entry AND same.url = entries.url
        AND same.image_id = coalesce(found, before.image_id)
    LEFT JOIN latest
        ON latest.url_hash = unhex(left(sha256(entries.url), 32))
        AND latest.image_id = coalesce(found, before.image_id)
    WHERE state IN ('indexed', 'duplicate', 'unchanged', 'updated')
        AND coalesce(found, before.image_id) IS NOT NULL;
CREATE TABLE left_over AS
    FROM brought WHERE entry NOT IN (SELECT entry FROM good) AND entry NOT IN (SELECT entry FROM gone);
"""
_BROUGHT = """
SELECT entry, said, key, url, stamp, image_id, true AS sure, said_of, etag, last_modified FROM good
UNION ALL FROM left_over
UNION ALL
SELECT entry, said, key, url, NULL, found, false, NULL, NULL, NULL
FROM entries
WHERE found IS NOT NULL AND entry NOT IN (SELECT entry FROM good)
    AND (entry, found) NOT IN (SELECT (entry, image_id) FROM left_over)
ORDER BY entry
"""


def finish(services: Services, claim: Claim) -> None:
    """Write what the source has brought and what the run came to; a source that was to go is then gone."""
    job, name = services.ledger.get(claim.chunk.job_id), claim.options["source"]
    withheld = next((note for note in job.notes if note.code == WITHHELD), None)
    went_well = job.status is not JobStatus.CANCELLED and not job.counts[ItemState.FAILED]
    if claim.options["removing"] and went_well:
        services.ledger.sources.unschedule(name)
        delete_source(services.blobs, name)
    elif source_exists(services.blobs, name):
        with opened(job.job_id) as database:
            _load(services, job, name, database)
            database.execute(_BRING)
            write_catalogue(services.blobs, brought_key(name), BROUGHT, database.read(_BROUGHT))
        record_run(
            services,
            claim,
            withheld=withheld.count if withheld else 0,
            detail=withheld.detail if withheld else None,
        )
    end_chunk(services, claim, [], complete=not withheld)


def _load(services: Services, job: Job, name: str, database: Database) -> None:
    blobs = services.blobs
    database.load("listed", LISTED, rows_of(blobs, listing_key(job.job_id), LISTED))
    database.load("brought", BROUGHT, rows_of(blobs, brought_key(name), BROUGHT))
    database.load("asked", OF_URLS.append(pa.field("place", pa.int64())), _asked(services, job))
    database.load("ended", _ENDED, _ended(services, job))
    (entries,) = database.first("SELECT count(*) FROM listed")
    database.load("gone", _GONE, _gone(services, job, entries))


def _asked(services: Services, job: Job) -> Iterator[pa.Table]:
    place = 0
    for table in read_validators(services.blobs, job.job_id):
        yield table.append_column("place", pa.array(range(place, place + len(table)), pa.int64()))
        place += len(table)


def _states(services: Services, job: Job) -> Iterator[tuple[int, list[ItemState]]]:
    """Yield the states of the job's items, a few chunks at a time, with the number of the first."""
    size = max(_ITEMS // job.chunk_size, 1) * job.chunk_size
    for start in range(0, job.total, size):
        held, _ = services.ledger.items(job.job_id, None, start, size)
        yield start, [state for _, state in held]


def _ended(services: Services, job: Job) -> Iterator[pa.Table]:
    for start, states in _states(services, job):
        found = {}
        if set(states) != {ItemState.UNCHANGED}:  # whose image is the one that it was
            span = (start, start + len(states))
            found = read_results(services.blobs, job.job_id, job.chunk_size, *span)
        images = [(one := found.get(start + i)) and one.image_id for i in range(len(states))]
        yield pa.table(
            [
                pa.array(range(start, start + len(states)), pa.int64()),
                pa.array([str(state) for state in states]),
                pa.array([image and bytes.fromhex(image) for image in images], pa.binary(32)),
            ],
            schema=_ENDED,
        )


def _gone(services: Services, job: Job, entries: int) -> Iterator[pa.Table]:
    """Yield what was removed, or was not there, of what the items past the listing's were to remove."""
    for start, states in _states(services, job):
        first = max(start, entries)
        stop = start + len(states)
        items = read_items(services.blobs, job.job_id, first, stop) if first < stop else []
        ended = zip(items, states[first - start :], strict=True) if items else ()
        hashes = [
            entry_hash(item.url or "", item.key)
            for item, state in ended
            if state in (ItemState.REMOVED, ItemState.UNCHANGED)
        ]
        yield pa.table([pa.array(hashes, pa.binary(16))], schema=_GONE)
