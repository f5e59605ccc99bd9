"""The comparison of a listing with what its source has brought: out of memory, whatever their lengths."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice
from operator import itemgetter
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
from worker.database import Database, numbered, opened
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
NUMBERED = BROUGHT.append(pa.field("place", pa.int64()))
_LISTED = (
    "md5_number(entry) AS entry, place, md5_number(said) AS said, md5_number(url) AS url, "
    "md5_number(stamp) AS stamp"
)
_BROUGHT = f"{_LISTED}, image_id, sure, said_of, etag, last_modified"
_MISSING = """
CREATE TABLE missing AS SELECT entry, place, image_id, sure FROM brought ANTI JOIN listed USING (entry);
CREATE TABLE heads AS
    SELECT entry, coalesce(min(place) FILTER (sure), min(place)) AS head FROM missing GROUP BY entry;
"""
_KNOWN = "SELECT count(*) FROM (SELECT entry FROM brought GROUP BY entry)"
# Several rows of one place where an entry may have brought several images; the sure one comes first.
_COMPARE = """
SELECT listed.place, image_id, coalesce(sure, false) AS sure, said_of, etag, last_modified,
    coalesce(listed.url = brought.url, false) AS same_url, listed.stamp IS NOT NULL AS stamped,
    coalesce(listed.said = brought.said, false) AND listed.stamp IS NOT DISTINCT FROM brought.stamp AS same
FROM listed LEFT JOIN brought USING (entry)
ORDER BY listed.place, sure DESC, brought.place
"""
_GONE = "SELECT head AS place, image_id FROM missing JOIN heads USING (entry) ORDER BY head, sure DESC, place"

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
    _brought: Callable[[], Iterator[pa.Table]]

    def entries(self) -> Iterator[list[Row]]:
        found = _by_place(self._database.read(_COMPARE, _ROWS))
        for table in self._listed():
            rows = table.drop_columns(["entry", "place", "said"]).to_pylist()
            here = islice(found, len(rows))
            yield [row | _found(of_it) for row, (_, of_it) in zip(rows, here, strict=True)]

    def gone(self) -> Iterator[list[Row]]:
        """Yield what is missing from the listing: `key`, `url` and `images`."""
        missing = _by_place(self._database.read(_GONE, _ROWS))
        following = next(missing, None)
        place = 0
        for table in self._brought():
            rows: list[Row] = []
            for row in table.select(["key", "url"]).to_pylist():
                if following is not None and following[0] == place:
                    rows.append(row | {"images": [one["image_id"] for one in following[1]]})
                    following = next(missing, None)
                place += 1
            yield rows


def _by_place(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, list[Row]]]:
    rows = chain.from_iterable(batch.to_pylist() for batch in batches)
    return ((place, list(here)) for place, here in groupby(rows, itemgetter("place")))


def _found(rows: list[Row]) -> Row:
    """Return what an entry has brought, of rows of which the first may be sure, and others are not."""
    first = rows[0]
    if not first["sure"]:
        nothing = dict.fromkeys(("image_id", "said_of", "etag", "last_modified"))
        status, first = "added", first | nothing | {"same_url": False}
    elif not rows[0]["same"]:
        status = "changed"
    else:
        status = "same" if first["stamped"] else "asked"
    images = [one["image_id"] for one in rows if one["image_id"] is not None]
    kept = ("image_id", "said_of", "etag", "last_modified", "same_url")
    return {**{name: first[name] for name in kept}, "images": images or None, "status": status}


def write_listing(blobs: Blobs, job_id: str, listing: Listing, check: Callable[[], None]) -> None:
    """Write the catalogue of a listing once it has ended well. Raises what the listing raises."""
    with opened(job_id, check) as database, TemporaryFile() as file:
        database.load("found", _PLACES, _written(file, _tables(listing)))
        database.execute(_KEPT)
        found, repeated = database.first("SELECT count(*), count(*) FILTER (NOT kept) FROM kept")
        notes = [*listing.notes]
        if not found:
            notes.append(Note("nothing_listed", "The listing has no entries: is the location right?", 0))
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
        brought = partial(rows_of, blobs, brought_key(source), BROUGHT, _ROWS)
        database.load("listed", LISTED, listed(), _LISTED)
        database.load("brought", NUMBERED, numbered(brought()), _BROUGHT)
        database.execute(_MISSING)
        (known,) = database.first(_KNOWN)
        (missing,) = database.first("SELECT count(*) FROM heads")
        yield Comparison(known, missing, database, listed, brought)


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
