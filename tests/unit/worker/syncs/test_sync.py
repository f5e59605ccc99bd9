"""A sync from its listing to what is kept of it: which items it has, and what the next one will know."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.download.host_headers import HostHeaders
from shared.download.validators import Validators
from shared.errors import Unavailable
from shared.index.provenance import Contribution, StoredImage
from shared.ledger.ledger import BEGIN, FINAL, Ledger
from shared.models import Chunk, Claim, Item, ItemResult, ItemState, Job, JobStatus, Note, Stage
from shared.services import Services
from shared.sources.definition import Run, Source
from shared.sources.store import put_source, runs, source_exists
from shared.sources.syncs import start_sync
from shared.storage.blobs import Blobs, brought_key
from shared.storage.catalogues import BROUGHT, read_catalogue
from shared.storage.manifest import read_items, write_results
from shared.storage.validators import Earlier, read_earlier, url_hash, write_validators
from tests.redis_server import fake_ledger
from tests.unit.stages import StubDispatcher
from tests.unit.stages import image as stored_image
from worker.listings.entries import Entry, ListingFailed
from worker.stages.changes import hand_on_removals
from worker.syncs import begin as beginning
from worker.syncs.begin import begin
from worker.syncs.finish import finish


@dataclass
class Listing:
    entries: Sequence[Entry]
    notes: list[Note] = field(default_factory=list)
    failure: Exception | None = None

    def __iter__(self) -> Iterator[Entry]:
        yield from self.entries
        if self.failure:
            raise self.failure


@dataclass
class Here:
    """Syncs in this process: `listing` is what the source has, `images` what the collection has."""

    services: Services
    source: Source
    listing: Listing = field(default_factory=lambda: Listing([]))
    images: dict[str, StoredImage] = field(default_factory=dict)
    listed: int = 0
    job_id: str = ""

    @property
    def ledger(self) -> Ledger:
        return self.services.ledger

    @property
    def job(self) -> Job:
        return self.ledger.get(self.job_id)

    def claim(self, payload: str) -> Claim:
        number = 0 if payload == BEGIN else -(-self.job.total // self.job.chunk_size)
        self.ledger.sweep()
        generation = 1 if self.job.status is JobStatus.CANCELLED else 0
        claim = self.ledger.claim(Chunk(self.job_id, generation, number), Stage.FETCH)
        assert claim is not None
        assert claim.payload == payload
        return claim

    def start(self, **options: Any) -> None:
        self.job_id = start_sync(self.services, self.source, **options)

    def begin(self) -> None:
        begin(
            self.services, self.claim(BEGIN), HostHeaders(None), lost=cast(Any, SimpleNamespace(is_set=bool))
        )

    def brings(self, states: Sequence[ItemState], images: Sequence[int | None], etag: str = "") -> None:
        """Ends the pending items of the job's chunks with these states, and images."""
        for chunk in self.ledger.dispatch():
            claim = self.ledger.claim(chunk, Stage.FETCH)
            assert claim is not None
            indices = self.ledger.pending(claim)
            found = [ItemResult(i, "", 1, image(n)) for i in indices if (n := images[i]) is not None]
            write_results(self.services.blobs, chunk, Stage.FETCH, claim.token, found)
            items = read_items(self.services.blobs, self.job_id, claim.first_item, claim.last_item)
            if etag:
                urls = {items[one.index - claim.first_item].url or "": one for one in found}
                said = {
                    url: Earlier(one.image_id or "", Validators(url_hash(url), etag))
                    for url, one in urls.items()
                }
                write_validators(self.services.blobs, chunk, claim.token, said)
            for one in found:
                self.stores(one.image_id or "", items[one.index - claim.first_item])
            assert self.ledger.advance(claim, transitions=[(i, states[i]) for i in indices])

    def stores(self, image_id: str, item: Item) -> None:
        said = Contribution(0, item.source, item.key, dict(item.metadata), item.of)
        before = self.images[image_id].contributions if image_id in self.images else ()
        stored = stored_image(image_id, item.source, item.key, **item.metadata)
        self.images[image_id] = StoredImage(stored, "", (*before, said))

    def finish(self) -> None:
        finish(self.services, self.claim(FINAL))

    def run(
        self, states: Sequence[ItemState], images: Sequence[int | None], etag: str = "", **options: Any
    ) -> None:
        self.start(**options)
        self.begin()
        self.brings(states, images, etag)
        self.finish()

    def brought(self) -> list[tuple[str, str, bool]]:
        rows = [
            row
            for table in read_catalogue(self.services.blobs, brought_key("shop"), BROUGHT)
            for row in table.to_pylist()
        ]
        return sorted((row["url"], row["image_id"].hex()[-2:], row["sure"]) for row in rows)

    def brought_rows(self) -> list[str]:
        tables = read_catalogue(self.services.blobs, brought_key("shop"), BROUGHT)
        return sorted(str(row) for table in tables for row in table.to_pylist())

    def runs(self) -> list[Run]:
        return runs(self.services.blobs, "shop")


