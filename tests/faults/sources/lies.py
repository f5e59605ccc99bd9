"""Listings that do not say what is there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.sources.catalogues import Catalogue, Feed, Folder
from tests.faults.sources.synced import Synced


@contextmanager
def broken_off(source: Synced) -> Iterator[None]:
    """A feed half of whose bytes come, again and again, before the connection is closed."""
    feed = source.catalogue
    assert isinstance(feed, Feed)
    feed.share = 0.5
    yield
    feed.share = 1.0


@contextmanager
def halved(source: Synced) -> Iterator[None]:
    """Of what was there before, less than half."""
    catalogue = source.catalogue
    known = [name for name in catalogue.entries if name in source.brought]
    with _listing_only(catalogue, set(known[: len(source.brought) * 2 // 5])):
        yield


@contextmanager
def emptied(source: Synced) -> Iterator[None]:
    with _listing_only(source.catalogue, set()):
        yield


@contextmanager
def unmounted(source: Synced) -> Iterator[None]:
    """The folder is there, and what was mounted on it is not."""
    with moved_away(source):
        path = _folder(source).path
        path.mkdir()
        yield
        path.rmdir()


@contextmanager
def moved_away(source: Synced) -> Iterator[None]:
    path = _folder(source).path
    elsewhere = path.with_name(f"{path.name}-elsewhere")
    shutil.move(path, elsewhere)
    yield
    shutil.move(elsewhere, path)


@contextmanager
def out_of_reach(source: Synced) -> Iterator[None]:
    """Nobody can connect to the bucket."""
    with source.rig.bucket.away():
        yield


def _folder(source: Synced) -> Folder:
    assert isinstance(source.catalogue, Folder)
    return source.catalogue


@contextmanager
def _listing_only(catalogue: Catalogue, names: set[str]) -> Iterator[None]:
    whole = catalogue.entries
    catalogue.entries = {name: entry for name, entry in whole.items() if name in names}
    catalogue.publish()
    catalogue.entries = whole
    yield
    catalogue.publish()
