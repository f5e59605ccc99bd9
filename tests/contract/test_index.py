"""One suite for the index: against Chroma in this process and against a real `chroma run`."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb import errors
from chromadb.api.models.Collection import Collection as ChromaCollection
from numpy.typing import NDArray

from deploy.ports import free_port
from shared.errors import (
    CollectionExists,
    CollectionNotFound,
    ImageNotFound,
    IndexRefused,
    IndexUnavailable,
    InvalidRequest,
    ModelMismatch,
)
from shared.filters.parsing import parse_where
from shared.index import collection as collection_module
from shared.index import index as index_module
from shared.index import search, survey
from shared.index.collection import Collection
from shared.index.connection import CALLS_AT_ONCE, QUERIES_PER_CALL, calls
from shared.index.index import Index
from shared.index.records import MAX_LISTED
from shared.models import Image
from tests.chroma_server import ChromaServer
from tests.contract.conftest import NewIndex
from tests.stack import eventually

MODEL = {"model": "m/one", "fingerprint": "1" * 16}
OTHER_MODEL = {"model": "m/two", "fingerprint": "2" * 16}
Vectors = NDArray[np.float32]


@pytest.fixture
def collection(index: Index) -> Collection:
    return index.create("images", **MODEL, dimension=8)


def image(number: int, **fields: Any) -> Image:
    defaults: dict[str, Any] = {
        "id": f"{number:064x}",
        "source": f"https://example.com/{number}.jpg",
        "sources": [f"https://example.com/{number}.jpg"],
        "format": "jpeg",
        "width": 640,
        "height": 480,
        "bytes": 1234,
        "created_at": 1_700_000_000.25,
    }
    return Image(**defaults | fields)


def unit_rows(count: int, dimension: int = 8, seed: int = 0) -> Vectors:
    rows: Vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def fill(collection: Collection, vectors: Vectors, **metadata: Callable[[int], Any]) -> list[Image]:
    images = [
        image(number, metadata={name: value(number) for name, value in metadata.items()})
        for number in range(len(vectors))
    ]
    collection.upsert(images, vectors, [f"job:{number}" for number in range(len(vectors))])
    return images


def exact(vectors: Vectors, query: Vectors) -> list[str]:
    scores = vectors @ query
    return [f"{n:064x}" for n in sorted(range(len(vectors)), key=lambda n: (-scores[n], n))]


# --- collections ---------------------------------------------------------------------------------------


def test_ping_answers(index: Index) -> None:
    index.ping()


def test_a_created_collection_is_listed_with_its_model_and_count(index: Index) -> None:
    made = index.create("b-side", **MODEL, dimension=8)
    index.create("A", **OTHER_MODEL, dimension=4)
    fill(made, unit_rows(3))
    listed = index.collections()
    assert [(info.name, info.count, info.model, info.dimension) for info in listed] == [
        ("A", 0, "m/two", 4),
        ("b-side", 3, "m/one", 8),
    ]
    assert made.info == index.collection("b-side").info == listed[1]
    assert made.physical not in ("b-side", index.collection("A").physical)


def test_creating_a_collection_twice_is_a_conflict(index: Index, new_index: NewIndex) -> None:
    index.create("images", **MODEL, dimension=8)
    for maker in (index, new_index()):
        with pytest.raises(CollectionExists):
            maker.create("images", **MODEL, dimension=8)


def test_a_collection_that_another_process_has_just_deleted_is_filled_anew(
    index: Index, new_index: NewIndex
) -> None:
    writer = new_index()
    fill(writer.ensure("images", **MODEL, dimension=8), unit_rows(3))
    index.delete("images")
    fill(writer.ensure("images", **MODEL, dimension=8), unit_rows(2))
    assert index.collection("images").count() == 2


def test_keys_of_a_collection_that_another_process_has_just_deleted_are_gone(
    index: Index, new_index: NewIndex
) -> None:
    index.create("images", **MODEL, dimension=8)
    reader = new_index().collection("images")
    index.delete("images")
    with pytest.raises(CollectionNotFound):
        reader.key_records(["sku-1"])


@pytest.mark.parametrize("kind", ["hnsw", "spann"])
@pytest.mark.parametrize(("space", "opens"), [("cosine", True), ("l2", False)])
def test_a_collection_opens_if_chroma_compares_its_vectors_by_cosine(
    index: Index, monkeypatch: pytest.MonkeyPatch, kind: str, space: str, opens: bool
) -> None:
    # What a single Chroma server answers, and Distributed Chroma.
    answer = {"hnsw": None, "spann": None, "embedding_function": None} | {kind: {"space": space}}
    monkeypatch.setattr(index_module.ChromaCollection, "configuration_json", property(lambda _: answer))
    with nullcontext() if opens else pytest.raises(IndexUnavailable, match="cosine"):
        index.create("images", **MODEL, dimension=8)


def test_an_unknown_collection_is_not_found(index: Index) -> None:
    for call in (index.collection, index.delete):
        with pytest.raises(CollectionNotFound):
            call("nonesuch")


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a.", "é", "a" * 64, "a b", "a\n"])
def test_a_name_that_cannot_be_one_is_refused(index: Index, name: str) -> None:
    for make in (index.create, index.ensure):
        with pytest.raises(InvalidRequest):
            make(name, **MODEL, dimension=8)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "a..b", "127.0.0.1", "a" * 63])
def test_odd_but_valid_names_work(index: Index, name: str) -> None:
    fill(index.create(name, **MODEL, dimension=8), unit_rows(1))
    assert index.collection(name).count() == 1


def test_ensure_opens_what_exists(index: Index, new_index: NewIndex) -> None:
    first = index.ensure("images", **MODEL, dimension=8)
    assert new_index().ensure("images", **MODEL, dimension=8).physical == first.physical


def test_ensure_by_many_at_once_ends_with_one_physical_collection(index: Index, new_index: NewIndex) -> None:
    start = threading.Barrier(8)

    def ensure(number: int) -> str:
        mine = new_index()
        mine.ping()
        start.wait()
        made = mine.ensure("images", **MODEL, dimension=8)
        made.upsert([image(number)], unit_rows(1), ["job:0"])
        return made.physical

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ensure, range(8)))) == 1
    assert index.collection("images").count() == 8


def test_create_by_many_at_once_succeeds_once(index: Index, new_index: NewIndex) -> None:
    start = threading.Barrier(6)

    def create(_: int) -> bool:
        mine = new_index()
        start.wait()
        try:
            mine.create("images", **MODEL, dimension=8)
        except CollectionExists:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(create, range(6))) == 1


def test_a_collection_of_another_model_is_refused_with_what_to_do(index: Index, new_index: NewIndex) -> None:
    index.create("images", **MODEL, dimension=8)
    other = new_index()
    with pytest.raises(ModelMismatch) as raised:
        other.ensure("images", **OTHER_MODEL, dimension=8)
    for part in ("m/one", "reindex --collection images --model m/two"):
        assert part in raised.value.detail


def test_says_what_its_collections_are_bound_to(index: Index) -> None:
    assert index.pointers() == []
    index.create("mine", **MODEL, dimension=8)
    index.create("images", **OTHER_MODEL, dimension=8)
    index.stage("mine", **OTHER_MODEL, dimension=8)
    assert [(one.name, one.model) for one in index.pointers()] == [("images", "m/two"), ("mine", "m/one")]


def test_ids_come_in_pages_in_the_order_in_which_they_were_written(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection_module, "_PAGE", 7)
    monkeypatch.setattr(collection_module, "_OVERLAP", 3)
    ids = [image.id for image in fill(collection, unit_rows(30))]
    assert list(collection.ids()) == ids


def test_ids_leave_nothing_out_when_pictures_are_deleted_meanwhile(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection_module, "_PAGE", 7)
    monkeypatch.setattr(collection_module, "_OVERLAP", 3)
    ids = [image.id for image in fill(collection, unit_rows(30))]
    listed = []
    for number, image_id in enumerate(collection.ids()):
        listed.append(image_id)
        if number in (1, 8, 15):
            collection.delete(ids[number - 1 : number + 2])
    assert set(collection.ids()) < set(listed)
    assert len(set(listed)) == len(listed)


def test_a_collection_made_anew_is_empty_and_never_reuses_its_physical_name(
    collection: Collection, index: Index
) -> None:
    fill(collection, unit_rows(3))
    index.delete("images")
    with pytest.raises(CollectionNotFound):
        index.collection("images")
    anew = index.create("images", **MODEL, dimension=8)
    assert anew.count() == 0
    assert anew.physical != collection.physical


def test_a_deleted_collection_is_gone_for_who_still_holds_it(
    index: Index, new_index: NewIndex, collection: Collection
) -> None:
    held = new_index().collection("images")
    held.count()
    index.delete("images")
    for call in (held.count, lambda: fill(held, unit_rows(1)), lambda: held.search(unit_rows(1)[0], limit=1)):
        with pytest.raises(CollectionNotFound):
            call()


def test_who_holds_a_collection_follows_it_when_it_is_made_anew(
    index: Index, new_index: NewIndex, collection: Collection
) -> None:
    held = new_index().collection("images")
    held.count()
    index.delete("images")
    anew = index.create("images", **MODEL, dimension=8)
    fill(held, unit_rows(2))
    assert anew.count() == 2
    assert held.physical == anew.physical


def test_who_holds_a_collection_does_not_follow_it_to_another_model(
    index: Index, new_index: NewIndex, collection: Collection
) -> None:
    held = new_index().collection("images")
    index.delete("images")
    index.create("images", **OTHER_MODEL, dimension=8)
    with pytest.raises(ModelMismatch):
        fill(held, unit_rows(1))


def test_a_pointer_without_its_physical_collection_heals(
    index: Index, new_index: NewIndex, collection: Collection
) -> None:
    """As a crash between the two writes of `create` or of `delete` leaves it."""
    with index_module.calls(5.0):
        index._drop(collection.physical)
    fill(new_index().ensure("images", **MODEL, dimension=8), unit_rows(1))
    assert collection.count() == 1


def test_vectors_are_compared_by_cosine_and_stored_often_enough(collection: Collection) -> None:
    with index_module.calls(5.0):
        configuration = collection._index.open("images").chroma.configuration_json["hnsw"]
    assert configuration["space"] == "cosine"
    assert configuration["sync_threshold"] <= 2_000


# --- records -------------------------------------------------------------------------------------------

RICH = image(
    1,
    created_at=1_700_162_100.3100255,
    sources=["https://example.com/1.jpg", "file:b.png", "bu\u0308cher.png"],
    taken_at=-3.0,
    lat=-47.0,
    lon=0.054292596442362284,
    tags=["cat", "sofa"],
    nsfw=0.0312,
    colors=["gray"],
    phash="00ff00ff00ff00ff",
    jobs=["job", "other"],
    metadata={
        "text": "é😀\x00",
        "blank": "",
        "whole": 3,
        "broken": 3.0,
        "small": 1e-9,
        "yes": True,
        "no": False,
        "big": 2**63 - 1,
        "long": 0.1 + 0.2,
        "tiny": 5e-324,
        "most": 1.7e308,
        "decomposed": "e\u0301 and \u212b",
        "parts": ["e\u0301", "é", "k"],
        "list": ["b", "a", "b", ""],
        "one": ["x"],
        "empty": [],
        "surrogate": "\ud800",
    },
)


def test_a_record_comes_back_as_it_was_written(collection: Collection) -> None:
    vectors = unit_rows(1)
    collection.upsert([RICH], vectors, ["job:7"])
    back = collection.get(RICH.id)
    assert back == RICH
    assert {n: type(v) for n, v in back.metadata.items()} == {n: type(v) for n, v in RICH.metadata.items()}
    assert collection.owners([RICH.id, "nonesuch"]) == {RICH.id: ("job:7", RICH)}
    assert collection.search(vectors[0], limit=1)[0].image == RICH


def test_what_no_answer_could_say_is_not_stored(collection: Collection) -> None:
    named: Any = {"endless": float("inf"), "huge": 2**70, "mixed": ["a", 1], "none": None}
    fields: Any = {"taken_at": 1e300, "lat": float("nan"), "width": -1, "format": "\ud800", "phash": "x"}
    collection.upsert([image(1, metadata={"shop": "north", **named}, **fields)], unit_rows(1), ["job:0"])
    stored = image(1, metadata={"shop": "north"}, lat=None, width=None, format="\ufffd")
    assert collection.get(stored.id) == stored
    assert (
        not {*named, "taken_at", "lat", "width", "_extra"} & collection.records([stored.id])[stored.id].keys()
    )


def test_upsert_leaves_exactly_what_it_is_given(collection: Collection) -> None:
    collection.upsert([RICH, image(2)], unit_rows(2), ["job:7", "job:8"])
    bare = replace(image(1), metadata={"whole": "now a text", "list": 5})
    new_vector = unit_rows(1, seed=5)
    collection.upsert([bare], new_vector, ["job:7"])
    assert collection.get(RICH.id) == bare
    assert collection.count() == 2
    np.testing.assert_allclose(collection.vector(RICH.id), new_vector[0], atol=1e-6)
    where = parse_where({"text": {"ne": "é😀\x00"}, "not": {"list": "a"}})
    assert len(collection.search(new_vector[0], limit=5, where=where)) == 2


@pytest.mark.parametrize("name", ["width", "_owner", "a b", "", "near"])
def test_metadata_under_a_name_that_is_taken_is_a_programming_error(
    collection: Collection, name: str
) -> None:
    with pytest.raises(ValueError, match="name metadata"):
        collection.upsert([image(1, metadata={name: "x"})], unit_rows(1), ["job:0"])


def test_an_update_of_the_metadata_keeps_what_is_written_again(collection: Collection) -> None:
    collection.upsert([RICH], unit_rows(1), ["job:7"])
    collection.upsert([replace(RICH, metadata={"yes": True})], collection.vector(RICH.id)[None], ["job:7"])
    assert collection.owners([RICH.id])[RICH.id] == ("job:7", replace(RICH, metadata={"yes": True}))


def test_vectors_come_back_as_float32(collection: Collection) -> None:
    vectors = unit_rows(3)
    images = fill(collection, vectors)
    asked = [images[2].id, "nonesuch", images[0].id, images[2].id]
    found = collection.vectors(asked)
    assert set(found) == set(collection.owners(asked)) == {images[0].id, images[2].id}
    assert found[images[2].id].dtype == np.float32
    assert found[images[2].id].shape == (8,)
    np.testing.assert_allclose(found[images[2].id], vectors[2], atol=1e-6)


def test_what_is_not_there_is_not_found(collection: Collection) -> None:
    for call in (collection.get, collection.vector):
        with pytest.raises(ImageNotFound):
            call("nonesuch")
    assert collection.owners([]) == {}
    assert collection.vectors([]) == {}


def test_deleting_twice_is_deleting_once(collection: Collection) -> None:
    images = fill(collection, unit_rows(3))
    for _ in range(2):
        collection.delete([images[0].id, "nonesuch"])
    collection.delete([])
    assert collection.count() == 2
    assert collection.owners([one.id for one in images]).keys() == {images[1].id, images[2].id}


def test_a_switch_is_seen_by_who_holds_the_collection_and_what_was_staged_is_hidden(
    index: Index, new_index: NewIndex
) -> None:
    fill(index.create("images", **MODEL, dimension=8), unit_rows(2))
    held = new_index().collection("images")
    created_at = held.info.created_at
    staged = index.stage("images", **MODEL, dimension=8)
    made = fill(staged, unit_rows(5))
    assert index.stage("images", **MODEL, dimension=8).physical == staged.physical
    assert [info.name for info in index.collections()] == ["images"]
    assert [one.name for one in index.pointers()] == ["images"]
    with pytest.raises(CollectionNotFound):
        index.collection(staged.pointer.name)
    assert held.count() == 2
    before = index.switch("images", staged)
    assert before.count() == 2
    index.unstage("images")
    assert list(held.ids()) == [image.id for image in made]
    assert list(index.collection("images").ids()) == list(held.ids())
    assert index.collection("images").info.created_at == created_at < staged.pointer.created_at
    with pytest.raises(CollectionNotFound):
        index.staged("images", MODEL["fingerprint"])


def test_what_a_model_said_of_pictures_is_the_target_s_own_and_the_rest_is_copied(index: Index) -> None:
    decomposed = "cafe\u0301"  # lies beside its record's fields, since Chroma compares in NFC
    source = index.create("images", **MODEL, dimension=8)
    metadata = {"exact": 12345678901234567, "x": decomposed}
    old = [image(n, tags=[decomposed, "old"], nsfw=0.5, metadata=metadata) for n in range(3)]
    full = image(3, nsfw=0.5, metadata={"many": [str(n) for n in range(MAX_LISTED - 1)]})
    source.upsert([*old, full], unit_rows(4), ["job:0"] * 4)
    new = {
        old[0].id: image(0, tags=["te\u0301", "new"], nsfw=0.25),
        old[1].id: image(1),
        full.id: image(3, tags=["more", "than fit"], nsfw=0.25),
    }
    target = index.stage("images", **OTHER_MODEL, dimension=4)
    source.copy_records(target, dict(zip(new, unit_rows(3, 4), strict=True)), new)

    def told(image_id: str) -> tuple[list[str], float | None, Any]:
        found = target.get(image_id)
        return found.tags, found.nsfw, found.metadata

    def expect(metadata: Any) -> None:
        assert told(old[0].id) == (["te\u0301", "new"], 0.25, metadata)
        assert told(old[1].id) == ([], None, metadata)
        assert told(full.id) == ([], None, full.metadata), "Chroma could never again apply its log"

    expect(metadata)
    before = target.records(list(new))
    source.copy_changes(target, [one.id for one in (*old, full)])
    assert target.records(list(new)) == before, "nothing but tags and nsfw differs"
    changed = {"exact": 5, "y": decomposed}
    rows = [
        replace(one, image=replace(one.image, metadata=changed))
        for one in source.stored([old[0].id, old[1].id]).values()
    ]
    source.update(rows)
    source.copy_changes(target, [one.id for one in (*old, full)])
    expect(changed)
    assert set(target.ids()) == new.keys()


def test_a_switch_to_another_model_is_refused_to_who_holds_the_collection(index: Index) -> None:
    held = index.create("images", **MODEL, dimension=8)
    staged = index.stage("images", **OTHER_MODEL, dimension=4)
    fill(held, unit_rows(3))
    assert held.copy_records(staged, {f"{n:064x}": unit_rows(1, 4)[0] for n in (0, 2, 7)}) == [
        f"{n:064x}" for n in (0, 2)
    ]
    index.switch("images", staged)
    index.switch("images", index.collection("images"))  # once more, after a crash
    index.unstage("images")
    held._index._cache.clear()
    with pytest.raises(ModelMismatch, match="written by the model m/two"):
        held.count()
    found = index.collection("images")
    assert (found.count(), found.vector("0" * 64).shape) == (2, (4,))


def test_deleting_a_collection_deletes_what_is_staged_beside_it(index: Index) -> None:
    index.create("images", **MODEL, dimension=8)
    index.create("images2", **MODEL, dimension=8)
    index.stage("images", **OTHER_MODEL, dimension=8)
    index.stage("images2", **OTHER_MODEL, dimension=8)
    index.delete("images")
    with pytest.raises(CollectionNotFound):
        index.staged("images", OTHER_MODEL["fingerprint"])
    assert index.staged("images2", OTHER_MODEL["fingerprint"]).count() == 0


def test_a_new_record_takes_nothing_over_from_a_deleted_collection(index: Index) -> None:
    fill(index.create("old", **MODEL, dimension=8), unit_rows(5), shelves=lambda n: [f"old {n}"])
    index.delete("old")
    made = index.create("new", **MODEL, dimension=8)
    images = fill(made, unit_rows(9))
    assert [made.get(image.id) for image in images] == images


def test_more_records_than_chroma_takes_in_a_call(served: str) -> None:
    index = Index(served)
    made = index.create("many", **MODEL, dimension=2)
    vectors = unit_rows(5_500, dimension=2)
    images = fill(made, vectors)
    ids = [one.id for one in images]
    assert made.count() == len(made.owners(ids)) == len(made.vectors(ids)) == 5_500
    made.delete(ids[1:])
    assert made.count() == 1
    index.delete("many")


def test_records_of_more_bytes_than_chroma_takes_in_a_call(served: str) -> None:
    index = Index(served)
    made = index.create("large", **MODEL, dimension=2)
    texts = {"text": lambda n: f"{n}" + "x" * 60_000}
    fill(made, unit_rows(360, dimension=2), **texts)  # 43 MB, half of them for full-text search
    assert made.count() == 360
    index.delete("large")


def test_a_record_that_chroma_does_not_take_is_told_from_an_outage(served: str) -> None:
    index = Index(served)
    made = index.create("refused", **MODEL, dimension=2)
    with pytest.raises(IndexRefused) as caught:
        fill(made, unit_rows(1, dimension=2), text=lambda _: "x" * 45_000_000)
    assert caught.value.size
    made.prove_writable(10_000)
    assert made.count() == 0
    index.delete("refused")


@pytest.mark.parametrize(("rows", "dimension", "owners"), [(2, 8, 1), (1, 7, 1), (1, 8, 2)])
def test_vectors_that_do_not_fit_are_a_programming_error(
    collection: Collection, rows: int, dimension: int, owners: int
) -> None:
    with pytest.raises(ValueError, match="vectors"):
        collection.upsert([image(1)], unit_rows(rows, dimension), ["job:0"] * owners)


# --- search --------------------------------------------------------------------------------------------


def test_search_is_exact_best_first_with_cosine_scores(collection: Collection) -> None:
    vectors = unit_rows(300)
    fill(collection, vectors)
    query = unit_rows(1, seed=1)[0]
    hits = collection.search(query * 3, limit=300)
    assert [hit.image.id for hit in hits] == exact(vectors, query)
    expected = np.sort(vectors @ query)[::-1]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)
    assert all(-1 <= hit.score <= 1 for hit in hits)


def waiting(index: Index) -> int:
    return sum(len(turns._waiting) for turns in index._turns.values())


def test_a_collection_that_chroma_is_slow_with_holds_up_no_search_of_another(
    index: Index, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = index.create("other", **MODEL, dimension=8)
    vectors = np.eye(8, dtype=np.float32)
    for one in (collection, other):
        one.upsert([image(number) for number in range(8)], vectors, ["job:0"] * 8)
    alone = other.search(vectors[3], limit=3)
    slow, free, ask = collection.search(vectors[3], limit=3), threading.Event(), ChromaCollection.query

    def held(self: ChromaCollection, *embeddings: Any, **options: Any) -> Any:
        if self.id == index.open(collection.pointer.name).chroma.id:
            assert free.wait(30)
        return ask(self, *embeddings, **options)

    monkeypatch.setattr(ChromaCollection, "query", held)
    with ThreadPoolExecutor(10) as pool:
        found = [pool.submit(collection.search, vectors[3], limit=3) for _ in range(8)]
        eventually(lambda: waiting(index) == 8 - CALLS_AT_ONCE)
        try:
            assert pool.submit(other.search, vectors[3], limit=3).result(10) == alone
        finally:
            free.set()
        assert [one.result(30) for one in found] == [slow] * 8


def test_nothing_is_kept_in_memory_of_a_collection_that_was_switched_or_deleted(
    index: Index, collection: Collection, new_index: NewIndex
) -> None:
    collection.upsert([image(0)], np.eye(8, dtype=np.float32)[:1], ["job:0"])
    collection.search(np.eye(8)[0], limit=1)
    (former,) = index._turns
    writer = new_index()
    writer.switch("images", writer.stage("images", **OTHER_MODEL, dimension=8))
    with calls(5.0):
        index.open("images", max_age_s=0.0)
    index.collection("images").search(np.eye(8)[0], limit=1)
    assert former not in index._reaching.keys() | index._turns.keys()
    writer.delete("images")
    with calls(5.0), pytest.raises(CollectionNotFound):
        index.open("images", max_age_s=0.0)
    assert (index._reaching, index._turns) == ({}, {})


def test_searches_that_wait_for_chroma_are_asked_together_and_find_what_each_finds_alone(
    index: Index, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.random.default_rng(0).standard_normal((120, 8)).astype(np.float32)
    collection.upsert([image(number) for number in range(120)], vectors, ["job:0"] * 120)
    query = partial(collection.search, limit=7)
    alone, many = [query(vector) for vector in vectors], collection.nearest(vectors[:20], 3)
    asked, free, ask = list[int](), threading.Event(), ChromaCollection.query

    def held(self: ChromaCollection, embeddings: Any, **options: Any) -> Any:
        if len(embeddings) == 20:
            return ask(self, embeddings, **options)
        asked.append(len(embeddings))
        assert free.wait(30)
        return ask(self, embeddings, **options)

    monkeypatch.setattr(ChromaCollection, "query", held)
    with ThreadPoolExecutor(40) as pool:
        found = [pool.submit(query, vector) for vector in vectors[:40]]
        eventually(lambda: asked == [1] * CALLS_AT_ONCE and waiting(index) == 40 - CALLS_AT_ONCE)
        assert collection.nearest(vectors[:20], 3) == many  # a long call neither waits nor is waited for
        others = [pool.submit(query, vector) for vector in vectors[40:]]
        free.set()
        assert [one.result(30) for one in found + others] == alone
    assert asked[2:4] == [QUERIES_PER_CALL] * 2
    assert max(asked) == QUERIES_PER_CALL


def test_a_search_that_fails_beside_others_fails_alone(
    index: Index, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.eye(8, dtype=np.float32)
    collection.upsert([image(number) for number in range(8)], vectors, ["job:0"] * 8)
    query = partial(collection.search, limit=3)
    alone = [query(vector) for vector in vectors]
    asked, free, ask = list[int](), threading.Event(), ChromaCollection.query

    def failing(self: ChromaCollection, embeddings: Any, **options: Any) -> Any:
        asked.append(len(embeddings))
        assert free.wait(30)
        if any(np.array_equal(one, vectors[5]) for one in embeddings):
            raise errors.InternalError("no such luck")
        return ask(self, embeddings, **options)

    monkeypatch.setattr(ChromaCollection, "query", failing)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(query, vector) for vector in vectors]
        eventually(lambda: waiting(index) == len(vectors) - CALLS_AT_ONCE)
        free.set()
        for number, one in enumerate(found):
            if number == 5:
                with pytest.raises(IndexRefused):
                    one.result(30)
            else:
                assert one.result(30) == alone[number]


def test_an_empty_collection_has_no_results(collection: Collection) -> None:
    query = unit_rows(1)[0]
    assert collection.search(query, limit=10) == []
    assert collection.search(query, limit=10, where=parse_where({"shop": "x"})) == []


def test_ties_are_broken_by_id(collection: Collection) -> None:
    same = np.repeat(unit_rows(1), 20, axis=0)
    images = fill(collection, same)
    hits = collection.search(same[0], limit=20)
    assert [hit.image.id for hit in hits] == sorted(one.id for one in images)
    assert {hit.score for hit in hits} == {hits[0].score}
    assert hits[0].score == pytest.approx(1.0)


def test_pages_join_into_the_whole_list(collection: Collection) -> None:
    vectors = unit_rows(90)
    fill(collection, vectors, even=lambda number: number % 2 == 0)
    query = unit_rows(1, seed=1)[0]
    for where in (None, parse_where({"even": True})):
        whole = collection.search(query, limit=500, where=where)
        pages = [
            collection.search(query, limit=20, offset=offset, where=where) for offset in range(0, 120, 20)
        ]
        assert [hit for page in pages for hit in page] == whole
        assert len(whole) == (90 if where is None else 45)


def test_a_ranking_does_not_depend_on_how_much_of_it_is_asked_for(collection: Collection) -> None:
    fill(collection, unit_rows(90), even=lambda number: number % 2 == 0)
    query = unit_rows(1, seed=1)[0]
    for where in (None, parse_where({"even": True})):
        whole = collection.search(query, limit=500, where=where)
        for limit in (1, 31, 32, 40, 500):
            found = collection.ranked(query, limit=limit, where=where)
            assert found.order == [(hit.image.id, hit.score) for hit in whole[:limit]]
            read = found.images | collection.images([one.id for one in found.order])
            assert [read[one.id] for one in found.order] == [hit.image for hit in whole[:limit]]


def test_min_score_and_exclude(collection: Collection) -> None:
    vectors = unit_rows(50)
    images = fill(collection, vectors)
    everything = collection.search(vectors[0], limit=50)
    assert everything[0].image.id == images[0].id
    assert collection.search(vectors[0], limit=49, exclude=images[0].id) == everything[1:]
    assert collection.search(vectors[0], limit=5, offset=3, exclude=images[0].id) == everything[4:9]
    floor = everything[10].score
    where = parse_where({"width": 640})
    for condition in (None, where):
        assert collection.search(vectors[0], limit=50, min_score=floor, where=condition) == everything[:11]


def test_a_filter_that_few_match_finds_them_all(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the farthest of all from the query, so only Chroma's `where` or a scan gets at them."""
    monkeypatch.setattr(search, "_EXACT_CANDIDATES", 300)
    made = index.create("rare", **MODEL, dimension=8)
    query = unit_rows(1, seed=1)[0]
    vectors = unit_rows(900)
    vectors = vectors[np.argsort(-(vectors @ query))]
    fill(
        made,
        vectors,
        rank=lambda number: number,
        name=lambda number: f"{number:04d}",
        half=lambda number: number >= 450,
    )
    conditions: list[tuple[dict[str, Any], range]] = [
        ({"rank": {"gte": 890}}, range(890, 900)),
        ({"name": {"gte": "0890"}}, range(890, 900)),
        ({"half": True, "name": {"gte": "0890"}}, range(890, 900)),
        ({"half": True}, range(450, 900)),
        ({"not": {"rank": {"lt": 600}}}, range(600, 900)),
        ({"id": {"in": [f"{number:064x}" for number in (5, 899)]}}, range(5, 900, 894)),
        ({"rank": {"in": []}}, range(0)),
        ({"nonesuch": 1}, range(0)),
    ]
    for condition, expected in conditions:
        hits = made.search(query, limit=30, where=parse_where(condition))
        assert [hit.image.metadata["rank"] for hit in hits] == list(expected)[:30], condition


