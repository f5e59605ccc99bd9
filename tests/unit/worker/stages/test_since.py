"""Lists that are sent again, with `since`: a real downloader, web server, Chroma and ledger's scripts."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from api.jobs.ingest import Options, launch
from shared.download.downloader import Downloader
from shared.download.validators import Validators
from shared.errors import IndexUnavailable, Unavailable
from shared.index.collection import Collection
from shared.index.provenance import Contribution, StoredImage
from shared.ledger.ledger import new_job_id
from shared.models import Image, Item, ItemState, Job, JobKind, Label, Stage
from shared.services import Services
from shared.storage.blobs import file_key, job_prefix
from shared.storage.validators import Earlier, read_earlier, read_validators
from tests.image_server import ImageServer, small_picture
from tests.unit.fakes import Down, StubEncoder, make_services
from tests.unit.stages import StubDispatcher, StubModel, drain, image
from worker import database
from worker.encoders import EncoderClock
from worker.recovery.lease import SUSPICIOUS_DELIVERIES
from worker.stages import changes, encode, fetch, since, url_join
from worker.stages.known import KnownImages

ENCODER = StubEncoder()
MODEL = StubModel(ENCODER.preprocess)


@dataclass
class Deployment:
    services: Services
    server: ImageServer

    def url(self, number: int) -> str:
        return self.server.url(f"/kept/{number}.png")

    def item(self, number: int, key: str | None = None, **metadata: Any) -> Item:
        return Item(self.url(number), self.url(number), metadata=metadata, key=key)

    def create(self, items: Sequence[Item], earlier: str | None = None, **options: Any) -> str:
        given = Options("images", None, None, since=earlier, label=Label(), **options)
        return launch(self.services, given, new_job_id(), items, digest="")

    def ingest(self, items: Sequence[Item] | range, earlier: str | None = None, **options: Any) -> str:
        if isinstance(items, range):
            items = [self.item(number) for number in items]
        job_id = self.create(items, earlier, **options)
        self.work()
        return job_id

    def work(self, model: StubModel = MODEL) -> None:
        """Does all there is to do, but for what waits to be tried again."""
        ledger = self.services.ledger
        encoders: Any = SimpleNamespace(of=lambda _: ENCODER)
        while chunks := ledger.dispatch():
            for chunk in chunks:
                claim = ledger.claim(chunk, Stage.FETCH)
                assert claim is not None
                fetch.run(self.services, model, claim)
                for at_encode in ledger.claim_ready(Stage.ENCODE, 10_000):
                    encode.run(self.services, encoders, at_encode, EncoderClock())
                drain(self.services)

    def counts(self, job_id: str) -> dict[str, int]:
        job = self.job(job_id)
        assert job.status.finished, job
        assert sum(job.counts.values()) == job.total
        return {str(state): count for state, count in job.counts.items() if count}

    def job(self, job_id: str) -> Job:
        return self.services.ledger.get(job_id)

    @property
    def collection(self) -> Collection:
        return self.services.index.collection("images")

    def images(self) -> dict[str, Image]:
        return {one.id: one for one in self.collection.page("", 10_000, None)}

    def delete(self, number: int) -> None:
        self.collection.delete([picture_id(number)])


def picture_id(number: int, version: int = 0) -> str:
    return hashlib.sha256(small_picture(number, version)).hexdigest()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Deployment]:
    services = make_services(tmp_path, fetch_concurrency=4, chunk_size=8, keep="none")
    real = Downloader(timeout_s=5, whole_s=20, max_bytes=2**20, allow_hosts=["127.0.0.1"])
    dispatcher: Any = StubDispatcher()
    with ImageServer() as server:
        yield Deployment(replace(services, downloader=real, dispatcher=dispatcher), server)
    real.close()


def test_a_list_sent_again_costs_what_has_changed(here: Deployment) -> None:
    first = here.ingest(range(20))
    assert here.counts(first) == {"indexed": 20}
    before = here.images()
    again = here.ingest(range(20), first)
    assert here.counts(again) == {"unchanged": 20}
    assert here.server.statuses == {200: 20, 304: 20}
    assert here.images() == before, "nothing was written"
    here.server.versions[3] = 1
    changed = here.ingest(range(20), again)
    assert here.counts(changed) == {"unchanged": 19, "indexed": 1}
    assert len(here.images()) == 21
    here.server.mode = "none"
    assert here.counts(here.ingest(range(20), changed)) == {"duplicate": 20}
    assert "unchanged" not in here.job(first).counts


@pytest.mark.parametrize(
    ("mode", "then"),
    [
        *((mode, "unchanged") for mode in ("etag", "weak", "unquoted", "modified", "both", "eager")),
        *((mode, "duplicate") for mode in ("none", "deaf", "touched", "confused400", "confused412")),
        ("stuck", "failed"),
    ],
)
def test_whatever_a_server_says_comes_out_right(here: Deployment, mode: str, then: str) -> None:
    here.server.mode = mode
    first = here.ingest(range(3))
    again = here.ingest(range(3), first)
    assert here.counts(again) == {then: 3}
    here.server.versions[1] = 1
    if then != "failed":
        assert here.counts(here.ingest(range(3), again)) == {then: 2, "indexed": 1}
        assert here.images().keys() == {picture_id(0), picture_id(1), picture_id(1, 1), picture_id(2)}


def test_a_host_that_breaks_on_conditions_is_asked_without_them_at_last(
    here: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.server.mode = "confused500"
    first = here.ingest(range(3))
    monkeypatch.setattr(fetch, "_retry_delay", lambda *_: 0.0)
    again, ledger = here.ingest(range(3), first), here.services.ledger
    for _ in range(3):
        ((_, chunk),) = ledger.sweep()
        claim = ledger.claim(chunk, Stage.FETCH)
        assert claim
        fetch.run(here.services, MODEL, claim)
    drain(here.services)
    assert here.counts(again) == {"duplicate": 3}
    assert here.server.statuses == {200: 6, 500: 9}


def test_a_url_that_redirects_is_asked_where_it_leads(here: Deployment) -> None:
    url = here.server.url("/redirect-to?url=/kept/1.png")
    first = here.ingest([Item(url, url)])
    assert here.counts(here.ingest([Item(url, url)], first)) == {"unchanged": 1}
    here.server.versions[1] = 1
    assert here.counts(here.ingest([Item(url, url)], first)) == {"indexed": 1}


def test_a_picture_that_was_deleted_comes_back_with_its_url(here: Deployment) -> None:
    first = here.ingest(range(3))
    here.delete(1)
    again = here.ingest(range(3), first)
    assert here.counts(again) == {"unchanged": 2, "indexed": 1}
    assert picture_id(1) in here.images()
    assert here.server.statuses == {200: 4, 304: 2}, "it is not asked for conditionally first"


def test_what_an_item_says_anew_is_merged_without_a_download(here: Deployment) -> None:
    first = here.ingest([here.item(1, "sku-1", shop="north"), here.item(2), here.item(3, n=1)])
    second = here.ingest(
        [here.item(1, "sku-1", shop="south"), here.item(2, "sku-2"), here.item(3, n=1.0)], first
    )
    assert here.counts(second) == {"unchanged": 3}
    assert here.server.statuses == {200: 3, 304: 3}
    images = here.images()
    assert images[picture_id(1)].metadata == {"shop": "south"}
    assert images[picture_id(2)].keys == ["sku-2"]
    assert type(images[picture_id(3)].metadata["n"]) is float
    assert second in images[picture_id(1)].jobs


def test_a_picture_that_only_keys_hold_stays_for_an_item_without_one(here: Deployment) -> None:
    first = here.ingest([here.item(1, "sku")])
    second = here.ingest([here.item(1)], first)
    assert here.counts(second) == {"unchanged": 1}
    here.ingest([here.item(2, "sku")])
    assert picture_id(1) in here.images()


def test_a_key_that_another_picture_took_meanwhile_comes_back(here: Deployment) -> None:
    first = here.ingest([here.item(1, "sku"), here.item(1)])
    here.ingest([here.item(2, "sku")])
    assert here.images()[picture_id(1)].keys == []
    assert here.counts(here.ingest([here.item(1, "sku")], first)) == {"unchanged": 1}
    assert here.images()[picture_id(1)].keys == ["sku"]
    assert picture_id(2) not in here.images()


def test_what_an_older_job_has_still_to_do_does_not_undo_it(here: Deployment) -> None:
    items = [here.item(1, "sku", color="red"), here.item(2, color="red"), here.item(3)]
    first = here.ingest(items)
    older = here.create([here.item(4, "sku"), here.item(2, color="blue")])
    asked = [Item(picture_id(3))]
    deletion = launch(
        here.services, Options("images", None, None, label=Label()), new_job_id(), asked,
        digest="", kind=JobKind.DELETE,
    )  # fmt: skip
    ledger = here.services.ledger
    claims = [claim for chunk in ledger.dispatch() if (claim := ledger.claim(chunk, Stage.FETCH))]
    second = here.ingest(items, first)
    assert here.counts(second) == {"unchanged": 3}
    for claim in claims:
        if claim.kind is JobKind.DELETE:
            changes.begin(here.services, claim)
        else:
            fetch.run(here.services, MODEL, claim)
    for at_encode in ledger.claim_ready(Stage.ENCODE, 10_000):
        encode.run(here.services, SimpleNamespace(of=lambda _: ENCODER), at_encode, EncoderClock())
    drain(here.services)
    here.work()
    assert here.job(older).status.finished and here.job(deletion).status.finished
    images = here.images()
    assert images[picture_id(1)].keys == ["sku"]
    assert images[picture_id(2)].metadata == {"color": "red"}
    assert picture_id(3) in images
    assert here.counts(here.ingest(items, first)) == {"unchanged": 3}


@pytest.mark.parametrize("far", [0, 20], ids=["in one chunk", "in several chunks"])
def test_of_two_items_with_one_key_the_later_one_counts(here: Deployment, far: int) -> None:
    between = [here.item(100 + number) for number in range(far)]
    plain = here.ingest([here.item(1), here.item(2), *between])
    here.ingest([here.item(2, "sku"), here.item(1, "sku")])
    items = [here.item(1, "sku"), *between, here.item(2, "sku")]
    assert here.counts(here.ingest(items, plain)) == {"unchanged": len(items)}
    assert here.images()[picture_id(2)].keys == ["sku"]
    assert here.images()[picture_id(1)].keys == []
    assert here.counts(here.ingest(items, plain)) == {"unchanged": len(items)}
    assert here.images()[picture_id(2)].keys == ["sku"]


def test_of_two_items_with_one_picture_the_later_one_counts(here: Deployment) -> None:
    items = [here.item(1, color="red"), *map(here.item, range(10, 30)), here.item(1, color="blue")]
    first = here.ingest(items)
    assert here.counts(first) == {"indexed": 21, "duplicate": 1}
    assert here.counts(here.ingest(items, first)) == {"unchanged": 22}
    assert here.images()[picture_id(1)].metadata == {"color": "blue"}


def test_rows_come_and_go(here: Deployment) -> None:
    first = here.ingest(range(10))
    assert here.counts(here.ingest(range(5, 15), first)) == {"unchanged": 5, "indexed": 5}
    assert len(here.images()) == 15
    assert here.counts(here.ingest(range(40, 42), first)) == {"indexed": 2}


def test_a_url_that_is_gone_fails_and_its_picture_stays(here: Deployment) -> None:
    first = here.ingest(range(3))
    here.server.versions[1] = -1
    second = here.ingest(range(3), first)
    assert here.counts(second) == {"unchanged": 2, "failed": 1}
    assert picture_id(1) in here.images()
    here.server.versions[1] = 0
    here.services.ledger.retry(second)
    here.work()
    assert here.counts(second) == {"unchanged": 3}
    assert here.counts(here.ingest(range(3), second)) == {"unchanged": 3}


def test_a_job_can_follow_one_that_failed_in_part_or_was_cancelled(here: Deployment) -> None:
    here.server.versions[1] = -1
    partial = here.ingest(range(3))
    assert here.counts(partial) == {"indexed": 2, "failed": 1}
    here.server.versions[1] = 0
    assert here.counts(here.ingest(range(3), partial)) == {"unchanged": 2, "indexed": 1}
    cancelled = here.create([here.item(number) for number in range(3)])
    here.services.ledger.cancel(cancelled)
    assert here.counts(here.ingest(range(3), cancelled)) == {"duplicate": 3}


def test_what_a_chain_of_jobs_knows_is_handed_on(here: Deployment) -> None:
    job = here.ingest(range(4))
    for round_ in range(1, 4):
        here.server.versions[round_] = round_
        job = here.ingest(range(4), job)
        assert here.counts(job) == {"unchanged": 3, "indexed": 1}


def test_files_that_keep_wants_now_are_made(here: Deployment) -> None:
    first = here.ingest(range(2))
    here.services = replace(
        here.services, settings=here.services.settings.model_copy(update={"keep": "original"})
    )
    assert here.counts(here.ingest(range(2), first)) == {"duplicate": 2}
    assert here.services.blobs.get(file_key("images", picture_id(0), "original")) == small_picture(0)
    assert here.counts(here.ingest(range(2), first)) == {"unchanged": 2}


def test_after_a_reindex_the_vector_is_the_new_ones(here: Deployment) -> None:
    first = here.ingest(range(2))
    old = here.collection.with_vectors([picture_id(0), picture_id(1)])
    here.services.index.delete("images")
    model = StubModel(ENCODER.preprocess)
    object.__setattr__(model, "fingerprint", "6" * 16)
    made = here.services.index.ensure("images", model=model.name, fingerprint=model.fingerprint, dimension=8)
    stored = [one for one, _ in old.values()]
    turned = -next(iter(old.values()))[1]
    made.upsert(
        [one.image for one in stored], turned.repeat(2).reshape(8, 2).T, [one.owner for one in stored],
        [one.contributions for one in stored],
    )  # fmt: skip
    again = here.create([here.item(0), here.item(1, new="yes")], first)
    here.work(model)
    assert here.counts(again) == {"unchanged": 2}
    found = here.collection.with_vectors([picture_id(1)])[picture_id(1)]
    assert found[0].image.metadata == {"new": "yes"}
    assert found[1] == pytest.approx(turned)


def test_a_job_that_expired_meanwhile_is_as_if_it_had_not_been_named(here: Deployment) -> None:
    first = here.ingest(range(3))
    again = here.create([here.item(number) for number in range(3)], first)
    here.services.blobs.delete_prefix(job_prefix(first))
    here.work()
    assert here.counts(again) == {"duplicate": 3}


def test_lists_that_cannot_be_compared_are_downloaded(
    here: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.ingest(range(3))
    monkeypatch.setattr(database, "MEMORY_LIMIT", "1KiB")
    again = here.create([here.item(number) for number in range(3)], first)
    here.work()
    assert here.counts(again) == {"duplicate": 3}


def test_a_comparison_that_was_killed_is_made_again(
    here: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.ingest(range(20))
    again = here.create([here.item(number) for number in range(20)], first)
    (chunk, *_) = here.services.ledger.dispatch()
    claim = here.services.ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    monkeypatch.setattr(since, "WAIT_SECONDS", 0.2)
    assert here.services.ledger.joins.acquire(again, "killed")
    with pytest.raises(Unavailable, match="compared with that of job"):
        since.earlier_of(here.services, claim)
    here.services.ledger.joins.release(again, "another")
    assert not here.services.ledger.joins.acquire(again, "another")
    here.services.ledger.joins.release(again, "killed")
    assert len(since.earlier_of(here.services, claim)) == 8
    assert here.services.ledger.joins.acquire(again, "another")


def test_a_comparison_that_keeps_killing_its_worker_is_given_up_and_all_is_downloaded(
    here: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.ingest(range(20))
    again = here.create([here.item(number) for number in range(20)], first)
    (chunk, *_) = here.services.ledger.dispatch()
    claim = here.services.ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    monkeypatch.setattr(since, "join", Down(AssertionError("killed")))
    assert since.earlier_of(here.services, replace(claim, deliveries=SUSPICIOUS_DELIVERIES)) == {}
    here.services.ledger.release([claim], 0.0, count_delivery=False)
    assert read_earlier(here.services.blobs, again, 0, 20) == {}


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_comparison_ends_when_its_job_is_cancelled_or_another_process_makes_it(
    here: Deployment, monkeypatch: pytest.MonkeyPatch, *, cancelled: bool
) -> None:
    first = here.ingest(range(20))
    again = here.create([here.item(number) for number in range(20)], first)
    (chunk, *_) = here.services.ledger.dispatch()
    claim = here.services.ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    lost = threading.Event()

    def interrupted(*arguments: Any) -> Iterator[Any]:
        for table in read_validators(*arguments):
            if cancelled:
                lost.set()
            else:
                here.services.ledger._redis.call("set", f"is:joining:{again}", "another")
                time.sleep(0.2)  # until that is seen
            yield table

    monkeypatch.setattr(url_join, "read_validators", interrupted)
    monkeypatch.setattr(since, "JOIN_LEASE_SECONDS", 0.1)
    with pytest.raises(Unavailable, match="was cancelled, or another process"):
        since.earlier_of(here.services, claim, lost)
    assert here.services.blobs.list(f"{job_prefix(again)}since/") == []
    assert here.services.ledger.joins.acquire(again, "third") == cancelled


def test_the_lists_are_compared_once_the_new_one_is_read_to_its_end(
    here: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.ingest(range(20))
    monkeypatch.setattr(since, "WAIT_SECONDS", 0.2)
    again = here.create([here.item(number) for number in range(20)], first)
    ledger = here.services.ledger
    ledger._redis.call("zadd", "is:reading", {again: time.time() + 60})
    claim = ledger.claim(ledger.dispatch()[0], Stage.FETCH)
    assert claim is not None
    with pytest.raises(Unavailable, match="is being read"):
        since.earlier_of(here.services, claim)


def test_while_its_lists_are_read_or_compared_a_job_leaves_the_slots_to_others(
    here: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.ingest(range(20))
    again = here.create([here.item(number) for number in range(20)], first)
    ledger = here.services.ledger
    (chunk, *_) = ledger.dispatch()
    claim = ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    assert ledger.joins.acquire(again, "another")
    monkeypatch.setattr(since, "NEW_SECONDS", 0.0)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="compared"):
        since.earlier_of(here.services, claim)
    assert time.monotonic() - began < since.WAIT_SECONDS / 2
    ledger.workers.heartbeat("w", "h", ["fetch"], 20)
    read, compared = (here.create([here.item(number)], first) for number in range(2))
    ledger._redis.call("hset", f"is:job:{read}", "reading", "1")
    assert ledger.joins.acquire(compared, "another")
    plain = here.create([here.item(1)])
    assert {one.job_id for one in ledger.dispatch()} == {plain}
    ledger._redis.call("hset", f"is:job:{read}", "reading", "0")
    ledger.joins.release(compared, "another")
    assert {one.job_id for one in ledger.dispatch()} == {read, compared}


def test_nothing_is_left_in_redis_of_a_comparison(here: Deployment) -> None:
    first = here.ingest(range(20))
    before = Counter(key.split(":")[1] for key in here.services.ledger._redis.call("keys", "*"))
    here.ingest(range(20), first)
    after = Counter(key.split(":")[1] for key in here.services.ledger._redis.call("keys", "*"))
    assert after - before == {"job": 1, "states": 1, "advanced": 3}


def test_a_picture_that_is_deleted_while_its_host_is_asked_is_downloaded(
    here: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.ingest([here.item(1)])
    monkeypatch.setattr(KnownImages, "of", lambda *_: None)
    again = here.ingest([here.item(1, shop="north")], first)
    assert here.counts(again) == {"duplicate": 1}
    assert here.server.statuses == {200: 2, 304: 1}


def test_while_chroma_is_away_everything_is_downloaded(
    here: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.ingest(range(2))
    with monkeypatch.context() as away:
        away.setattr(Collection, "stored", Down(IndexUnavailable("Chroma cannot be reached.")))
        again = here.create([here.item(0), here.item(1)], first)
        claim = here.services.ledger.claim(here.services.ledger.dispatch()[0], Stage.FETCH)
        assert claim is not None
        fetch.run(here.services, MODEL, claim)
    assert here.server.statuses == {200: 4}
    assert here.job(again).counts[ItemState.FETCHED] == 2


def test_an_entry_of_a_source_says_nothing_new_only_where_its_source_has_said_exactly_that() -> None:
    entry = Item("u", "u", metadata={"n": 1}, key="e\u0301", of="shop")
    said = Contribution(1, "u", "\u00e9", {"n": 1}, "shop")
    earlier = Earlier("a" * 64, Validators(bytes(16)))

    def adds_nothing(one: Contribution, *, shared: bool = False, unsettled: bool = False) -> bool:
        stored = StoredImage(image("a" * 64, "u", "\u00e9", n=1), "job:0", (one,))
        return since.adds_nothing(entry, stored, replace(earlier, shared=shared, unsettled=unsettled))

    assert adds_nothing(said)
    assert adds_nothing(said, shared=True), "an entry with the same picture changes nothing of what it says"
    assert not adds_nothing(said, unsettled=True)
    others = {
        "of": [None, "feed"],
        "source": ["v"],
        "key": [None],
        "metadata": [{}, {"n": True}, {"n": 1, "m": 2}],
    }
    for name, values in others.items():
        for value in values:
            assert not adds_nothing(replace(said, **{name: value})), (name, value)
