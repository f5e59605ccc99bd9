"""A bucket's listing that breaks off: the answers of a store are stood in for."""

import threading
from collections.abc import Iterator

import pytest

from shared.config import Settings
from shared.storage.s3 import Bucket, S3Failed, S3Object
from worker.listings.buckets import BucketListing
from worker.listings.entries import ListingFailed


@pytest.mark.parametrize("denied", [True, False])
def test_a_bucket_out_of_reach_is_worth_another_try_and_one_that_denies_access_is_not(
    monkeypatch: pytest.MonkeyPatch, denied: bool
) -> None:
    def pages(_bucket: Bucket, _prefix: str) -> Iterator[list[S3Object]]:
        raise S3Failed("no answer", denied=denied)
        yield []

    monkeypatch.setattr(Bucket, "pages", pages)
    listing = BucketListing(Settings(blob_url="file:///nowhere/blobs"), "s3://prints/new", threading.Event())
    with pytest.raises(ListingFailed, match="prints cannot be listed: no answer") as raised:
        list(listing)
    assert raised.value.transient is not denied
