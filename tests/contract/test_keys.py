"""Keys, contributions and pages: one suite against Chroma in this process and a real `chroma run`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.api.models.Collection import Collection as ChromaCollection

from api.images import edits
from shared.config import Settings
from shared.errors import CollectionNotFound
from shared.filters.parsing import parse_where
from shared.index import index as index_module
from shared.index.collection import Collection
from shared.index.index import Index
from shared.index.provenance import Contribution, KeyRecord, StoredImage, assembled, of_image
from shared.index.write_batch import WriteBatch
from shared.ledger.ledger import Ledger
from shared.models import Chunk, Image, Item, ItemState, JobStatus, Stage
from shared.services import Services
from shared.storage import vector_log
from shared.storage.arrays import unpack
from shared.storage.blobs import Blobs, file_key
from shared.storage.manifest import ManifestWriter
from tests.contract.conftest import NewIndex
from tests.unit.stages import StubDispatcher, StubDownloader, drain

MODEL = {"model": "m/one", "fingerprint": "1" * 16}
DIMENSION = 4


@pytest.fixture
def collection(index: Index) -> Collection:
    return index.create("images", **MODEL, dimension=DIMENSION)


def image_id(number: int) -> str:
    """Spread as hashes are."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:048x}"


def image(number: int, key: str | None = None, source: str = "s", **metadata: object) -> Image:
    return Image(
        id=image_id(number),
        source=source,
        sources=[source],
        format="png",
        width=640,
        height=480,
        bytes=9,
        created_at=1.5,
        metadata=dict(metadata),  # type: ignore[arg-type]
        keys=[] if key is None else [key],
    )


