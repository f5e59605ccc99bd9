"""What every kind of listing yields, and how one fails."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import Unavailable
from shared.models import Metadata, Note, url_item
from shared.validation import MAX_SOURCE

MAX_ENTRIES = 5_000_000
_WEB = re.compile(r"https?://", re.IGNORECASE)


class ListingFailed(Exception):
    """A listing that did not end well; `detail` says why, and never has a secret.

    `transient` where it may end well when it is tried again soon. It ends in a job, never in an answer.
    """

    def __init__(self, detail: str, *, transient: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.transient = transient


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a listing: its `url` (s3://, file://, http:// or https://) and what is said of it.

    The entry is the same in two listings if its `key` is, or without one its `url`. An object's `stamp` is
    text that stays while the object does. `error` is "code: detail" of what cannot be an item.
    """

    url: str
    key: str | None = None
    metadata: Metadata = field(default_factory=dict)
    stamp: str | None = None
    error: str | None = None


class Listing(Protocol):
    """The entries of one reading of a source; `notes` are whole once all were read.

    Raises ListingFailed where the reading breaks off, also for more than MAX_ENTRIES.
    """

    notes: list[Note]

    def __iter__(self) -> Iterator[Entry]: ...


def web_entry(
    url: str, key: str | None = None, metadata: Metadata | None = None, error: str | None = None
) -> Entry:
    """Return the entry of what a feed or sitemap names: that may be on the web alone, whoever wrote it."""
    if not is_web(url):
        error = error or "invalid_url: The URL does not begin with http:// or https://."
    if len(url) > MAX_SOURCE:
        item = url_item(url)
        url, error = item.source, item.error
    return Entry(url, key, metadata or {}, error=error)


def is_web(url: str) -> bool:
    return _WEB.match(url) is not None


def stop_if_lost(lost: threading.Event) -> None:
    """Raise Unavailable once the chunk for which a listing is read is another worker's."""
    if lost.is_set():
        raise Unavailable("The chunk was lost while the source was listed.")
