"""The comparison of a listing with what its source has brought."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from shared.models import Note
from shared.storage.blobs import Blobs, brought_key, listing_key
from shared.storage.catalogues import (
    BROUGHT,
    LISTED,
    entry_hash,
    read_catalogue,
    read_notes,
    said_hash,
    write_catalogue,
)
from worker.listings.entries import Entry, ListingFailed
from worker.syncs.comparison import compared, write_listing


class Listing(list[Entry]):
    @property
    def notes(self) -> list[Note]:
        return []


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(f"file://{tmp_path}")


def image(number: int) -> bytes:
    return number.to_bytes(32)


def brought(entry: Entry, number: int, *, sure: bool = True, **others: object) -> dict[str, object]:
    row = dict.fromkeys(BROUGHT.names)
    return row | {
        "entry": entry_hash(entry.url, entry.key),
        "said": said_hash(entry.url, entry.key, "{}"),
        "key": entry.key,
        "url": entry.url,
        "stamp": entry.stamp,
        "image_id": image(number),
        "sure": sure,
        **others,
    }


def statuses(
    blobs: Blobs, entries: Sequence[Entry], rows: Sequence[dict[str, object]]
) -> tuple[list[tuple[str, str]], list[str], int]:
    write_listing(blobs, "job", Listing(entries), lambda: None)
    batches = pa.Table.from_pylist(list(rows), BROUGHT).to_batches()
    write_catalogue(blobs, brought_key("shop"), BROUGHT, batches)
    with compared(blobs, "job", "shop", lambda: None) as comparison:
        found = [(row["url"], row["status"]) for rows in comparison.entries() for row in rows]
        gone = [row["url"] for rows in comparison.gone() for row in rows]
        assert comparison.missing == len(gone)
        return found, gone, comparison.known


def test_entries_are_told_apart_in_the_order_of_the_listing(blobs: Blobs) -> None:
    new, same, other = (
        Entry("http://x/new"),
        Entry("s3://b/same", stamp="1"),
        Entry("s3://b/other", stamp="2"),
    )
    url, said = Entry("http://x/asked"), Entry("http://x/said", metadata={"title": "Boots"})
    gone = Entry("http://x/gone")
    before = [
        brought(same, 1),
        brought(other, 2, stamp="1"),
        brought(url, 3),
        brought(said, 4),
        brought(gone, 5),
    ]
    found, missing, known = statuses(blobs, [said, new, same, other, url], before)
    assert found == [
        ("http://x/said", "changed"),
        ("http://x/new", "added"),
        ("s3://b/same", "same"),
        ("s3://b/other", "changed"),
        ("http://x/asked", "asked"),
    ]
    assert (missing, known) == (["http://x/gone"], 5)


def test_an_entry_with_a_key_is_the_same_under_another_url(blobs: Blobs) -> None:
    old, new = Entry("http://x/old", key="Ä1"), Entry("http://x/new", key="A\u03081")
    found, missing, _ = statuses(blobs, [new], [brought(old, 1)])
    assert found == [("http://x/new", "changed")]
    assert missing == []


def test_an_entry_has_all_images_that_it_may_have_brought_the_present_one_first(blobs: Blobs) -> None:
    entry, gone = Entry("http://x/1"), Entry("http://x/2")
    rows = [brought(entry, 2, sure=False), brought(entry, 1), brought(gone, 3, sure=False)]
    statuses(blobs, [entry], rows)
    with compared(blobs, "job", "shop", lambda: None) as comparison:
        ((row,),) = comparison.entries()
        assert (row["image_id"], row["images"]) == (image(1), [image(1), image(2)])
        ((row,),) = comparison.gone()
        assert row["images"] == [image(3)]


def test_of_an_entry_that_is_listed_twice_the_last_counts_and_it_is_noted(blobs: Blobs) -> None:
    first, last = Entry("http://x/1", key="k"), Entry("http://x/2", key="k")
    found, _, _ = statuses(blobs, [first, Entry("http://x/3"), last], [])
    assert found == [("http://x/3", "added"), ("http://x/2", "added")]
    (note,) = read_notes(blobs, listing_key("job"))
    assert (note.code, note.count) == ("repeated", 1)


def test_the_catalogue_of_a_listing_has_its_order(blobs: Blobs) -> None:
    write_listing(blobs, "job", Listing(Entry(f"http://x/{i}") for i in range(10_000)), lambda: None)
    tables = read_catalogue(blobs, listing_key("job"), LISTED)
    assert [place for table in tables for place in table["place"].to_pylist()] == [*range(10_000)]


def test_what_entries_say_may_be_far_longer_than_the_memory_of_a_comparison(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.database.MEMORY_LIMIT", "24MiB")
    text = "A boot of leather, with a sole of rubber. " * 500
    entries = [Entry(f"http://x/{i}", metadata={"text": f"{text}{i}"}) for i in range(3_000)]
    found, _, _ = statuses(blobs, entries, [])
    assert found == [(entry.url, "added") for entry in entries]


def test_a_listing_that_breaks_off_leaves_no_catalogue(blobs: Blobs) -> None:
    class Broken(Listing):
        def __iter__(self) -> Iterator[Entry]:
            yield Entry("http://x/1")
            raise ListingFailed("The feed broke off.")

    with pytest.raises(ListingFailed, match="broke off"):
        write_listing(blobs, "job", Broken(), lambda: None)
    assert not blobs.exists(listing_key("job"))


def test_a_listing_without_entries_is_noted(blobs: Blobs) -> None:
    write_listing(blobs, "job", Listing(), lambda: None)
    assert [note.code for note in read_notes(blobs, listing_key("job"))] == ["nothing_listed"]


def test_nothing_listed_and_nothing_brought_compare(blobs: Blobs) -> None:
    with compared(blobs, "job", "shop", lambda: None) as comparison:
        assert (comparison.known, comparison.missing, [*comparison.entries()]) == (0, 0, [])


def test_of_an_entry_that_is_listed_twice_the_last_that_can_be_fetched_counts(blobs: Blobs) -> None:
    broken = Entry("row 4", key="k", error="invalid_url: the URL is empty")
    entries = [Entry("http://x/1", key="k"), Entry("http://x/2", key="k"), broken]
    found, gone, _ = statuses(blobs, entries, [brought(Entry("http://x/2", key="k"), 1)])
    assert (found, gone) == ([("http://x/2", "asked")], [])
    found, gone, _ = statuses(blobs, [broken], [brought(Entry("http://x/2", key="k"), 1)])
    assert (found, gone) == ([("row 4", "changed")], []), "listed all the same: it keeps what it had"
