"""What a collection has already is neither decoded nor encoded again, and ends as if it had been.

With Chroma in this process.
"""

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from api.images.edits import remove_image
from shared.errors import IndexUnavailable, NewerFormat
from shared.index import index as index_module
from shared.index.collection import Collection
from shared.index.index import Index
from shared.models import Image, Item, ItemState, Stage
from shared.storage import arrays, vector_log
from shared.storage.arrays import pack, unpack
from shared.storage.blobs import FILE_KINDS, file_key
from tests.unit.fakes import PREPROCESS, StubEncoder, axis, index_in
from tests.unit.stages import StubModel, StubServices, drain, image, make_services
from worker.encoders import EncoderClock, Encoders
from worker.recovery import rebuild
from worker.recovery.lease import SUSPICIOUS_DELIVERIES
from worker.stages import encode, fetch, transition
from worker.stages.known import KnownImages

PENDING, INDEXED, DUPLICATE = ItemState.PENDING, ItemState.INDEXED, ItemState.DUPLICATE
MODEL = StubModel(PREPROCESS)
RENDITION = "rendition"


def png(number: int) -> bytes:
    """A picture of noise, which no other nearly repeats."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "png")
    return file.getvalue()


def id_of(number: int) -> str:
    return sha256(png(number)).hexdigest()


def item(number: int, **fields: Any) -> Item:
    return Item(**{"source": f"http://x/{number}", "url": f"http://x/{number}", **fields})


class Road:
    """The stages in this process; counts what is decoded and encoded, and the calls that look up."""

    def __init__(self, services: StubServices, monkeypatch: pytest.MonkeyPatch) -> None:
        self.services = services
        self.decoded: list[str] = []
        self.encoded = 0
        self.looked_up: list[list[str]] = []
        decode, with_vectors = fetch.decode, Collection.with_vectors

        def counted_decode(data: bytes, *arguments: Any, **options: Any) -> Any:
            self.decoded.append(sha256(data).hexdigest())
            return decode(data, *arguments, **options)

        def counted_look_up(collection: Collection, ids: list[str]) -> Any:
            self.looked_up.append(ids)
            return with_vectors(collection, ids)

        monkeypatch.setattr(fetch, "decode", counted_decode)
        monkeypatch.setattr(Collection, "with_vectors", counted_look_up)

    def fetch(self, items: list[Item]) -> str:
        job_id = self.services.job(items, chunk_size=max(4, len(items)))
        fetch.run(self.services.real, MODEL, self.services.claim())
        return job_id

    def finish(self) -> None:
        while True:
            claims = self.services.ledger.claim_ready(Stage.ENCODE, 10)
            if not claims:
                break
            for claim in claims:
                encoders = SimpleNamespace(of=lambda _: self)
                encode.run(self.services.real, cast(Encoders, encoders), claim, EncoderClock())
        drain(self.services.real)

    def fetch_again(self) -> None:
        """What the sweeper and the stages do with what is to be fetched again."""
        for stage, chunk in self.services.ledger.sweep():
            claim = self.services.ledger.claim(chunk, stage)
            assert stage is Stage.FETCH
            assert claim is not None
            fetch.run(self.services.real, MODEL, claim)
        self.finish()

    def ingest(self, *items: Item) -> list[ItemState]:
        job_id = self.fetch(list(items))
        self.finish()
        return self.services.states(job_id)

    def __getattr__(self, name: str) -> Any:  # as an encoder
        return getattr(StubEncoder(), name)

    def encode_images(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.encoded += len(crops)
        return StubEncoder().encode_images(crops)

    @property
    def collection(self) -> Collection:
        return cast(Index, self.services.index).collection("images")

    def image(self, number: int) -> Image:
        return self.collection.get(id_of(number))


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubServices:
    monkeypatch.setattr(index_module, "POINTER_TTL_SECONDS", 0.0)
    services = make_services(tmp_path, fetch_concurrency=2, keep="rendition")
    services.index = index_in(tmp_path / "chroma")  # type: ignore[assignment]
    services.downloader.pages = {f"http://{host}/{n}": png(n) for n in range(9) for host in ("x", "y")}
    return services


@pytest.fixture
def road(services: StubServices, monkeypatch: pytest.MonkeyPatch) -> Road:
    monkeypatch.setitem(transition.AGAIN, "retry_delay_s", 0.0)
    return Road(services, monkeypatch)


def test_the_same_bytes_again_are_neither_decoded_nor_encoded(road: Road) -> None:
    assert road.ingest(item(0, key="a", metadata={"shop": "north", "price": 5}), item(1)) == [INDEXED] * 2
    first = road.image(0)
    assert (len(road.decoded), road.encoded) == (2, 2)
    road.services.dispatcher.sent.clear()
    again = item(0, url="http://y/0", source="http://y/0", key="b", metadata={"price": 6})
    assert road.ingest(again, item(1)) == [DUPLICATE] * 2
    assert (len(road.decoded), road.encoded) == (2, 2)
    assert [stage for stage, _ in road.services.dispatcher.sent] == [Stage.INDEX]
    merged = road.image(0)
    assert merged.sources == ["http://x/0", "http://y/0"]
    assert merged.keys == ["a", "b"]
    assert merged.metadata == {"shop": "north", "price": 6}
    assert merged.jobs[0] == first.jobs[0]
    assert len(merged.jobs) == 2
    changed = {
        "sources": merged.sources,
        "keys": ["a", "b"],
        "metadata": merged.metadata,
        "jobs": merged.jobs,
    }
    assert merged == replace(first, **changed)


def test_of_a_chunk_with_something_new_only_that_is_decoded_and_encoded(road: Road) -> None:
    road.ingest(item(0), item(2))
    states = road.ingest(item(0), item(1), item(2), item(3))
    assert states == [DUPLICATE, INDEXED, DUPLICATE, INDEXED]
    assert set(road.decoded[2:]) == {id_of(1), id_of(3)}
    assert road.encoded == 4
    assert road.services.blobs.list("scratch/") == []
    first, second = road.services.blobs.list("log/images/")
    segment = vector_log.read_segment(road.services.blobs, second)
    assert sorted(a.index for a in segment.additions) == [0, 1, 2, 3]
    of_first = vector_log.read_segment(road.services.blobs, first)
    vectors = dict(zip((a.image.id for a in segment.additions), segment.vectors, strict=True))
    for addition, vector in zip(of_first.additions, of_first.vectors, strict=True):
        np.testing.assert_allclose(vectors[addition.image.id], vector, atol=1e-6)


def test_crops_that_cannot_be_encoded_do_not_cost_what_is_known(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.ingest(item(0))
    job_id = road.fetch([item(0), item(1)])
    monkeypatch.setattr(StubEncoder, "preprocess", replace(PREPROCESS, crop_size=(5, 5)))
    road.finish()
    assert road.services.states(job_id) == [DUPLICATE, ItemState.FAILED]


def test_uploads_are_known_like_urls(road: Road) -> None:
    road.ingest(item(0))
    road.services.blobs.put("jobs/j/uploads/000000000", png(0))
    upload = Item(source="holiday.png", upload="jobs/j/uploads/000000000", key="k")
    assert road.ingest(upload) == [DUPLICATE]
    assert len(road.decoded) == 1
    assert road.image(0).sources == ["http://x/0", "holiday.png"]


def test_the_same_new_bytes_twice_in_a_chunk_are_one_picture(road: Road) -> None:
    assert road.ingest(item(0), item(0, url="http://y/0", source="http://y/0")) == [INDEXED, DUPLICATE]
    assert road.image(0).sources == ["http://x/0", "http://y/0"]


def test_the_same_known_bytes_twice_in_a_chunk_are_each_said_of_the_picture(road: Road) -> None:
    road.ingest(item(0))
    assert road.ingest(item(0, key="a"), item(0, key="b")) == [DUPLICATE, DUPLICATE]
    assert road.image(0).keys == ["a", "b"]
    assert len(road.decoded) == 1


def test_a_picture_that_is_deleted_on_the_way_stays_deleted(road: Road) -> None:
    road.ingest(item(0))
    road.fetch([item(0)])
    remove_image(road.services.real, "images", id_of(0))
    road.finish()
    assert road.collection.count() == 0
    assert not any(road.services.blobs.exists(file_key("images", id_of(0), kind)) for kind in FILE_KINDS)


def test_a_picture_whose_deletion_began_before_the_job_is_fetched_again(road: Road) -> None:
    """A deletion of many takes minutes: until its turn comes a picture is there, and looks known."""
    road.ingest(item(0, key="a"), item(1))
    version = road.services.ledger.writer.new_version()
    job_id = road.fetch([item(0, key="a"), item(1)])
    road.services.ledger.writer.record_removal("images", id_of(0), version)
    road.collection.delete([id_of(0)])
    road.services.blobs.delete(*(file_key("images", id_of(0), kind) for kind in FILE_KINDS))
    road.finish()
    assert road.services.states(job_id) == [PENDING, DUPLICATE]
    road.fetch_again()
    assert road.services.states(job_id) == [INDEXED, DUPLICATE]
    assert road.image(0).keys == ["a"]
    assert road.services.blobs.exists(file_key("images", id_of(0), "thumbnail"))


def test_a_picture_that_is_replaced_under_its_key_on_the_way_comes_back_with_its_files(road: Road) -> None:
    road.ingest(item(0, key="a"))
    replacing = road.services.job([item(1, key="a")])
    claim = road.services.claim()
    back = road.fetch([item(0, key="a")])
    assert road.decoded == [id_of(0)]
    # The older job is written first, though it was fetched last.
    (of_back,) = road.services.ledger.claim_ready(Stage.INDEX, 1)
    fetch.run(road.services.real, MODEL, claim)
    road.finish()
    assert list(road.collection.ids()) == [id_of(1)]
    assert not road.services.blobs.exists(file_key("images", id_of(0), RENDITION)), "it is in the trash"
    road.services.ledger.release([of_back], -1.0, count_delivery=False)
    road.services.ledger.sweep()
    road.finish()
    assert road.services.states(replacing) == [INDEXED]
    assert road.services.states(back) == [INDEXED]
    assert list(road.collection.ids()) == [id_of(0)]
    assert road.services.blobs.exists(file_key("images", id_of(0), RENDITION))
    assert len(road.decoded) == 2


def test_what_a_killed_delivery_has_logged_does_not_stay_when_the_url_brings_another_picture(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.ingest(item(0, key="a"), item(2, key="b"))
    job_id = road.services.job([item(0, key="a")])
    chunk = road.services.ledger.dispatch()[0]
    killed = road.services.ledger.claim(chunk, Stage.FETCH)
    assert killed
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "end_chunk", lambda *_, **__: None)
        fetch.run(road.services.real, MODEL, killed)
    road.services.ledger.release([killed], -1.0, count_delivery=True)
    road.services.downloader.pages["http://x/0"] = png(1)
    road.fetch_again()
    assert road.services.states(job_id) == [INDEXED]
    assert set(road.collection.ids()) == {id_of(1), id_of(2)}
    assert not rebuild.verify(road.services.real, "images")


def test_what_is_in_the_trash_is_decoded_again(road: Road) -> None:
    road.ingest(item(0, key="a"))
    road.ingest(item(1, key="a"))
    assert road.ingest(item(0)) == [INDEXED]
    assert road.decoded == [id_of(0), id_of(1), id_of(0)]
    assert road.services.blobs.exists(file_key("images", id_of(0), RENDITION))


@pytest.mark.parametrize(
    ("before", "after"), [("none", "rendition"), ("none", "original"), ("original", RENDITION)]
)
def test_a_file_that_keep_wants_by_now_is_made(road: Road, before: str, after: str) -> None:
    road.services.settings = road.services.settings.model_copy(update={"keep": before})
    road.ingest(item(0))
    road.services.settings = road.services.settings.model_copy(update={"keep": after})
    assert road.ingest(item(0)) == [DUPLICATE]
    assert road.services.blobs.exists(file_key("images", id_of(0), cast(Any, after)))
    assert road.ingest(item(0)) == [DUPLICATE]
    assert len(road.decoded) == 2


def test_under_another_model_nothing_is_known(road: Road) -> None:
    index = cast(Index, road.services.index)
    other = index.ensure("images", model="other", fingerprint="6" * 16, dimension=8)
    other.upsert([image(id_of(0))], axis(0)[None], ["job:0"])
    road.services.blobs.put(file_key("images", id_of(0), RENDITION), b"")
    road.fetch([item(0)])
    assert road.decoded == [id_of(0)]


def test_what_was_known_under_the_former_model_is_fetched_again_after_a_switch(road: Road) -> None:
    road.ingest(item(0))
    job_id = road.fetch([item(0)])
    index = cast(Index, road.services.index)
    staged = index.stage("images", model="other", fingerprint="6" * 16, dimension=8)
    index.switch("images", staged)
    drain(road.services.real)
    assert road.services.states(job_id) == [PENDING]
    ((stage, chunk),) = road.services.ledger.sweep()
    assert (stage, chunk.attempt) == (Stage.FETCH, 1)


def test_while_chroma_is_away_it_is_asked_once_and_all_is_decoded(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.ingest(item(0), item(1))
    asked: list[list[str]] = []

    def away(_: Collection, ids: list[str]) -> NoReturn:
        asked.append(ids)
        raise IndexUnavailable("Chroma does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "with_vectors", away)
        job_id = road.fetch([item(0), item(1), item(2), item(3)])
    assert len(asked) == 1
    assert len(road.decoded) == 2 + 4
    road.finish()
    assert road.services.states(job_id) == [DUPLICATE, DUPLICATE, INDEXED, INDEXED]


def test_of_a_collection_that_is_still_to_be_made_nothing_is_asked(road: Road) -> None:
    model = StubModel(PREPROCESS)
    object.__setattr__(model, "fingerprint", "")
    road.services.job([item(0)])
    fetch.run(road.services.real, model, road.services.claim())
    assert (road.looked_up, len(road.decoded)) == ([], 1)


def test_a_known_picture_is_not_left_out_for_its_near_duplicates(road: Road) -> None:
    near = io.BytesIO()
    PillowImage.open(io.BytesIO(png(0))).save(near, "webp", lossless=True)
    road.services.downloader.pages["http://x/near"] = near.getvalue()
    copy = Item(source="http://x/near", url="http://x/near", skip_near=True)
    road.ingest(item(0, skip_near=True))
    assert road.ingest(item(0, skip_near=True), copy) == [DUPLICATE, DUPLICATE]
    assert road.collection.count() == 1
    assert road.image(0).sources == ["http://x/0"]
    assert road.ingest(copy, item(1, skip_near=True)) == [DUPLICATE, INDEXED]


def test_a_suspicious_delivery_isolates_only_what_is_new(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[str] = []

    def in_isolation(reader: Callable[[bytes], Any], data: bytes, timeout_s: int) -> Any:
        alone.append(sha256(data).hexdigest())
        return reader(data)

    monkeypatch.setattr(fetch, "run_isolated", in_isolation)
    road.ingest(item(0))
    job_id = road.services.job([item(0), item(1)])
    claim = replace(road.services.claim(), deliveries=SUSPICIOUS_DELIVERIES)
    fetch.run(road.services.real, MODEL, claim)
    road.finish()
    assert road.services.states(job_id) == [DUPLICATE, INDEXED]
    assert alone == [id_of(1)]


def test_the_log_with_copies_makes_the_same_collection(road: Road) -> None:
    road.ingest(item(0, key="a", metadata={"n": 1}), item(1))
    road.ingest(item(0, key="b", metadata={"m": 2}), item(1), item(2))
    remove_image(road.services.real, "images", id_of(1))
    road.ingest(item(2, key="c"), item(0))
    before = {one: (road.collection.get(one), road.collection.vector(one)) for one in road.collection.ids()}
    assert not rebuild.verify(road.services.real, "images")
    assert not rebuild.rebuild(road.services.real, "images")
    assert set(before) == set(road.collection.ids()) == {id_of(0), id_of(2)}
    for image_id, (stored, vector) in before.items():
        np.testing.assert_array_equal(road.collection.vector(image_id), vector)
        assert road.collection.get(image_id) == stored


def test_a_vector_that_is_wrong_in_chroma_does_not_become_the_log_s(road: Road) -> None:
    road.ingest(item(0))
    right = road.collection.vector(id_of(0))
    road.collection.upsert([road.image(0)], axis(3)[None], ["job:0"])
    road.ingest(item(0, key="a"))
    assert rebuild.verify(road.services.real, "images").wrong == [id_of(0)]
    rebuild.rebuild(road.services.real, "images")
    np.testing.assert_allclose(road.collection.vector(id_of(0)), right, atol=1e-6)
    assert road.image(0).keys == ["a"]


def test_a_vector_of_zeros_is_none(road: Road) -> None:
    road.ingest(item(0))
    road.collection.upsert([road.image(0)], np.zeros((1, 8), np.float32), ["job:0"])
    assert road.ingest(item(0)) == [DUPLICATE]
    assert len(road.decoded) == 2


def test_crops_from_before_there_was_anything_known_beside_them_are_encoded(road: Road) -> None:
    job_id = road.fetch([item(0)])
    (key,) = road.services.blobs.list("scratch/")
    header, records, pixels = unpack(road.services.blobs.get(key))
    before = [{name: record[name] for name in record if name != "known"} for record in records]
    road.services.blobs.put(key, pack(header, before, pixels))
    road.finish()
    assert road.services.states(job_id) == [INDEXED]


@pytest.mark.parametrize("is_known", [False, True])
def test_an_encode_worker_of_an_earlier_version_leaves_no_known_image_behind(
    road: Road, monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    """It would encode the crops and nothing else: the chunk has to wait for one that knows them."""
    road.ingest(item(0))
    road.fetch([item(1), *([item(0)] if is_known else [])])
    (key,) = road.services.blobs.list("scratch/")
    monkeypatch.setattr(arrays, "FORMAT", 1)
    with pytest.raises(NewerFormat) if is_known else nullcontext():
        unpack(road.services.blobs.get(key))


def known_images(tmp_path: Path, concurrency: int, look_up: Callable[[list[str]], Any]) -> KnownImages:
    services = make_services(tmp_path, fetch_concurrency=concurrency, keep="none")
    services.index.stored.with_vectors = look_up  # type: ignore[method-assign, assignment]
    return KnownImages(services.real, "images", MODEL)


def test_whoever_comes_during_a_call_shares_the_next(tmp_path: Path) -> None:
    calls: list[list[str]] = []
    first, go_on = threading.Event(), threading.Event()

    def look_up(ids: list[str]) -> dict[str, Any]:
        calls.append(ids)
        if len(calls) == 1:
            first.set()
            assert go_on.wait(10)
        return {}

    known = known_images(tmp_path, 16, look_up)
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(known.of, "0")]
        assert first.wait(10)
        asked += [pool.submit(known.of, str(number % 5 + 1)) for number in range(15)]
        while len(known._waiting) < 5:
            time.sleep(0.001)
        time.sleep(0.05)
        go_on.set()
        assert [one.result(10) for one in asked] == [None] * 16
    assert calls[0] == ["0"]
    assert sorted(calls[1]) == list("12345")
    assert len(calls) == 2


def test_while_others_decode_half_the_threads_ask_together(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def look_up(ids: list[str]) -> dict[str, Any]:
        calls.append(ids)
        return {}

    known = known_images(tmp_path, 8, look_up)
    with ThreadPoolExecutor(8) as pool, known.decoding():
        asked = [pool.submit(known.of, str(number)) for number in range(3)]
        time.sleep(0.1)
        assert calls == []
        asked.append(pool.submit(known.of, "3"))
        assert [one.result(10) for one in asked] == [None] * 4
        asked = [pool.submit(known.of, "4")]
        time.sleep(0.1)
        assert len(calls) == 1
    assert asked[0].result(10) is None, "once nobody decodes, there is nothing to wait for"
    assert [len(ids) for ids in calls] == [4, 1]
