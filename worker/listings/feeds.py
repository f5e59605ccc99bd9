"""Listing what a URL leads to: a table of pictures, or a sitemap, as its content shows."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any
from urllib.parse import unquote

from shared.download.host_headers import HostHeaders
from shared.errors import InvalidRequest, NoRows, RequestTooLarge
from shared.models import Note
from shared.services import Services
from shared.sources.definition import Source
from shared.tables.table import Table, TableOptions, column_names, open_table
from shared.urls.redaction import redacted
from worker.listings.downloads import Downloaded, Downloads
from worker.listings.entries import Entry, Listing, ListingFailed, is_web, stop_if_lost, web_entry
from worker.listings.sitemaps import DTD, HTML, SITEMAPS, SitemapListing, path_of, root_of

_SYNDICATED = {"rss": "an RSS feed", "RDF": "an RSS feed", "feed": "an Atom feed"}
_READ_BYTES = 256 * 1024


@contextmanager
def open_feed(
    services: Services, source: Source, headers: HostHeaders | None, lost: threading.Event
) -> Iterator[Listing]:
    """Download a source's URL and open what it is. Raises ListingFailed, which names it."""
    downloads = Downloads(services, headers, lost)
    with downloads.opened(source.location) as got:
        root, shown = root_of(got.file), redacted(source.location)
        if root in SITEMAPS or root == DTD:  # which says what is wrong
            yield SitemapListing(downloads, source.location, got.file)
        elif root == HTML:
            raise ListingFailed(
                f"{shown} is a web page (HTML), neither a table nor a sitemap: the feed may have moved, or "
                "its host may want a sign-in (FETCH_HEADERS)."
            )
        elif root in _SYNDICATED:
            raise ListingFailed(
                f"{shown} is {_SYNDICATED[root]}, which is not read: give a sitemap, or a table with a "
                "column of URLs (CSV, TSV, JSON, JSON lines, Parquet)."
            )
        else:
            yield TableListing(got, source, lost)


class TableListing:
    """The rows of a table as entries."""

    def __init__(self, got: Downloaded, source: Source, lost: threading.Event) -> None:
        self.notes: list[Note] = []
        self._table: Table | None = None
        watched = io.BufferedReader(_Watched(got.file, lost), _READ_BYTES)
        name = PurePosixPath(unquote(path_of(source.location))).name.removesuffix(".gz")
        shown = redacted(source.location)
        try:
            self._table = open_table(watched, _options(source), name=name, media_type=got.media_type)
            sound = any(is_web(row.url) for row in self._table.rows())
        except NoRows:
            return
        except (InvalidRequest, RequestTooLarge) as error:
            raise ListingFailed(f"{shown}: {error.detail}") from None
        if not sound:
            raise ListingFailed(
                f"{shown}: No row of the table has a URL that begins with http:// or https://."
            )
        self.notes += self._table.notes

    def __iter__(self) -> Iterator[Entry]:
        for row in self._table.rows() if self._table else ():
            if row.error:
                yield web_entry(row.url or f"row {row.number:,}", row.key, error=row.error)
            else:
                yield web_entry(row.url, row.key, row.metadata)


def _options(source: Source) -> TableOptions:
    given = source.table
    lists = (column_names(given.get(name) or "") for name in ("columns", "skip_columns", "number_columns"))
    return TableOptions(given.get("url_column"), given.get("key_column"), *lists)


class _Watched(io.RawIOBase):
    """A file whose reading ends with Unavailable once `lost` is set."""

    def __init__(self, file: IO[bytes], lost: threading.Event) -> None:
        self._file = file
        self._lost = lost

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        stop_if_lost(self._lost)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
