"""The comparison of a listing with what its source has brought: out of memory, whatever their lengths."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from tempfile import TemporaryFile
from typing import IO, Any

import pyarrow as pa

from shared.models import Note
from shared.storage.blobs import Blobs, brought_key, listing_key
from shared.storage.catalogues import (
    BROUGHT,
    LISTED,
    MAX_ROWS,
    entry_hash,
    read_catalogue,
    said_hash,
    write_catalogue,
)
from worker.database import Database, opened
from worker.listings.entries import Entry, Listing

_ROWS = 2_048  # of entries that are held as such

# What an entry says may be long, and DuckDB would have to hold much of it to store, sort or join it: its
# tables of little go beside a file that has all, row by row. Of an entry listed twice the last counts, of
# those that can be fetched if there are any.
_PLACES = pa.schema([LISTED.field(name) for name in ("entry", "place", "error")])
_KEPT = """
CREATE TABLE latest AS
    SELECT coalesce(max(place) FILTER (error IS NULL), max(place)) AS place FROM found GROUP BY entry;
CREATE TABLE kept AS
    SELECT found.place, latest.place IS NOT NULL AS kept FROM found LEFT JOIN latest USING (place);
"""
_COMPARED = "entry, place, said, md5(url) AS url, stamp"  # of LISTED
_COMPARE = """
CREATE TABLE images AS SELECT entry, list(image_id ORDER BY sure DESC) AS images FROM brought GROUP BY entry;
CREATE TABLE compared AS
    SELECT listed.place, image_id, images, said_of, etag, last_modified,
        coalesce(listed.url = md5(before.url), false) AS same_url,
        CASE WHEN image_id IS NULL THEN 'added'
             WHEN listed.said <> before.said OR listed.stamp IS DISTINCT FROM before.stamp THEN 'changed'
             WHEN listed.stamp IS NOT NULL THEN 'same'
             ELSE 'asked' END AS status
    FROM listed
    LEFT JOIN (FROM brought WHERE sure) AS before USING (entry)
    LEFT JOIN images USING (entry);
CREATE TABLE missing AS
    SELECT entry, arg_max(key, sure) AS key, arg_max(url, sure) AS url, list(image_id) AS images
    FROM brought WHERE entry NOT IN (SELECT entry FROM listed) GROUP BY entry;
"""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison; `known` counts what the source has brought, `missing` what of that is not listed.

    A row of `entries`, in the order of the listing, has the fields of LISTED but its hashes, the image and
    the validators that the entry had, and all `images` that it may have brought. Its `status` is `added`,
    `changed` (what the listing says of it), `same` (an object with the same stamp) or `asked` (a URL).
    """

    known: int
    missing: int
    _database: Database
    _listed: Callable[[], Iterator[pa.Table]]

    def entries(self) -> Iterator[list[Row]]:
        batches = self._database.read("SELECT * EXCLUDE (place) FROM compared ORDER BY place", _ROWS)
        compared = chain.from_iterable(batch.to_pylist() for batch in batches)
        for table in self._listed():
            rows = table.drop_columns(["entry", "said"]).to_pylist()
            yield [row | found for row, found in zip(rows, islice(compared, len(rows)), strict=True)]

    def gone(self) -> Iterator[list[Row]]:
        """Yield what is missing from the listing: `key`, `url` and `images`."""
        yield from (batch.to_pylist() for batch in self._database.read("FROM missing ORDER BY entry"))


def write_listing(blobs: Blobs, job_id: str, listing: Listing, check: Callable[[], None]) -> None:
    """Write the catalogue of a listing once it has ended well. Raises what the listing raises."""
    with opened(job_id, check) as database, TemporaryFile() as file:
        database.load("found", _PLACES, _written(file, _tables(listing)))
        database.execute(_KEPT)
        (repeated,) = database.first("SELECT count(*) FROM kept WHERE NOT kept")
        notes = [*listing.notes]
        if repeated:
            notes.append(
                Note("repeated", "Entries that the listing has more than once: the last counts.", repeated)
            )
        write_catalogue(blobs, listing_key(job_id), LISTED, _kept(file, database), notes)


@contextmanager
def compared(blobs: Blobs, job_id: str, source: str, check: Callable[[], None]) -> Iterator[Comparison]:
    """Compare a sync's listing, of which there may be none, with what the source has brought."""
    with opened(job_id, check) as database:
        listed = partial(rows_of, blobs, listing_key(job_id), LISTED, _ROWS)
        database.load("listed", LISTED, listed(), _COMPARED)
        database.load("brought", BROUGHT, rows_of(blobs, brought_key(source), BROUGHT))
        database.execute(_COMPARE)
        (known,) = database.first("SELECT count(DISTINCT entry) FROM brought")
        (missing,) = database.first("SELECT count(*) FROM missing")
        yield Comparison(known, missing, database, listed)


def rows_of(blobs: Blobs, key: str, schema: pa.Schema, rows: int = MAX_ROWS) -> Iterator[pa.Table]:
    """Yield the rows of a catalogue, up to `rows` at once; none where there is no such file."""
    with suppress(KeyError):
        yield from read_catalogue(blobs, key, schema, rows)


def _tables(entries: Iterable[Entry]) -> Iterator[pa.Table]:
    rows: list[Row] = []
    for place, entry in enumerate(entries):
        rows.append(_row(place, entry))
        if len(rows) == _ROWS:
            yield pa.Table.from_pylist(rows, LISTED)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, LISTED)


def _written(file: IO[bytes], tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Write tables into a file and yield of each what the database needs."""
    with pa.ipc.new_stream(file, LISTED) as writer:
        for table in tables:
            writer.write_table(table)
            yield table.select(_PLACES.names)


def _kept(file: IO[bytes], database: Database) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a written file that count."""
    file.seek(0)
    batches = database.read("SELECT kept FROM kept ORDER BY place")
    kept = chain.from_iterable(batch["kept"].to_pylist() for batch in batches)
    with pa.ipc.open_stream(file) as written:
        for batch in written:
            yield batch.filter(pa.array(islice(kept, len(batch)), pa.bool_()))


def _row(place: int, entry: Entry) -> Row:
    metadata = json.dumps(entry.metadata)
    return {
        "entry": entry_hash(entry.url, entry.key),
        "place": place,
        "said": said_hash(entry.url, entry.key, metadata),
        "key": entry.key,
        "url": entry.url,
        "metadata": metadata,
        "stamp": entry.stamp,
        "error": entry.error,
    }