def test_nothing_is_lost_among_many_equal_vectors(index: Index) -> None:
    """HNSW alone comes back short here: equal vectors are one another's only neighbours."""
    made = index.create("equal", **MODEL, dimension=16)
    vectors = unit_rows(1_200, dimension=16)
    vectors[100:700] = vectors[0]
    fill(made, vectors, third=lambda number: number % 3 == 0)
    with index_module.calls(5.0):
        chroma = made._index.open("equal").chroma
        short = len(chroma.query(query_embeddings=[vectors[1]], n_results=1_200, include=[])["ids"][0])
    hits = made.search(vectors[1], limit=1_200)
    assert len({hit.image.id for hit in hits}) == 1_200
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    third = made.search(vectors[1], limit=500, where=parse_where({"third": True}))
    assert len({hit.image.id for hit in third}) == 400, f"HNSW alone found {short} of 1,200"


def test_a_survey_tells_the_metadata_of_what_is_there(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collection.survey(None).pictures == 0
    fill(collection, unit_rows(30), n=lambda n: n % 3, note=lambda n: "\ud800" if n % 2 else ["a"])
    found = collection.survey(None)
    assert (found.pictures, found.count, found.complete) == (30, 30, True)
    assert found.names["n"].values == [(0, 10), (1, 10), (2, 10)]
    assert found.names["note"].types == {"text": 15, "texts": 15}
    monkeypatch.setattr(survey, "_PAGE", 4)
    assert collection.survey(None).names == found.names
    assert collection.survey(parse_where({"n": 1})).names["n"].values == [(1, 10)]
    monkeypatch.setattr(survey, "MOST", 12)
    some = collection.survey(None)
    assert (some.pictures, some.complete, set(some.names)) == (12, False, {"n", "note"})


def test_a_search_that_comes_back_short_is_scored_exactly(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = unit_rows(40)
    fill(collection, vectors)
    nothing = {"ids": [[]], "distances": [[]], "metadatas": [[]]}
    monkeypatch.setattr(search, "_answer", lambda *args, **kwargs: nothing)
    hits = collection.search(vectors[7], limit=40)
    assert [hit.image.id for hit in hits] == exact(vectors, vectors[7])
    where = parse_where({"width": {"gt": 0}})
    assert collection.search(vectors[7], limit=40, where=where) == hits


def test_search_after_most_was_deleted(collection: Collection) -> None:
    vectors = unit_rows(400)
    images = fill(collection, vectors)
    collection.delete([one.id for one in images[:390]])
    assert len(collection.search(vectors[0], limit=100)) == 10


# --- trouble -------------------------------------------------------------------------------------------


def every_call(index: Index) -> list[Callable[[], object]]:
    return [
        index.ping,
        index.collections,
        lambda: index.collection("images"),
        index.pointers,
        lambda: index.create("images", **MODEL, dimension=8),
        lambda: index.ensure("images", **MODEL, dimension=8),
        lambda: index.delete("images"),
    ]


def test_every_call_says_that_chroma_is_unavailable() -> None:
    for call in every_call(Index(f"http://127.0.0.1:{free_port()}", timeout_s=2.0)):
        with pytest.raises(IndexUnavailable):
            call()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.timeout(60)
def test_every_call_gives_up_on_a_server_that_hangs(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "WRITE_TIMEOUT_SECONDS", 0.3)
    for call in every_call(Index(silent, timeout_s=0.3)):
        with pytest.raises(IndexUnavailable, match="in time"):
            call()


@pytest.mark.timeout(60)
def test_a_write_gives_up_when_chroma_hangs_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection_module, "WRITE_TIMEOUT_SECONDS", 1.0)
    with ChromaServer(tmp_path / "chroma") as server:
        made = Index(server.url, timeout_s=1.0).create("images", **MODEL, dimension=512)
        with server.paused():
            for call in (
                lambda: fill(made, unit_rows(2_000, dimension=512)),
                lambda: made.search(unit_rows(1, dimension=512)[0], limit=1),
                lambda: made.delete(["x"]),
                made.count,
            ):
                with pytest.raises(IndexUnavailable, match="in time"):
                    call()
        fill(made, unit_rows(2, dimension=512))
        assert made.count() == 2


def test_the_index_works_again_once_chroma_is_back(tmp_path: Path) -> None:
    server = ChromaServer(tmp_path / "chroma")
    index = Index(server.url)
    with pytest.raises(IndexUnavailable):
        index.ping()
    with server:
        made = index.create("images", **MODEL, dimension=8)
        vectors = unit_rows(20)
        images = fill(made, vectors)
        server.kill()
        with pytest.raises(IndexUnavailable):
            made.search(vectors[0], limit=1)
        with pytest.raises(IndexUnavailable):
            made.upsert(images, vectors, ["job:0"] * 20)
        server.start()
        assert made.search(vectors[3], limit=1)[0].image.id == images[3].id
        assert made.count() == 20


def test_an_index_outlives_the_loss_of_all_of_chromas_data(tmp_path: Path) -> None:
    server = ChromaServer(tmp_path / "one")
    with server:
        index = Index(server.url)
        held = index.create("images", **MODEL, dimension=8)
    with ChromaServer(tmp_path / "two", port=server.port):
        with pytest.raises(CollectionNotFound):
            held.count()
        assert index.collections() == []
        index.ensure("images", **MODEL, dimension=8)
        assert held.count() == 0


def test_what_is_not_chroma_is_unavailable() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: _answer_all(server, answer), daemon=True).start()
        index = Index(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_s=2.0)
        for call in every_call(index):
            with pytest.raises(IndexUnavailable):
                call()


