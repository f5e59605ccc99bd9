"""Entries that a source has no more, and those that it has otherwise: from fetch to the index and its log.

With Chroma in this process, and the pipelines' own handlers.
"""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from shared.errors import ItemError
from shared.index import index as index_module
from shared.index.collection import Collection
from shared.index.index import Index
from shared.models import Claim, Item, ItemState, JobKind, Stage
from shared.storage.arrays import unpack
from shared.storage.blobs import file_key
from shared.storage.validators import OF_ITEMS, write_earlier
from tests.unit.counted import Counted
from tests.unit.fakes import StubEncoder, index_in
from tests.unit.stages import StubServices, drain, make_services
from tests.unit.worker.stages.test_known import MODEL, id_of, png
from worker.encoders import EncoderClock
from worker.pipelines import handler_of, store_of
from worker.recovery import lease, rebuild
from worker.stages import changes, index

INDEXED, DUPLICATE, UPDATED = ItemState.INDEXED, ItemState.DUPLICATE, ItemState.UPDATED
REMOVED, UNCHANGED, FAILED = ItemState.REMOVED, ItemState.UNCHANGED, ItemState.FAILED
SHOP, FEED = "shop", "feed"


class Killed(BaseException):
    """The death of the process."""


class Road:
    """Syncs and ingests in this process."""

    def __init__(self, services: StubServices) -> None:
        self.services = services
        self.tools = cast(
            Any,
            SimpleNamespace(
                services=services.real,
                models=SimpleNamespace(of=lambda _: MODEL),
                headers=None,
                lost=None,
                encoders=SimpleNamespace(of=lambda _: StubEncoder()),
                clock=EncoderClock(),
            ),
        )

    def start(self, *items: Item, kind: JobKind = JobKind.SYNC) -> str:
        job_id = self.services.job(list(items), chunk_size=max(len(items), 4), kind=kind)
        nothing = dict.fromkeys(OF_ITEMS.names)
        asked = [
            {**nothing, "item": number, "image_id": bytes.fromhex(one.before[0]), "shared": False}
            for number, one in enumerate(items)
            if one.before and not one.withdraws
        ]
        write_earlier(self.services.blobs, job_id, 0, pa.Table.from_pylist(asked, OF_ITEMS))
        return job_id

    def handle(self, claim: Claim | None) -> None:
        assert claim is not None
        handler_of(claim)(self.tools, claim)

    def fetch(self) -> None:
        ledger = self.services.ledger
        due = [*ledger.dispatch(), *(chunk for stage, chunk in ledger.sweep() if stage is Stage.FETCH)]
        for chunk in due:
            self.handle(ledger.claim(chunk, Stage.FETCH))

    def work(self) -> None:
        for _ in range(4):
            self.fetch()
            for claim in self.services.ledger.claim_ready(Stage.ENCODE, 10):
                self.handle(claim)
            drain(self.services.real)

    def sync(self, *items: Item) -> list[ItemState]:
        job_id = self.start(*items)
        self.work()
        return self.services.states(job_id)

    def ingest(self, *items: Item) -> list[ItemState]:
        job_id = self.start(*items, kind=JobKind.INGEST)
        self.work()
        return self.services.states(job_id)

    @property
    def collection(self) -> Collection:
        return cast(Index, self.services.index).collection("images")

    @property
    def ids(self) -> set[str]:
        return set(self.collection.ids())

    def log(self) -> list[tuple[int, list[dict[str, Any]]]]:
        """The format and the records of each file of the vector log."""
        files = [self.services.blobs.get(key) for key in self.services.blobs.list("log/images/")]
        return [(int(np.load(io.BytesIO(data))["format"]), unpack(data)[1]) for data in files]

    def same_as_its_log(self) -> bool:
        log = rebuild.read_log(self.services.blobs, "images", self.collection.pointer.fingerprint)
        stored = self.collection.stored(list(self.collection.ids()))
        return {i: one.stored.contributions for i, one in log.images.items()} == {
            i: one.contributions for i, one in stored.items()
        }


def entry(number: int, url: str = "", *before: int, **fields: Any) -> Item:
    url = url or f"http://x/{number}"
    return Item(**{"source": url, "url": url, "of": SHOP, "before": tuple(map(id_of, before)), **fields})


