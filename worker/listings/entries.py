"""What every kind of listing yields, and how one fails."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import ImageSearchError
from shared.models import Metadata, Note

MAX_ENTRIES = 5_000_000


class ListingFailed(ImageSearchError):
    """A listing that did not end well; `detail` says why, and never has a secret.

    `transient` where it may end well when it is tried again soon.
    """

    code = "listing_failed"
    title = "Listing failed"

    def __init__(self, detail: str, *, transient: bool = False) -> None:
        super().__init__(detail)
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
