"""Making a job of a table, or a preview of one: spooled, read once for its types and once for its items."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from tempfile import SpooledTemporaryFile
from threading import BoundedSemaphore
from typing import IO

from api.http.problems import refuse
from api.http.request_body import Body
from api.jobs.answers import preview_answer
from api.jobs.ingest import Options, digest_of, launch
from api.jobs.requests import TableQuery
from image_search import models
from shared.errors import InvalidRequest, Unavailable
from shared.ledger.ledger import new_job_id
from shared.models import Item, url_item
from shared.services import Services
from shared.tables.table import Table, TableOptions, column_names, open_table
from shared.validation import MAX_METADATA

PARTIAL_BYTES = 2**20  # what a preview may be given of a text table
_SPOOL_BYTES = 2**20
_READ_BYTES = 64 * 1024
# Reading is the interpreter's work: more at once would finish no sooner, and hold searches up. Small tables,
# as previews are, take no turn.
_turns = BoundedSemaphore(2)
_TURN_SECONDS = 60.0  # for which one may hold its thread


@dataclass(frozen=True, slots=True)
class Spooled:
    """A table as it was received, its file at the start.

    `truncated` where the body broke off, `cut` where it did so in the table.
    """

    file: IO[bytes]
    size: int
    sha256: str
    name: str = ""
    media_type: str = ""
    truncated: bool = False
    cut: bool = False


def ingest_table_body(
    services: Services, options: Options, query: TableQuery, body: Body, media_type: str
) -> str | models.TablePreview:
    """Make a job, whose id is returned, of a body that is a table; with `preview` describe it instead."""
    with SpooledTemporaryFile(_SPOOL_BYTES) as file:
        digest = hashlib.sha256()
        while data := body.read(_READ_BYTES):
            file.write(data)
            digest.update(data)
        size = file.tell()
        file.seek(0)
        cut = body.truncated
        spooled = Spooled(file, size, digest.hexdigest(), media_type=media_type, truncated=cut, cut=cut)
        return ingest_table(services, options, query, spooled)


def ingest_table(
    services: Services, options: Options, query: TableQuery, spooled: Spooled
) -> str | models.TablePreview:
    """Make a job of a table and return its id; with `preview` describe it instead.

    Raises InvalidRequest, NoUrlColumn or RequestTooLarge for what cannot be a table.
    """
    chosen = query.model_dump(
        exclude={"preview", "partial"}, include={*TableQuery.model_fields}, exclude_none=True
    )
    digest = digest_of([spooled.sha256, chosen], options)
    key = options.idempotency_key
    if key and not query.preview and (job_id := services.ledger.idempotent_job(key, digest)):
        return job_id
    if query.partial and not query.preview:
        raise InvalidRequest("A part of a table is for a preview alone.").at("/partial")
    is_start = query.partial or bool(query.preview and spooled.size == PARTIAL_BYTES)
    with _turn(spooled.size):
        table = open_table(
            spooled.file,
            TableOptions(
                query.url_column,
                query.key_column,
                column_names(query.columns or ""),
                column_names(query.skip_columns or ""),
                column_names(query.number_columns or ""),
            ),
            name=spooled.name,
            media_type=spooled.media_type,
            partial=is_start or spooled.cut,
            most_columns=MAX_METADATA - len(options.metadata),
        )
        if query.preview:
            return preview_answer(table, map(options.applied, islice(_items(table), query.preview)))
        return launch(
            services,
            options,
            new_job_id(),
            _items(table),
            digest=digest,
            truncated=spooled.truncated,
            notes=table.notes,
        )


@contextmanager
def _turn(size: int) -> Iterator[None]:
    """Wait for a turn to read a table of this size. Raises Unavailable where none comes in time."""
    if size <= PARTIAL_BYTES:
        yield
        return
    if not _turns.acquire(timeout=_TURN_SECONDS):
        raise Unavailable("Other large tables are being read; try again later.")
    try:
        yield
    finally:
        _turns.release()


def _items(table: Table) -> Iterator[Item]:
    for row in table.rows():
        if row.error:
            yield url_item(row.url or f"row {row.number:,}", error=row.error)
        else:
            yield url_item(row.url, row.metadata, row.key)


def refuse_table_options(query: TableQuery) -> None:
    """Raise InvalidRequest for options of tables where there is no table."""
    refuse(
        "The request has no table.",
        ({"pointer": f"/{name}", "message": "is for tables alone"} for name in query.given),
    )