def gone(number: int, url: str = "", **fields: Any) -> Item:
    return entry(number, url, number, withdraws=True, **fields)


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Road:
    monkeypatch.setattr(index_module, "POINTER_TTL_SECONDS", 0.0)
    services = make_services(tmp_path, fetch_concurrency=2, keep="rendition")
    services.index = index_in(tmp_path / "chroma")  # type: ignore[assignment]
    services.downloader.pages = {f"http://{host}/{n}": png(n) for n in range(9) for host in ("x", "y")}
    return Road(services)


def test_an_entry_is_new_or_known_or_says_something_else_or_says_the_same(road: Road) -> None:
    road.ingest(Item("http://y/1", "http://y/1"))
    first = [entry(0, key="k", metadata={"price": 5}), entry(1), entry(2, metadata={"price": 1})]
    assert road.sync(*first) == [INDEXED, DUPLICATE, INDEXED]
    again = [replace(one, before=(id_of(number),)) for number, one in enumerate(first)]
    changed = replace(again[0], metadata={"price": 6})
    assert road.sync(changed, again[1], replace(again[2], metadata={})) == [UPDATED, UNCHANGED, UPDATED]
    assert road.collection.get(id_of(0)).metadata == {"price": 6}
    assert road.collection.get(id_of(2)).metadata == {}
    assert road.collection.get(id_of(1)).sources == ["http://y/1", "http://x/1"]


def test_an_entry_with_another_picture_leaves_the_former_one_with_its_files(road: Road) -> None:
    road.sync(entry(0, key="k"), entry(1, "http://x/1"))
    road.services.downloader.pages["http://x/1"] = png(2)
    assert road.sync(entry(3, "http://x/3", 0, key="k"), entry(2, "http://x/1", 1)) == [INDEXED, INDEXED]
    assert road.ids == {id_of(2), id_of(3)}
    for number, there in ((0, False), (1, False), (2, True), (3, True)):
        assert road.services.blobs.exists(file_key("images", id_of(number), "thumbnail")) is there
    assert road.same_as_its_log()


def test_an_entry_that_came_back_to_its_former_picture_leaves_the_one_between(road: Road) -> None:
    road.sync(entry(1))
    road.services.downloader.pages["http://x/1"] = png(2)
    road.sync(entry(2, "http://x/1"))  # killed before it took the former one away
    road.services.downloader.pages["http://x/1"] = png(1)
    assert road.sync(entry(1, "http://x/1", 1, 2)) == [UNCHANGED]
    assert road.ids == {id_of(1)}


def test_what_an_older_job_has_still_to_do_does_not_undo_a_sync(road: Road) -> None:
    road.sync(entry(1, key="k"))
    road.start(Item("http://y/2", "http://y/2", key="k"), kind=JobKind.INGEST)
    (older,) = road.services.ledger.dispatch()
    assert road.sync(entry(1, "http://x/1", 1, key="k")) == [UNCHANGED]
    road.handle(road.services.ledger.claim(older, Stage.FETCH))
    road.work()
    assert road.ids == {id_of(1)}


def test_what_is_withdrawn_goes_unless_somebody_else_has_it_and_is_counted(road: Road) -> None:
    road.ingest(Item("http://y/1", "http://y/1"))
    road.sync(entry(0, key="k"), entry(1), entry(2))
    road.sync(replace(entry(2), of=FEED))
    states = road.sync(
        entry(3), gone(0, key="k"), gone(1), gone(2), gone(2), entry(4, before=(), withdraws=True)
    )
    assert states == [INDEXED, REMOVED, REMOVED, REMOVED, UNCHANGED, UNCHANGED]
    assert road.ids == {id_of(1), id_of(2), id_of(3)}
    assert road.collection.get(id_of(1)).sources == ["http://y/1"]
    assert road.collection.by_key("k") is None
    assert not road.services.blobs.exists(file_key("images", id_of(0), "thumbnail"))
    assert road.same_as_its_log()


def test_what_was_withdrawn_comes_back_with_its_files(road: Road) -> None:
    road.sync(entry(0))
    assert road.sync(gone(0)) == [REMOVED]
    assert road.ids == set()
    assert road.sync(entry(0)) == [INDEXED]
    assert road.services.blobs.exists(file_key("images", id_of(0), "thumbnail"))
    assert road.same_as_its_log()