def image(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    images: dict[str, StoredImage] = {}
    collection = SimpleNamespace(stored=lambda ids: {i: images[i] for i in ids if i in images})
    services = SimpleNamespace(
        blobs=Blobs(f"file://{tmp_path}"),
        ledger=fake_ledger(),
        dispatcher=StubDispatcher(),
        settings=SimpleNamespace(chunk_size=4),
        index=SimpleNamespace(collection=lambda _: collection),
    )
    source = Source(
        "shop", "https://shop.example/feed.csv", "images", delete_missing=True, max_delete_share=0.5
    )
    made = Here(cast(Services, services), source, images=images)
    put_source(made.services.blobs, source)

    @contextmanager
    def open_listing(*_: object) -> Iterator[Listing]:
        made.listed += 1
        yield made.listing

    monkeypatch.setattr(beginning, "open_listing", open_listing)
    return made


INDEXED, FAILED, REMOVED, UNCHANGED = (
    ItemState.INDEXED,
    ItemState.FAILED,
    ItemState.REMOVED,
    ItemState.UNCHANGED,
)


def test_the_items_are_the_entries_in_their_order_then_what_is_to_go(here: Here) -> None:
    here.listing = Listing([Entry("http://x/1"), Entry("http://x/2", key="k"), Entry("http://x/3")])
    here.run([INDEXED] * 3, [1, 2, 3], etag='"e"')
    assert here.job.status is JobStatus.SUCCEEDED
    assert here.brought() == [
        ("http://x/1", "01", True),
        ("http://x/2", "02", True),
        ("http://x/3", "03", True),
    ]

    here.listing = Listing(
        [Entry("http://x/4", metadata={"n": 1}), Entry("http://x/9", key="k"), Entry("http://x/1")]
    )
    here.start()
    here.begin()
    items = read_items(here.services.blobs, here.job_id, 0, 4)
    assert [(one.url, one.of, one.before, one.withdraws) for one in items] == [
        ("http://x/4", "shop", (), False),
        ("http://x/9", "shop", (image(2),), False),
        ("http://x/1", "shop", (image(1),), False),
        ("http://x/3", "shop", (image(3),), True),
    ]
    assert items[0].metadata == {"n": 1}
    earlier = read_earlier(here.services.blobs, here.job_id, 0, 4)
    assert {i: (one.image_id, one.validators.etag) for i, one in earlier.items()} == {
        1: (image(2), None),
        2: (image(1), '"e"'),
    }


def test_an_object_with_the_same_stamp_is_not_touched_while_the_collection_has_it(here: Here) -> None:
    here.listing = Listing(
        [Entry("s3://b/1", stamp="1"), Entry("s3://b/2", stamp="1"), Entry("s3://b/3", stamp="1")]
    )
    here.run([INDEXED] * 3, [1, 2, 3])
    del here.images[image(2)]
    here.listing.entries = [
        Entry("s3://b/1", stamp="1"),
        Entry("s3://b/2", stamp="1"),
        Entry("s3://b/3", stamp="2"),
    ]
    here.start()
    here.begin()
    assert here.job.counts[UNCHANGED] == 1
    (chunk,) = here.ledger.dispatch()
    claim = here.ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    assert here.ledger.pending(claim) == [1, 2]


def test_an_object_is_opened_again_unless_the_collection_has_its_picture_from_this_source(here: Here) -> None:
    here.listing = Listing([Entry("s3://b/1", stamp="1"), Entry("s3://b/2", stamp="1")])
    here.run([INDEXED] * 2, [1, 2])
    del here.images[image(2)]  # deleted, and brought again by somebody, who may delete it again
    here.stores(image(2), Item("http://x/2", "http://x/2"))
    here.start()
    here.begin()
    assert here.job.counts[UNCHANGED] == 1
    here.brings([UNCHANGED, ItemState.DUPLICATE], [None, 2])
    here.finish()
    here.start()
    here.begin()
    assert here.job.counts[UNCHANGED] == 2


def test_an_object_that_may_have_brought_two_pictures_is_opened_to_put_that_in_order(here: Here) -> None:
    here.listing = Listing([Entry("s3://b/1", stamp="1")])
    here.run([INDEXED], [1])
    here.listing = Listing([Entry("s3://b/1", stamp="2")])
    here.run([FAILED], [8])
    here.listing = Listing([Entry("s3://b/1", stamp="1")])
    here.start()
    here.begin()
    assert here.job.counts[ItemState.PENDING] == 1


def test_everything_is_fetched_again_where_the_source_says_so(here: Here) -> None:
    here.source = Source("shop", "s3://b", "images", refetch="always")
    here.listing = Listing([Entry("s3://b/1", stamp="1"), Entry("http://x/1")])
    here.run([INDEXED] * 2, [1, 2], etag='"e"')
    here.start()
    here.begin()
    assert here.job.counts[ItemState.PENDING] == 2
    earlier = read_earlier(here.services.blobs, here.job_id, 0, 2)
    assert [one.validators.etag for one in earlier.values()] == [None, None]


@pytest.mark.parametrize(("share", "goes"), [(None, True), (0.4, False), (0.0, False), (1.0, True)])
def test_no_more_goes_than_may_go_at_once(here: Here, share: float | None, goes: bool) -> None:
    here.listing = Listing([Entry(f"http://x/{n}") for n in range(4)])
    here.run([INDEXED] * 4, [0, 1, 2, 3])
    here.listing.entries = here.listing.entries[:2]
    here.run([UNCHANGED] * 2 + [REMOVED] * 2, [None] * 4, max_delete_share=share)
    assert (here.job.status is JobStatus.SUCCEEDED) == goes
    assert here.job.total == (4 if goes else 2)
    assert [note.count for note in here.job.notes if note.code == "too_many_deletions"] == (
        [] if goes else [2]
    )
    assert len(here.brought()) == (2 if goes else 4), "what was withheld is still known"
    run = here.runs()[0]
    assert run.withheld == (0 if goes else 2)
    assert run.detail is None if goes else "2 of 4 known entries" in str(run.detail)


def test_without_delete_missing_nothing_goes_and_nothing_is_withheld(here: Here) -> None:
    here.source = Source("shop", "https://shop.example/feed.csv", "images")
    here.listing = Listing([Entry("http://x/1")])
    here.run([INDEXED], [1])
    here.listing = Listing([])
    here.run([], [])
    assert here.job.status is JobStatus.SUCCEEDED
    assert here.brought() == [("http://x/1", "01", True)]


def test_what_failed_keeps_what_it_had_and_what_it_may_have_brought_is_kept_in_mind(here: Here) -> None:
    here.listing = Listing([Entry("http://x/1"), Entry("http://x/2")])
    here.run([INDEXED] * 2, [1, 2])
    here.run([FAILED, FAILED], [None, 8])
    assert here.brought() == [
        ("http://x/1", "01", True),
        ("http://x/2", "02", True),
        ("http://x/2", "08", False),
    ]
    here.start()
    here.begin()
    items = read_items(here.services.blobs, here.job_id, 0, 2)
    assert [one.before for one in items] == [(image(1),), (image(2), image(8))]


def test_a_cancelled_sync_keeps_what_it_has_brought_so_far(here: Here) -> None:
    here.listing = Listing([Entry(f"http://x/{n}") for n in range(6)])
    here.start()
    here.begin()
    (first, _) = here.ledger.dispatch()
    claim = here.ledger.claim(first, Stage.FETCH)
    assert claim is not None
    write_results(
        here.services.blobs,
        first,
        Stage.FETCH,
        "t",
        [ItemResult(0, "", 1, image(1)), ItemResult(1, "", 1, image(2))],
    )
    assert here.ledger.advance(
        claim, transitions=[(0, INDEXED), (1, ItemState.FETCHED)], next_stage=Stage.ENCODE
    )
    here.ledger.cancel(here.job_id)
    here.finish()
    assert here.brought() == [("http://x/0", "01", True), ("http://x/1", "02", False)]
    assert [run.status for run in here.runs()] == [JobStatus.CANCELLED]
    here.start()


def test_the_end_may_come_twice(here: Here) -> None:
    here.listing = Listing([Entry("http://x/1"), Entry("http://x/2"), Entry("http://x/3")])
    here.run([INDEXED] * 3, [1, 2, 3], etag='"e"')
    here.listing = Listing([Entry("http://x/1"), Entry("http://x/2")])
    here.start()
    here.begin()
    here.brings([INDEXED, FAILED, REMOVED], [9, 8, None], etag='"f"')
    claim = here.claim(FINAL)
    finish(here.services, claim)
    once = here.brought_rows()
    finish(here.services, claim)
    assert here.brought_rows() == once
    assert here.brought() == [
        ("http://x/1", "09", True),
        ("http://x/2", "02", True),
        ("http://x/2", "08", False),
    ]


def test_a_picture_is_not_asked_for_with_what_the_server_said_of_another(here: Here) -> None:
    here.listing = Listing([Entry("http://x/1"), Entry("http://x/2"), Entry("http://x/3", key="k")])
    here.run([INDEXED] * 3, [1, 2, 3], etag='"e"')
    here.listing.entries = [Entry("http://x/1"), Entry("http://x/2"), Entry("http://x/4", key="k")]
    here.run([INDEXED, UNCHANGED, UNCHANGED], [8, 2, 3])  # and the server says nothing of them
    here.start()
    here.begin()
    earlier = read_earlier(here.services.blobs, here.job_id, 0, 3)
    assert [(one.image_id, one.validators.etag) for one in earlier.values()] == [
        (image(8), None),
        (image(2), '"e"'),
        (image(3), None),
    ]


def test_a_listing_that_fails_ends_the_job_and_a_passing_failure_is_tried_again(here: Here) -> None:
    here.listing = Listing(
        [Entry("http://x/1")], failure=ListingFailed("The feed broke off.", transient=True)
    )
    here.start()
    here.begin()
    assert not here.job.status.finished
    here.listing.failure = ListingFailed("The feed is a web page.")
    cast(Any, here.ledger)._redis.call("zadd", "is:due", {f"{here.job_id}:0:0:0": 0})
    here.begin()
    assert here.job.status is JobStatus.FAILED
    assert here.job.result == {"detail": "The feed is a web page."}
    assert [(run.status, run.detail) for run in here.runs()] == [
        (JobStatus.FAILED, "The feed is a web page.")
    ]
    here.start()


def test_a_listing_that_was_written_is_not_read_again(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.listing = Listing([Entry("http://x/1")])
    here.start()

    def killed(*_: object, **__: object) -> None:
        raise Unavailable("Killed.")

    with monkeypatch.context() as patch:
        patch.setattr(here.ledger, "plan", killed)
        claim = here.claim(BEGIN)
        with pytest.raises(Unavailable):
            begin(here.services, claim, HostHeaders(None), cast(Any, SimpleNamespace(is_set=bool)))
    here.ledger.release([claim], 0, count_delivery=True)
    here.begin()
    assert (here.listed, here.job.total) == (1, 1)


def test_a_dry_run_tells_and_changes_nothing(here: Here) -> None:
    here.listing = Listing([Entry("http://x/1"), Entry("http://x/2"), Entry("http://x/3", key="k")])
    here.run([INDEXED] * 3, [1, 2, 3])
    before = here.services.blobs.get(brought_key("shop"))
    here.listing = Listing([Entry("http://x/1"), Entry("http://x/4"), Entry("http://x/5", key="k")])
    here.start(dry_run=True)
    here.begin()
    assert here.job.status is JobStatus.SUCCEEDED
    result = here.job.result
    assert result is not None
    assert result["counts"] == {"added": 1, "changed": 1, "unchanged": 1, "removed": 1, "withheld": 0}
    assert result["removed"] == [{"source": "http://x/2", "key": None, "image_id": image(2)}]
    assert result["changed"] == [{"source": "http://x/5", "key": "k", "image_id": image(3)}]
    assert here.services.blobs.get(brought_key("shop")) == before
    here.start(dry_run=True, max_delete_share=0.0)
    here.begin()
    result = here.job.result
    assert result is not None
    assert (result["counts"]["removed"], result["counts"]["withheld"]) == (0, 1)
    assert [one["image_id"] for one in result["removed"]] == [image(2)], "what is withheld is shown"
    assert [note["code"] for note in result["notes"]] == ["too_many_deletions"]
    assert [run.dry_run for run in here.runs()] == [True, True, False]


def test_a_dry_run_shows_what_would_be_withheld(here: Here) -> None:
    here.listing = Listing([Entry(f"http://x/{n}") for n in range(4)])
    here.run([INDEXED] * 4, [0, 1, 2, 3])
    here.listing = Listing([Entry("http://x/0")])
    here.start(dry_run=True)
    here.begin()
    result = here.job.result
    assert result is not None
    assert result["counts"] == {"added": 0, "changed": 0, "unchanged": 1, "removed": 0, "withheld": 3}
    assert sorted(one["image_id"] for one in result["removed"]) == [image(1), image(2), image(3)]


def test_a_source_that_is_deleted_with_its_images_goes_once_they_have(here: Here) -> None:
    here.listing = Listing([Entry("http://x/1"), Entry("http://x/2")])
    here.run([INDEXED] * 2, [1, 2])
    here.run([REMOVED, FAILED], [None, None], removing=True)
    assert source_exists(here.services.blobs, "shop")
    assert here.brought() == [("http://x/2", "02", True)] or here.brought() == [("http://x/1", "01", True)]
    here.run([REMOVED], [None], removing=True)
    assert not source_exists(here.services.blobs, "shop")
    assert here.services.blobs.list("sources/") == []
    assert here.listed == 1


def test_removals_wait_until_the_entries_have_ended(here: Here) -> None:
    here.listing = Listing([Entry(f"http://x/{n}") for n in range(8)])
    here.run([INDEXED] * 8, [*range(8)])
    here.listing.entries = here.listing.entries[:4]
    here.start()
    here.begin()
    entries, removals = (here.ledger.claim(chunk, Stage.FETCH) for chunk in here.ledger.dispatch())
    assert entries and removals
    assert hand_on_removals(here.services, removals)
    assert here.job.counts[ItemState.FETCHED] == 0
    assert here.ledger.advance(entries, transitions=[(i, UNCHANGED) for i in range(4)])
    cast(Any, here.ledger)._redis.call("zadd", "is:due", {removals.chunk.ref: 0})
    assert (Stage.FETCH, removals.chunk) in here.ledger.sweep()
    again = here.ledger.claim(removals.chunk, Stage.FETCH)
    assert again is not None
    assert again.deliveries == 1, "waiting is no failure"
    assert hand_on_removals(here.services, again)
    assert here.job.counts[ItemState.FETCHED] == 4