def test_the_token_is_sent_and_environment_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    seen: list[bytes] = []
    answer = b'HTTP/1.1 200 OK\r\ncontent-length: 27\r\nconnection: close\r\n\r\n{"nanosecond heartbeat": 1}'
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: _answer_all(server, answer, seen), daemon=True).start()
        Index(f"http://127.0.0.1:{server.getsockname()[1]}/", token="s3cret").ping()
    assert b"x-chroma-token: s3cret" in seen[0].lower()
    assert seen[0].startswith(b"GET /api/v2/heartbeat ")


def test_an_unknown_tenant_is_unavailable(served: str) -> None:
    for call in every_call(Index(served, tenant="nonesuch"))[1:]:
        with pytest.raises(IndexUnavailable):
            call()


def _answer_all(server: socket.socket, answer: bytes, seen: list[bytes] | None = None) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            request = connection.recv(65_536)
            if seen is not None:
                seen.append(request)
            connection.sendall(answer)


# --- the whole collection, and many queries at once ----------------------------------------------------


def test_every_id_comes_once_over_pages(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_module, "_PAGE", 5)
    monkeypatch.setattr(collection_module, "_OVERLAP", 2)
    assert list(collection.ids()) == []
    for count in (5, 13):
        images = [image(n) for n in range(count)]
        collection.upsert(images, unit_rows(count), ["job:0"] * count)
        assert sorted(collection.ids()) == sorted(one.id for one in images)


