"""Every picture is found by its own vector, though HNSW loses some of many that are nearly equal."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import IndexUnavailable
from shared.filters.parsing import parse_where
from shared.index import index as index_module
from shared.index import strays
from shared.index.collection import Collection
from shared.index.connection import calls
from shared.index.index import Index
from shared.models import Image, ItemState
from shared.storage.vector_log import Addition, Segment
from tests.contract.conftest import NewIndex
from tests.unit.fakes import image_id, make_services
from worker.stages import reindex
from worker.stages.index import Arrival, Store, store

MODEL: dict[str, Any] = {"model": "m/one", "fingerprint": "1" * 16, "dimension": 64}
COUNT, TRIES = 400, 6
Vectors = NDArray[np.float32]


def shots(noise: float, count: int = COUNT, seed: int = 3) -> dict[str, Vectors]:
    """Vectors of shots of one product: all nearly the same, with `noise` 0 quite."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=64) + noise * random.normal(size=(count, 64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {image_id(n): row for n, row in enumerate(rows.astype(np.float32))}


def image(one: str) -> Image:
    number = int(one, 16)
    metadata: dict[str, Any] = {"shot": number, "even": number % 2 == 0}
    return Image(one, f"{number}.jpg", [f"{number}.jpg"], "jpeg", 1, 1, 1, 1.0, metadata=metadata)


def fill(collection: Collection, vectors: dict[str, Vectors]) -> None:
    """Write past the writer, which would look for strays."""
    rows = np.stack(list(vectors.values()))
    collection.upsert([image(one) for one in vectors], rows, ["job:0"] * len(vectors))


def write(
    index: Index, folder: Path, vectors: dict[str, Vectors], fingerprint: str = "", store: Store = store
) -> None:
    """Write as the one writer does."""
    additions = [Addition(n, 1, f"job:{n}", image(one), n + 1) for n, one in enumerate(vectors)]
    rows = np.stack(list(vectors.values()))
    segment = Segment(1, "m/one", fingerprint or MODEL["fingerprint"], additions, rows)
    arrivals = [
        Arrival(cast(Any, None), addition, row, segment)
        for addition, row in zip(additions, vectors.values(), strict=True)
    ]
    services = replace(make_services(folder), index=index)
    assert store(services, "images", arrivals, lambda: None) == [ItemState.INDEXED] * len(vectors)


def losing(index: Index) -> tuple[Collection, dict[str, Vectors], list[str]]:
    """A collection of shots of which HNSW has lost some."""
    for seed in range(TRIES):  # Chroma inserts by several threads: which it loses is chance
        vectors = shots(0.0005, seed=seed)
        collection = index.create("images", **MODEL)
        fill(collection, vectors)
        if lost := collection.lost(vectors):
            return collection, vectors, lost
        index.delete("images")
    raise AssertionError("HNSW has lost none: there is nothing to test")


def missed_by_chroma(index: Index, vectors: dict[str, Vectors]) -> list[str]:
    """What HNSW does not find by its own vector, however much it is asked for."""
    with calls(60.0):
        chroma = index.open("images").chroma
        rows: Any = list(vectors.values())
        found = chroma.query(query_embeddings=rows, n_results=len(rows), include=[])["ids"]
    return [one for one, ids in zip(vectors, found, strict=True) if one not in set(ids)]


@pytest.mark.parametrize(("noise", "count"), [(0.0, 800), (0.0005, COUNT)])  # of equal ones it loses fewer
def test_the_writer_marks_what_hnsw_loses_and_all_are_found(
    index: Index, tmp_path: Path, noise: float, count: int
) -> None:
    missed: list[str] = []
    for seed in range(TRIES):
        vectors = shots(noise, count, seed)
        write(index, tmp_path, vectors)
        collection = index.collection("images")
        assert collection.lost(vectors) == []
        if missed := missed_by_chroma(index, vectors):
            break
        index.delete("images")
    assert missed, "HNSW has lost none: there is nothing to test"
    for one in missed[:3]:
        assert one in {hit.image.id for hit in collection.search(vectors[one], limit=count)}


def test_a_reindex_marks_what_hnsw_loses_of_the_new_vectors_before_the_switch(
    index: Index, new_index: NewIndex, tmp_path: Path
) -> None:
    missed: list[str] = []
    for seed in range(TRIES):
        vectors = shots(0.0005, seed=seed)
        fill(index.create("images", **MODEL), shots(3.0))
        staged = index.stage("images", model="m/two", fingerprint="2" * 16, dimension=64)
        write(index, tmp_path, vectors, "2" * 16, reindex.store)
        index.switch("images", staged)
        reader = new_index()
        assert reader.collection("images").lost(vectors) == []
        if missed := missed_by_chroma(reader, vectors):
            assert set(missed) <= set(marked(reader))
            break
        index.delete("images")
    assert missed, "HNSW has lost none: there is nothing to test"