def test_an_ingest_of_the_same_bytes_on_its_way_is_not_lost_to_a_withdrawal(road: Road) -> None:
    road.sync(entry(0))
    ingest = road.start(Item("http://y/0", "http://y/0"), kind=JobKind.INGEST)
    road.fetch()
    removal = road.start(gone(0))
    road.fetch()
    claims = road.services.ledger.claim_ready(Stage.INDEX, 10)
    (of_removal,) = [one for one in claims if one.payload == changes.REMOVALS]
    tell = changes.write(road.services.real, of_removal, lambda: None)
    assert tell is not None
    tell()
    assert road.ids == set()
    road.services.ledger.release([one for one in claims if one is not of_removal], 0.0, count_delivery=False)
    road.work()
    assert (road.services.states(ingest), road.services.states(removal)) == ([INDEXED], [REMOVED])
    assert road.ids == {id_of(0)}
    assert road.services.blobs.exists(file_key("images", id_of(0), "thumbnail"))


@pytest.mark.parametrize("write", ["write_keys", "update", "delete"])
def test_a_writer_that_dies_in_a_withdrawal_leaves_nothing_that_is_not_made_and_counts_the_same(
    road: Road, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    road.sync(entry(0, key="k"), entry(1), entry(2))
    road.sync(replace(entry(1), of=FEED))
    job_id = road.start(gone(0, key="k"), gone(1), gone(2), gone(5))
    road.fetch()
    real = getattr(Collection, write)

    def dies(self: Collection, *arguments: Any) -> None:
        real(self, *arguments)
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Collection, write, dies)
        (claim,) = road.services.ledger.claim_ready(Stage.INDEX, 10)
        changes.write(road.services.real, claim, lambda: None)
    road.services.ledger.release([claim], 0.0, count_delivery=True)
    road.work()
    assert road.services.states(job_id) == [REMOVED, REMOVED, REMOVED, UNCHANGED]
    assert road.ids == {id_of(1)}
    assert road.services.ledger.writer.unfinished() == {}
    for number, there in ((0, False), (1, True), (2, False)):
        assert road.services.blobs.exists(file_key("images", id_of(number), "thumbnail")) is there
    assert road.same_as_its_log()


def test_removals_that_cannot_be_written_fail_alone_beside_the_entries_of_their_chunk(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "ERROR_DELAY_SECONDS", -1.0)
    road.sync(entry(0))
    job_id = road.start(entry(1), gone(0), gone(7, before=()))
    monkeypatch.setattr(Collection, "delete", _fails)
    for _ in range(lease.MAX_DELIVERIES + 2):
        road.fetch()
        for claim in road.services.ledger.claim_ready(Stage.ENCODE, 10):
            road.handle(claim)
        drain(road.services.real)
    assert road.services.states(job_id) == [INDEXED, FAILED, UNCHANGED]


def _fails(*_: object) -> None:
    raise ItemError("internal", "no")


def test_only_files_with_what_sources_say_need_the_later_format(road: Road) -> None:
    road.ingest(Item("http://x/1", "http://x/1"))
    road.ingest(Item("http://y/1", "http://y/1"))
    road.sync(entry(0))
    road.sync(gone(0))
    found = road.log()
    assert [(written, records[0]["op"]) for written, records in found] == [
        (1, "add"), (2, "add"), (3, "add"), (3, "withdraw"),
    ]  # fmt: skip
    assert not {"of", "replaces", "updates"} & found[0][1][0].keys()
    withdrawn = found[3][1][0]
    assert (withdrawn["of"], withdrawn["entry"], withdrawn["id"]) == (SHOP, "http://x/0", id_of(0))


def test_a_chunk_of_removals_is_written_by_itself() -> None:
    claim = Claim(cast(Any, None), Stage.INDEX, "t", 1, "removals", "images", 0, 1, 1, JobKind.SYNC)
    assert isinstance(store_of(claim), index.Direct)
    assert store_of(replace(claim, payload="log/images/x.npz")) is index.store


def test_a_chunk_of_removals_counts_as_a_write_of_its_own(road: Road) -> None:
    road.sync(entry(0), entry(1), entry(2))
    counted = Counted()
    assert road.sync(gone(0), gone(1)) == [REMOVED] * 2
    assert counted("write_seconds_count") == 1
    assert counted("write_batch_images_sum") == 2
    assert counted("chunks_total", stage="index") == 1
    assert counted("writer_lag_seconds_count") == 1