def vector(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    row = np.random.default_rng(number).normal(size=DIMENSION).astype(np.float32)
    return row / np.linalg.norm(row)


def add(collection: Collection, *items: tuple[int, Image]) -> None:
    """One batch of the writer: (version, picture)."""
    batch = WriteBatch(
        collection, ids=[one.id for _, one in items], keys=[k for _, one in items for k in one.keys]
    )
    for version, one in items:
        batch.add(one, f"job:{version}", version, vector(version))
    batch.save(lambda: None)


# --- records -------------------------------------------------------------------------------------------


def test_a_picture_comes_back_with_what_it_is_made_of(collection: Collection) -> None:
    made_of = (
        Contribution(1, "a", None, {"n": 1, "yes": True, "list": ["x"], "empty": []}),
        Contribution(2, "b", "sku-é😀", {"n": 1.5}),
        Contribution(3, None, None, {"yes": None}),
    )
    whole = assembled(image(1), made_of)
    assert whole is not None
    assert whole.metadata == {"n": 1.5, "list": ["x"], "empty": []}
    of_sources = (replace(made_of[0], of="shop"), replace(made_of[1], of="feed"), made_of[2])
    for contributions in (
        made_of, made_of[:1], made_of[1:2], of_image(whole, 7), of_sources, of_image(whole, 7, "shop"),
    ):  # fmt: skip
        one = assembled(image(1), contributions)
        assert one is not None
        collection.upsert([one], vector(1)[None], ["job:0"], [contributions])
        assert collection.stored([one.id]) == {one.id: StoredImage(one, "job:0", contributions)}
        assert collection.get(one.id) == one


def test_a_record_without_contributions_counts_as_older_than_all(collection: Collection) -> None:
    old = replace(image(1, n=1), sources=["a", "b"], source="a")
    collection.upsert([old], vector(1)[None], ["job:0"])
    add(collection, (5, image(1, source="c", n=2)))
    assert collection.get(old.id) == replace(old, sources=["a", "b", "c"], metadata={"n": 2}, jobs=["job"])


def test_a_picture_has_nothing_from_a_collection_that_was_deleted(index: Index) -> None:
    first = index.create("first", **MODEL, dimension=DIMENSION)
    add(first, *((n, image(n, f"k{n}", sizes=["s", "m"])) for n in range(1, 6)))
    index.delete("first")
    second = index.create("second", **MODEL, dimension=DIMENSION)
    for number in range(1, 6):
        add(second, (number, image(number)))
    assert all((one.keys, one.metadata) == ([], {}) for one in second.page("", 9, None))
    for where in ({"sizes": {"ne": "s"}}, {"key": {"ne": "k1"}}):
        assert len(second.search(vector(1), limit=9, where=parse_where(where))) == 5


def test_an_update_keeps_the_vector_and_forgets_names(collection: Collection) -> None:
    add(collection, (1, image(1, n=1, gone="x")))
    stored = collection.stored([image_id(1)])[image_id(1)]
    collection.update([replace(stored, image=replace(stored.image, metadata={"n": 2}))])
    assert collection.get(image_id(1)).metadata == {"n": 2}
    np.testing.assert_allclose(collection.vector(image_id(1)), vector(1), atol=1e-6)


# --- keys ----------------------------------------------------------------------------------------------


def test_key_records_come_back_as_they_were_written(collection: Collection) -> None:
    records = [
        KeyRecord("a", 2**62, image_id(1), (image_id(2), image_id(3))),
        KeyRecord("é😀 /?", 0, ""),
        KeyRecord("k" * 256),
    ]
    collection.write_keys(records)
    assert collection.key_records(["a", "é😀 /?", "k" * 256, "nonesuch"]) == {one.key: one for one in records}
    collection.write_keys([KeyRecord("a", 3, image_id(2))])
    assert collection.key_records(["a"]) == {"a": KeyRecord("a", 3, image_id(2))}
    assert collection.key_records([]) == {}


def test_a_key_is_looked_up_and_filtered_on(collection: Collection) -> None:
    add(collection, (1, image(1, "k")), (2, image(1, "l")), (3, image(2, "m")), (4, image(3)))
    held = collection.by_key("l")
    assert held is not None
    assert (held.image.id, held.image.keys) == (image_id(1), ["k", "l"])
    assert collection.by_key("nonesuch") is None
    for condition, numbers in (
        ({"key": "l"}, {1}),
        ({"key": {"in": ["k", "m", "x"]}}, {1, 2}),
        ({"key": {"ne": "l"}}, {2, 3}),
        ({"key": {"gte": "l"}}, {1, 2}),
        ({"not": {"key": {"in": ["k", "m"]}}}, {3}),
    ):
        where = parse_where(condition)
        hits = collection.search(vector(1), limit=9, where=where)
        assert {hit.image.id for hit in hits} == {image_id(n) for n in numbers}, condition
        assert {one.id for one in collection.page("", 9, where)} == {image_id(n) for n in numbers}


@pytest.mark.parametrize("order", list(permutations([(1, 1), (2, 2), (3, 1)])))
def test_a_key_ends_at_the_picture_of_the_latest_version(
    collection: Collection, order: Sequence[tuple[int, int]]
) -> None:
    for version, number in (*order, order[0]):
        add(collection, (version, image(number, "k", f"s{version}")))
    held = collection.by_key("k")
    assert held is not None
    assert (held.image.id, held.image.sources) == (image_id(1), ["s3"])
    assert collection.count() == 1


def test_keys_go_with_their_collection(index: Index, collection: Collection) -> None:
    add(collection, (1, image(1, "k")))
    index.delete("images")
    with pytest.raises(CollectionNotFound):
        collection.by_key("k")
    anew = index.create("images", **MODEL, dimension=DIMENSION)
    assert anew.by_key("k") is None
    assert [info.name for info in index.collections()] == ["images"]


def test_keys_stay_with_a_collection_that_is_switched_to_another_physical_one(
    index: Index, new_index: NewIndex, collection: Collection
) -> None:
    """As a reindex does, by one write to the registry."""
    add(collection, (1, image(1, "k")), (2, image(2, "l")))
    staged = index.create("staged", model="m/two", fingerprint="2" * 16, dimension=2)
    stored = collection.stored([image_id(1), image_id(2)])
    staged.upsert(
        [one.image for one in stored.values()],
        np.eye(2, dtype=np.float32),
        [one.owner for one in stored.values()],
        [one.contributions for one in stored.values()],
    )
    moved = replace(staged.pointer, name="images", keys=collection.pointer.keys)
    fields = {name: value for name, value in asdict(moved).items() if name != "name"}
    with index_module.calls(5.0):
        index._registry(lambda registry: registry.upsert(["images"], np.ones((1, 1), np.float32), [fields]))
    switched = new_index().collection("images")
    assert switched.by_key("l") == stored[image_id(2)]
    batch = WriteBatch(switched, ids=[image_id(3)], keys=["k"])
    batch.add(image(3, "k"), "job:3", 3, np.ones(2, np.float32))
    batch.save(lambda: None)
    assert {one.id for one in switched.page("", 9, None)} == {image_id(2), image_id(3)}


def test_a_key_whose_new_picture_was_not_written_still_leads_to_the_old_one(collection: Collection) -> None:
    add(collection, (1, image(1, "k")))
    collection.write_keys([KeyRecord("k", 1, image_id(2), (image_id(1),))])
    held = collection.by_key("k")
    assert held is not None
    assert held.image.id == image_id(1)
    add(collection, (3, image(3, "k")))
    assert {one.id for one in collection.page("", 9, None)} == {image_id(3)}


# --- pages ---------------------------------------------------------------------------------------------


def pages(collection: Collection, limit: int, where: dict[str, object] | None = None) -> list[list[str]]:
    found: list[list[str]] = []
    after = ""
    while page := collection.page(after, limit, parse_where(where) if where else None):
        found.append([one.id for one in page])
        after = page[-1].id
    return found


def test_pages_join_into_all_pictures_in_the_order_of_their_ids(collection: Collection) -> None:
    add(collection, *((n, image(n, even=n % 2 == 0, n=n)) for n in range(1, 151)))
    everything = sorted(image_id(n) for n in range(1, 151))
    found = pages(collection, 40)
    assert [one for page in found for one in page] == everything
    assert [len(page) for page in found] == [40, 40, 40, 30]
    even = sorted(image_id(n) for n in range(2, 151, 2))
    assert [one for page in pages(collection, 7, {"even": True}) for one in page] == even
    assert pages(collection, 7, {"n": 77}) == [[image_id(77)]]
    assert pages(collection, 7, {"nonesuch": 1}) == []


def test_a_page_at_an_end_has_chroma_gather_no_other_s_pictures(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(collection, *((n, image(n)) for n in range(1, 151)))
    asked: list[Any] = []
    get = ChromaCollection.get

    def noted(self: ChromaCollection, *ids: Any, **how: Any) -> Any:
        asked.append(how.get("where"))
        return get(self, *ids, **how)

    monkeypatch.setattr(ChromaCollection, "get", noted)
    for after in ("", "e" * 64):
        assert collection.page(after, 5, None)
    bounds = [(name, operator) for where in filter(None, asked) for name in where for operator in where[name]]
    assert bounds == [("_place", "$lt"), ("_place", "$gte")]


def test_pages_are_stable_while_pictures_come_and_go(collection: Collection) -> None:
    add(collection, *((n, image(n)) for n in range(1, 61)))
    first = collection.page("", 20, None)
    collection.delete([first[3].id, sorted(image_id(n) for n in range(1, 61))[40]])
    add(collection, (100, image(100)))
    rest = [one for page in iter_after(collection, first[-1].id) for one in page]
    seen = [one.id for one in first] + rest
    assert len(seen) == len(set(seen))
    assert {image_id(n) for n in range(1, 61)} - set(seen) <= {sorted(image_id(n) for n in range(1, 61))[40]}


def iter_after(collection: Collection, after: str) -> Iterator[list[str]]:
    while page := collection.page(after, 20, None):
        yield [one.id for one in page]
        after = page[-1].id


def test_ids_that_are_all_alike_are_listed_too(collection: Collection) -> None:
    add(collection, *((n, replace(image(n), id=f"{n:064x}")) for n in range(1, 31)))
    assert [one for page in pages(collection, 8) for one in page] == [f"{n:064x}" for n in range(1, 31)]


def test_an_empty_collection_has_no_page(collection: Collection) -> None:
    assert collection.page("", 10, None) == []


# --- the writer, its messages delivered twice and out of order, on both kinds of Redis ---------------------


def make_services(folder: Path, index: Index, ledger: Ledger) -> Services:
    return Services(
        settings=Settings(_env_file=None),
        blobs=Blobs(f"file://{folder}/blobs"),
        ledger=ledger,
        index=index,
        downloader=StubDownloader(),  # type: ignore[arg-type]
        celery=None,  # type: ignore[arg-type]
        dispatcher=StubDispatcher(),  # type: ignore[arg-type]
    )


def to_index(services: Services, chunk: Chunk, pictures: Sequence[Image]) -> None:
    """Brings a chunk to the index writer."""
    job_id = chunk.job_id
    claim = services.ledger.claim(chunk, Stage.FETCH)
    assert claim is not None
    additions = [
        vector_log.Addition(i, 1, f"{job_id}:{i}", one, claim.version + i) for i, one in enumerate(pictures)
    ]
    vectors = np.stack([vector(int(one.id[-8:], 16)) for one in pictures])
    segment = vector_log.Segment(claim.version, "m/one", "1" * 16, additions, vectors)
    key = vector_log.write_segment(services.blobs, "images", claim.token, segment)
    transitions = [(i, ItemState.FETCHED) for i in range(len(pictures))]
    assert services.ledger.advance(claim, transitions=transitions, next_stage=Stage.INDEX, payload=key)


def make_job(services: Services, job_id: str, count: int) -> None:
    writer = ManifestWriter(services.blobs, job_id)
    for number in range(count):
        writer.add(Item(source=f"{job_id}/{number}", url="http://x"))
    writer.flush()
    services.ledger.create(job_id, collection="images", total=count, chunk_size=8)


@pytest.mark.parametrize("order", list(permutations(["one", "two", "three"])))
def test_the_later_job_s_picture_wins_in_whatever_order_its_chunks_arrive(
    tmp_path: Path, index: Index, ledger: Ledger, order: Sequence[str]
) -> None:
    services = make_services(tmp_path, index, ledger)
    jobs = {
        "one": [image(1, "k", "one/0"), image(2, "l", "one/1"), image(5, None, "one/2")],
        "two": [image(3, "k", "two/0"), image(2, "m", "two/1"), image(4, "k", "two/2")],
        "three": [image(1, "l", "three/0"), image(5, "n", "three/1")],
    }
    for number in range(1, 6):
        services.blobs.put(file_key("images", image_id(number), "thumbnail"), b"webp")
    for job_id, pictures in jobs.items():
        make_job(services, job_id, len(pictures))
    chunks = {chunk.job_id: chunk for chunk in ledger.dispatch()}
    for job_id in order:
        to_index(services, chunks[job_id], jobs[job_id])
        drain(services)
        drain(services)  # a message more than there is to do
    collection = index.collection("images")
    found = {one.id: (one.sources, one.keys) for one in collection.page("", 99, None)}
    assert found == {
        image_id(1): (["three/0"], ["l"]),
        image_id(2): (["two/1"], ["m"]),
        image_id(4): (["two/2"], ["k"]),
        image_id(5): (["one/2", "three/1"], ["n"]),
    }
    kept = {
        image_id(n)
        for n in range(1, 6)
        if services.blobs.exists(file_key("images", image_id(n), "thumbnail"))
    }
    assert kept == found.keys()
    for job_id, pictures in jobs.items():
        job = ledger.get(job_id)
        assert job.status is JobStatus.SUCCEEDED
        assert sum(job.counts.values()) == job.total == len(pictures)


def rebuild(services: Services, name: str) -> Collection:
    """A new collection of what the vector log of `images` says."""
    blobs, vectors = services.blobs, {}
    made = services.index.create(name, **MODEL, dimension=DIMENSION)
    whole = WriteBatch(made)
    for key in sorted(blobs.list("log/images/"), key=lambda key: key.rpartition("/")[2]):
        _, records, rows = unpack(blobs.get(key))
        for place, record in enumerate(records):
            whole.apply(record)
            if record["op"] == "add":
                vectors[record["image"]["id"]] = rows[place]
    pictures = list(whole.images.values())
    made.upsert(
        [one.image for one in pictures],
        np.stack([vectors[one.image.id] for one in pictures]),
        [one.owner for one in pictures],
        [one.contributions for one in pictures],
    )
    made.write_keys(list(whole.keys.values()))
    return made


def test_the_vector_log_says_all_that_the_collection_is(tmp_path: Path, index: Index, ledger: Ledger) -> None:
    services = make_services(tmp_path, index, ledger)
    jobs = [
        [image(1, "k", n=1), image(2, "l"), image(3), image(4, "m", n=4)],
        [image(5, "k", shop="x"), image(2, "n", yes=True), image(3, None, "again")],
    ]
    for number, pictures in enumerate(jobs):
        make_job(services, f"job{number}", len(pictures))
        (chunk,) = ledger.dispatch()
        to_index(services, chunk, pictures)
        drain(services)
        edits.change_metadata(services, "images", image_id(2), {"n": number, "yes": None}, lambda *_: None)
    edits.remove_key(services, "images", "l")
    edits.remove_image(services, "images", image_id(3))
    edits.remove_key(services, "images", "m")
    collection = index.collection("images")
    everything = [image_id(n) for n in range(1, 6)]
    assert {i: one.image.keys for i, one in collection.stored(everything).items()} == {
        image_id(2): ["n"],
        image_id(5): ["k"],
    }
    rebuilt = rebuild(services, "rebuilt")
    assert rebuilt.stored(everything) == collection.stored(everything)
    assert [rebuilt.by_key(key) for key in "klmn"] == [collection.by_key(key) for key in "klmn"]