def test_many_nearest_at_once_are_those_of_one_by_one(collection: Collection) -> None:
    vectors = unit_rows(20)
    assert collection.nearest(vectors[:2], 4) == [[], []]
    collection.upsert([image(n) for n in range(20)], vectors, ["job:0"] * 20)
    for row, found in zip(vectors[:3], collection.nearest(vectors[:3], 4), strict=True):
        hits = collection.search(row, limit=4)
        assert [one for one, _ in found] == [hit.image.id for hit in hits]
        assert [score for _, score in found] == pytest.approx([hit.score for hit in hits], abs=1e-5)


def test_a_record_with_the_most_texts_in_lists_is_written_and_one_with_more_never_gets_to_chroma(
    collection: Collection,
) -> None:
    most = image(1, metadata={"a": [""] * 3000, "b": [""] * (MAX_LISTED - 3001)})
    collection.upsert([most], unit_rows(1), ["job:0"])
    more = image(2, metadata={"a": [""] * MAX_LISTED})
    with pytest.raises(ValueError, match="5,462 texts in lists: Chroma takes 5,461 a record"):
        collection.upsert([more], unit_rows(1), ["job:0"])
    collection.upsert([image(3)], unit_rows(1), ["job:0"])
    assert collection.count() == 2


def test_a_failure_that_chroma_does_not_class_is_an_outage_and_a_mistake_of_ours_is_not() -> None:
    with pytest.raises(IndexUnavailable), calls(1):
        raise errors.ChromaError("Missing metadata segment")
    with pytest.raises(errors.InvalidArgumentError), calls(1):
        raise errors.InvalidArgumentError("no such operator")
