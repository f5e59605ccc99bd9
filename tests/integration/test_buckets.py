"""Buckets as moto speaks S3: what is listed, by how many requests, and what is said of trouble."""

import threading
from collections.abc import Iterator

import pytest
from s3fs import S3FileSystem

from shared.errors import ItemError
from shared.models import Note
from shared.services import Services
from tests.integration.conftest import PAGE
from tests.object_store import BUCKET, SECRET, ObjectStore
from tests.unit.worker.listings.listed import failure, listing, services
from worker.listings.buckets import BucketListing
from worker.listings.objects import read_object

SHOP = f"s3://{BUCKET}/shop"
MANY = [f"many/{number:04d}.jpg" for number in range(PAGE + 5)]


@pytest.fixture
def files(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3FileSystem]:
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # those of other modules' stores
    yield S3FileSystem(skip_instance_cache=True)
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def made(files: S3FileSystem) -> Services:
    return services(blob_url=f"s3://{BUCKET}/blobs", max_image_bytes=1_000)


def put(files: S3FileSystem, *keys: str, content: bytes = b"x") -> None:
    for key in keys:
        files.call_s3("put_object", Bucket=BUCKET, Key=key, Body=content)


def test_pictures_below_the_prefix_are_entries_and_none_is_opened(
    files: S3FileSystem, made: Services, store: ObjectStore
) -> None:
    put(files, "shop/1.jpg", "shop/a/2.PNG", "shop/a/no-suffix", "shop/a/", "shop/feed.csv", "shop/.x/3.jpg")
    put(files, "shopping/4.jpg", "shop.jpg")
    with store.counted() as requests:
        found, notes = listing(SHOP, made)
    assert [entry.url for entry in found] == [
        f"{SHOP}/{name}" for name in ("1.jpg", "a/2.PNG", "a/no-suffix")
    ]
    assert notes == [Note("files_skipped", "No pictures by their names: 1 hidden, 1 feed.csv.", 2)]
    assert dict(requests) == {"LIST": 1}
    assert listing(SHOP, made)[0] == found
    put(files, "shop/1.jpg", content=b"y")
    changed = listing(SHOP, made)[0]
    assert changed[0].stamp != found[0].stamp
    assert changed[1:] == found[1:]


def test_a_large_listing_comes_in_pages(files: S3FileSystem, made: Services, store: ObjectStore) -> None:
    put(files, *MANY)
    with store.counted() as requests:
        found, _ = listing(f"s3://{BUCKET}/many/", made)
    assert [entry.url for entry in found] == [f"s3://{BUCKET}/{key}" for key in MANY]
    assert dict(requests) == {"LIST": 2}


def test_any_key_is_an_entry_that_can_be_read(files: S3FileSystem, made: Services) -> None:
    keys = ["a b.jpg", "100%25.jpg", "q?versionId=1.jpg", "h#h.jpg", "é.jpg", "d//e.jpg", "a+b&c.jpg"]
    for key in keys:
        put(files, f"odd/{key}", content=key.encode())
    found, _ = listing(f"s3://{BUCKET}/odd", made)
    assert sorted(read_object(made, entry.url).decode() for entry in found) == sorted(keys)


def test_a_prefix_without_objects_is_an_empty_listing(made: Services) -> None:
    assert listing(f"s3://{BUCKET}/nothing", made) == ([], [])


def test_an_object_is_no_prefix(files: S3FileSystem, made: Services) -> None:
    put(files, "feeds/feed.csv")
    assert failure(f"s3://{BUCKET}/feeds/feed.csv", made).startswith(
        f"s3://{BUCKET}/feeds/feed.csv is an object"
    )


def test_what_is_wrong_with_a_bucket_is_said_with_its_name_and_without_a_key(
    made: Services, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [failure("s3://missing-bucket/x", made)]
    with store.checking_keys():
        said.append(failure(SHOP, made))
    with store.away():
        said.append(failure(SHOP, made))
    assert said == [
        "The bucket missing-bucket cannot be listed: there is no such bucket.",
        f"The bucket {BUCKET} cannot be listed: it does not know the access key (InvalidAccessKeyId): "
        "check the credentials.",
        f"The bucket {BUCKET} cannot be listed: it does not answer.",
    ]
    assert SECRET not in str(said)


def test_the_deployments_own_blob_store_is_neither_listed_nor_read(
    files: S3FileSystem, made: Services
) -> None:
    put(files, "blobs/keys/k.json", "blobs/a.jpg")
    for location in (f"s3://{BUCKET}/blobs", f"s3://{BUCKET}", f"s3://{BUCKET}/blobs/collections"):
        assert "may not be read: This is, holds or lies in the deployment's own store" in failure(
            location, made
        )
    with pytest.raises(ItemError) as raised:
        read_object(made, f"s3://{BUCKET}/blobs/a.jpg")
    assert raised.value.code == "blocked_address"


def test_an_object_that_cannot_be_had_fails_alone(
    files: S3FileSystem, made: Services, store: ObjectStore
) -> None:
    put(files, "shop/large.jpg", content=bytes(1_001))
    put(files, "shop/just.jpg", content=bytes(1_000))
    put(files, "shop/empty.jpg", content=b"")
    assert len(read_object(made, f"{SHOP}/just.jpg")) == 1_000

    def error(url: str) -> tuple[str, int | None, bool]:
        with pytest.raises(ItemError) as raised:
            read_object(made, url)
        return raised.value.code, raised.value.http_status, raised.value.transient

    assert error(f"{SHOP}/gone.jpg") == ("http_status", 404, False)
    assert error(f"{SHOP}/large.jpg") == ("too_large", None, False)
    assert error(f"{SHOP}/empty.jpg") == ("not_an_image", None, False)
    assert error("s3://missing-bucket/x.jpg") == ("connect_error", None, False)
    with store.checking_keys():
        assert error(f"{SHOP}/just.jpg") == ("connect_error", None, False)
    with store.away():
        assert error(f"{SHOP}/just.jpg") == ("connect_error", None, True)


def test_a_listing_in_the_middle_of_which_the_store_goes_fails(
    files: S3FileSystem, made: Services, store: ObjectStore
) -> None:
    put(files, *MANY)
    found = iter(BucketListing(made.settings, f"s3://{BUCKET}/many", threading.Event()))
    next(found)
    with store.away(), pytest.raises(Exception, match="cannot be listed: it does not answer"):
        list(found)
