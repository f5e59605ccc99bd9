"""Listing a bucket of S3, or what is below a prefix of one, without opening an object."""

import threading
from collections.abc import Iterator

from image_search.models.image_files import Skipped, has_image_suffix, is_hidden, suffix_of
from shared.config import Settings
from shared.models import Note
from shared.sources.permission import permitted_prefix
from shared.storage.s3 import Bucket, S3Failed, S3Object
from worker.listings.entries import Entry, ListingFailed, stop_if_lost


class BucketListing:
    """The objects of a bucket as entries, in their keys' order.

    One whose name has no suffix may be a picture: only its content could tell.
    """

    def __init__(self, settings: Settings, location: str, lost: threading.Event) -> None:
        self.notes: list[Note] = []
        self._name, self._prefix = permitted_prefix(settings, location)
        self._lost = lost
        self._skipped = Skipped()

    def __iter__(self) -> Iterator[Entry]:
        found = False
        try:
            bucket = Bucket(self._name)
            for page in bucket.pages(self._prefix):
                stop_if_lost(self._lost)
                found = found or bool(page)
                yield from (self._entry(one) for one in page if not self._skips(one.key))
            if not found:
                self._refuse_object(bucket)
        except S3Failed as error:
            detail = f"The bucket {self._name} cannot be listed: {error.detail}."
            raise ListingFailed(detail, transient=not error.denied) from None
        if count := len(self._skipped):
            self.notes.append(Note("files_skipped", f"No pictures by their names: {self._skipped}.", count))

    def _entry(self, one: S3Object) -> Entry:
        return Entry(f"s3://{self._name}/{one.key}", stamp=f"{one.etag} {one.size} {one.modified_at}")

    def _skips(self, key: str) -> bool:
        name = key.removeprefix(self._prefix)
        if key.endswith("/"):  # some tools make such an object for each folder
            return True
        skipped = is_hidden(name) or bool(suffix_of(name) and not has_image_suffix(name))
        if skipped:
            self._skipped.add(name)
        return skipped

    def _refuse_object(self, bucket: Bucket) -> None:
        """Raise ListingFailed where what was taken for a prefix is an object."""
        key = self._prefix.rstrip("/")
        first = next(bucket.pages(key), []) if key else []
        if any(one.key == key for one in first):
            raise ListingFailed(
                f"s3://{self._name}/{key} is an object: of a bucket, what is below a prefix is listed. A "
                "feed or sitemap is read from an http:// or https:// address."
            )
