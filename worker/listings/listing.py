"""Opening the listing of a source, whatever its kind, within the bounds of all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.download.host_headers import HostHeaders
from shared.errors import InvalidRequest
from shared.services import Services
from shared.sources.definition import Source
from shared.sources.permission import check_location
from shared.urls.redaction import redacted
from worker.listings.buckets import BucketListing
from worker.listings.entries import MAX_ENTRIES, Entry, Listing, ListingFailed, stop_if_lost
from worker.listings.feeds import open_feed
from worker.listings.folders import FolderListing


@contextmanager
def open_listing(
    services: Services, source: Source, headers: HostHeaders | None, lost: threading.Event
) -> Iterator[Listing]:
    """Open the listing of what a source has now; it can be read once, inside the block.

    Raises ListingFailed where the source cannot be listed, or may not be any longer, and Unavailable for
    services of the deployment's own, or once `lost` is set.
    """
    location = source.location
    try:
        check_location(services.settings, location)
        if source.kind == "bucket":
            yield _Bounded(BucketListing(services.settings, location, lost), lost)
        elif source.kind == "folder":
            yield _Bounded(FolderListing(services.settings, location, lost), lost)
        else:
            with open_feed(services, source, headers, lost) as listing:
                yield _Bounded(listing, lost)
    except InvalidRequest as error:
        raise ListingFailed(f"{redacted(location)} may not be read: {error.detail}") from None


class _Bounded:
    """A listing that ends with an error once it has too many entries, or is wanted no longer."""

    def __init__(self, listing: Listing, lost: threading.Event) -> None:
        self.notes = listing.notes
        self._listing = listing
        self._lost = lost

    def __iter__(self) -> Iterator[Entry]:
        for count, entry in enumerate(self._listing, 1):
            stop_if_lost(self._lost)
            if count > MAX_ENTRIES:
                raise ListingFailed(
                    f"The listing has more than {MAX_ENTRIES:,} entries: make several sources."
                )
            yield entry