def test_exactly_what_hnsw_misses_is_lost_and_once_marked_every_search_finds_it(
    index: Index, new_index: NewIndex
) -> None:
    collection, vectors, lost = losing(index)
    assert set(lost) == set(missed_by_chroma(index, vectors))
    collection.mark_strays(lost)
    assert collection.lost(vectors) == []
    for reader in (collection, new_index().collection("images")):
        for one in (lost[0], lost[-1]):
            whole = {hit.image.id: hit.score for hit in reader.search(vectors[one], limit=COUNT)}
            assert whole[one] == pytest.approx(1.0, abs=1e-5)
            assert set(lost) <= whole.keys()
            assert one not in {h.image.id for h in reader.search(vectors[one], limit=COUNT, exclude=one)}
            assert one in [near for near, _ in reader.nearest(vectors[one][None], COUNT)[0]]
            even = int(one, 16) % 2 == 0
            for where in ({"even": even}, {"shot": {"gte": int(one, 16)}}):
                hits = reader.search(vectors[one], limit=COUNT, where=parse_where(where))
                assert one in {hit.image.id for hit in hits}
                assert all(parse_where(where).matches(hit.image) for hit in hits)
            found, complete = reader.matching(vectors[one], where=None, min_score=None, most=COUNT - 1)
            # From another picture the walk may miss one more.
            assert COUNT - 10 < len({each.id for each in found}) < COUNT
            assert not complete


class _Deaf:
    """A Chroma collection whose graph reaches nothing."""

    def __init__(self, store: Any) -> None:
        self.get, self.count = store.get, store.count

    def query(self, **_: Any) -> Any:
        return {"ids": [[]], "distances": [[]]}


def test_a_stray_is_found_behind_nearer_ones_that_do_not_match(index: Index) -> None:
    vectors = shots(0.1)
    collection = index.create("images", **MODEL)
    fill(collection, vectors)
    collection.mark_strays(list(vectors))
    query = vectors[image_id(0)]
    far = sorted(vectors, key=lambda one: float(vectors[one] @ query))[:3]
    where = parse_where({"shot": {"in": [int(one, 16) for one in far]}}).to_chroma()
    chroma = index.open("images").chroma
    with calls(60.0):
        found_by = strays.Reaching(_Deaf(chroma), strays.reaching(chroma, None, COUNT).strays)
        found = found_by.query(query_embeddings=[query], n_results=2, where=where, include=["distances"])
    assert found["ids"] == [far[:0:-1]]


def test_pages_join_where_strays_lie_between(index: Index) -> None:
    collection, vectors, lost = losing(index)
    collection.mark_strays(lost)
    query = vectors[lost[0]]
    whole = [hit.image.id for hit in collection.search(query, limit=300)]
    paged = [
        hit.image.id for at in range(0, 300, 20) for hit in collection.search(query, offset=at, limit=20)
    ]
    assert sorted(paged) == sorted(whole)
    assert len(set(paged)) == 300


def test_a_mark_outlives_a_change_of_metadata_and_goes_with_its_picture(index: Index) -> None:
    vectors = shots(1.0, 3)
    first, second, third = vectors
    collection = index.create("images", **MODEL)
    fill(collection, vectors)
    collection.mark_strays([first, second, "no image's id"])
    stored = collection.stored([first])[first]
    collection.update([stored])
    collection.delete([second])
    assert marked(index) == [first]
    fill(collection, {second: vectors[second]})
    assert marked(index) == [first]
    assert collection.search(vectors[second], limit=1)[0].image.id == second
    assert strays.MARK not in collection.records([first])[first], "another model's graph is another one"
    assert strays.MARK not in collection.get(first).metadata
    assert set(collection.survey(None).names) == {"shot", "even"}
    assert {third} == vectors.keys() - {first, second}


def marked(index: Index) -> Sequence[str]:
    with calls(5.0):
        found: list[str] = index.open("images").chroma.get(where={strays.MARK: 1}, include=[])["ids"]
    return found


def test_a_stray_that_is_deleted_is_found_no_more_though_marks_are_kept_for_a_while(index: Index) -> None:
    vectors = shots(1.0, 40)
    first, *others = vectors
    collection = index.create("images", **MODEL)
    fill(collection, vectors)
    collection.mark_strays([first])
    assert collection.search(vectors[first], limit=1)[0].image.id == first
    collection.delete([first])
    for where in (None, parse_where({"shot": {"gte": 0}})):
        found = {hit.image.id for hit in collection.search(vectors[first], limit=40, where=where)}
        assert found == set(others)


def test_marks_of_other_processes_are_seen_in_time(
    index: Index, new_index: NewIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = shots(1.0, 3)
    reader = new_index()
    fill(index.create("images", **MODEL), vectors)
    looked: list[int] = []
    real = index_module.reaching
    monkeypatch.setattr(index_module, "reaching", lambda *asked: looked.append(1) or real(*asked))
    for _ in range(3):
        reader.collection("images").search(vectors[image_id(0)], limit=1)
    assert len(looked) == 1
    monkeypatch.setattr(index_module, "STRAYS_TTL_SECONDS", 0.0)
    reader.collection("images").search(vectors[image_id(0)], limit=1)
    assert len(looked) == 2


def test_only_a_few_or_a_crowd_are_asked_for() -> None:
    alone = {image_id(n): row for n, row in enumerate(np.eye(64, dtype=np.float32))}
    assert strays.doubtful(alone) == {}
    assert strays.doubtful({}) == {}
    few = dict(list(alone.items())[:3])
    assert strays.doubtful(few).keys() == few.keys()
    crowd = {image_id(1_000 + int(one, 16)): row for one, row in shots(0.01, 30).items()}
    assert strays.doubtful(alone | crowd).keys() == crowd.keys()


def test_a_failure_to_look_for_strays_fails_no_write(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> list[str]:
        raise IndexUnavailable("Chroma did not answer in time.")

    monkeypatch.setattr(Collection, "lost", unavailable)
    write(index, tmp_path, shots(1.0, 3))
    assert index.collection("images").count() == 3
