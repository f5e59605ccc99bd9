"""Pages of one query neither repeat nor miss a picture, although HNSW is approximate and scores tie."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.filters.parsing import parse_where
from shared.index import search as index_search
from shared.index.collection import Collection
from shared.models import Image
from tests.unit.fakes import Api, Vector, assert_problem, axis, image_id, index_in, make_api, unit

COUNT, DIMENSION = 3_000, 32
EQUAL = range(1_000, 1_700)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Random vectors, which are HNSW's hardest, of which 700 are the same."""
    rows = np.random.default_rng(0).normal(size=(COUNT, DIMENSION)).astype(np.float32)
    rows[EQUAL] = rows[EQUAL.start]
    return filled(tmp_path_factory.mktemp("chroma"), rows)


@pytest.fixture(scope="module")
def distinct(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Random vectors, all different."""
    rows = np.random.default_rng(0).normal(size=(COUNT, DIMENSION)).astype(np.float32)
    return filled(tmp_path_factory.mktemp("distinct"), rows)


def filled(folder: Path, rows: Vector) -> Collection:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = index_in(folder)
    made = index.create("many", model="m", fingerprint="1" * 16, dimension=DIMENSION)
    images = [
        Image(image_id(n), "s", ["s"], "jpeg", 1, 1, 1, 1.0, metadata={"tenth": n % 10, "half": n % 2})
        for n in range(COUNT)
    ]
    order = np.random.default_rng(1).permutation(COUNT)  # ids and order of arrival have nothing in common
    made.upsert([images[n] for n in order], rows[order], ["job:0"] * COUNT)
    return made


def query(seed: int) -> Vector:
    vector: Vector = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return vector


def pages(collection: Collection, vector: Vector, *sizes: int, **options: Any) -> Iterator[list[str]]:
    """Pages of these sizes in turn, until one is empty."""
    offset, turn = 0, 0
    while hits := collection.search(vector, offset=offset, limit=sizes[turn % len(sizes)], **options):
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        yield [hit.image.id for hit in hits]
        offset, turn = offset + len(hits), turn + 1


class _Deleting:
    """Chroma, when the nearest picture is deleted between looking for ids and reading their records."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def query(self, **asked: Any) -> Any:
        answer = self._store.query(**asked)
        if answer["metadatas"]:
            answer["metadatas"][0][0] = None
        return answer

    def get(self, **asked: Any) -> Any:
        return self._store.get(**asked)

    def count(self) -> int:
        return int(self._store.count())


def test_a_picture_that_is_deleted_meanwhile_fails_no_search(tmp_path: Path) -> None:
    collection = index_in(tmp_path).create("few", model="m", fingerprint="1" * 16, dimension=DIMENSION)
    images = [Image(image_id(n), "s", ["s"], "png", 1, 1, 1, 1.0) for n in range(3)]
    collection.upsert(images, np.eye(DIMENSION, dtype=np.float32)[:3], ["job:0"] * 3)
    bounds: Any = {"min_score": None, "vector": query(1)}
    for where in (None, parse_where({"format": "png"})):
        page: Any = {"offset": 0, "limit": 3, "exclude": None, "where": where, **bounds}
        hits = collection._run(lambda store, page=page: index_search.search(_Deleting(store), **page))
        assert len(hits) == 3  # it is still there after all, and is read once more
    found, complete = collection._run(
        lambda store: index_search.matching(_Deleting(store), where=None, most=10, **bounds)
    )
    assert len({image.id for image in found}) == 3 and complete


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_all_pages_together_are_every_picture_once(collection: Collection, seed: int) -> None:
    found = [one for page in pages(collection, query(seed), 97, 500) for one in page]
    assert len(found) == COUNT
    assert set(found) == {image_id(n) for n in range(COUNT)}


@pytest.mark.parametrize(
    ("condition", "matching"),
    [
        ({"half": 1}, range(1, COUNT, 2)),
        ({"tenth": 3}, range(3, COUNT, 10)),
        ({"tenth": {"ne": 3}}, [n for n in range(COUNT) if n % 10 != 3]),
        ({"id": {"in": [image_id(n) for n in range(0, COUNT, 50)]}}, range(0, COUNT, 50)),
    ],
)
def test_filtered_pages_are_every_match_once(
    collection: Collection, condition: dict[str, Any], matching: Any
) -> None:
    where = parse_where(condition)
    found = [one for page in pages(collection, query(5), 150, 500, where=where) for one in page]
    assert len(found) == len(set(found))
    assert set(found) == {image_id(n) for n in matching}


@pytest.mark.parametrize("condition", [None, {"half": 0}, {"tenth": 3}])
def test_a_least_score_leaves_out_what_scores_less_and_hardly_anything_else(
    distinct: Collection, condition: dict[str, int] | None
) -> None:
    """Hardly: HNSW is approximate, and among hundreds of equal vectors it misses up to a fifth."""
    where = None if condition is None else parse_where(condition)
    step = {None: 1, "half": 2, "tenth": 10}[next(iter(condition or {}), None)]
    numbers = range(3 if step == 10 else 0, COUNT, step)
    stored = distinct.vectors([image_id(n) for n in numbers])
    scores = {one: float(row @ query(7) / np.linalg.norm(query(7))) for one, row in stored.items()}
    ranked = sorted(scores.values(), reverse=True)
    for kept in (0, 1, 30, 200):
        floor = (ranked[kept - 1] + ranked[kept]) / 2 if kept else 1.0
        found = distinct.search(query(7), limit=400, where=where, min_score=floor)
        assert {hit.image.id for hit in found} <= {one for one, score in scores.items() if score >= floor}
        assert len(found) >= 0.95 * kept


def test_pages_do_not_depend_on_how_the_list_is_cut(collection: Collection) -> None:
    def found(size: int) -> list[str]:
        starts = range(0, 1_200, size)
        return [hit.image.id for at in starts for hit in collection.search(query(6), offset=at, limit=size)]

    large, small = found(300), found(60)
    for start in range(0, 1_200, 300):
        assert set(large[start : start + 300]) == set(small[start : start + 300])


def test_a_first_page_asks_chroma_once(distinct: Collection) -> None:
    calls: list[str] = []

    class Counted:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(self._store, name)

    def found(limit: int) -> list[str]:
        options: Any = {"offset": 0, "where": None, "min_score": None, "exclude": None}
        search = partial(index_search.search, vector=query(8), limit=limit, **options)
        return [hit.image.id for hit in distinct._run(lambda store: search(Counted(store)))]

    first = found(20)
    assert calls == ["query"]
    assert set(first) <= set(found(200))


def test_more_ties_than_a_fetch_holds_are_each_found_once(collection: Collection) -> None:
    tied = collection.vector(image_id(EQUAL.start))
    found = list(pages(collection, tied, 50, min_score=0.9999))
    assert all(page == sorted(page) for page in found)
    together = [one for page in found for one in page]
    assert len(together) == len(set(together))
    assert set(together) == {image_id(n) for n in EQUAL}


def test_the_deepest_page_and_what_is_past_it(tmp_path: Path) -> None:
    api: Api = make_api(tmp_path)
    for number in range(3):
        api.add(number, unit(1, number))
    body = {"text": "axis 0", "limit": 500}
    deepest = api.http.post("/v1/search", json=body | {"offset": 10_000})
    assert deepest.json is not None
    assert deepest.json["results"] == []
    document = assert_problem(
        api.http.post("/v1/search", json=body | {"offset": 10_001}), 422, "invalid_request", "/offset"
    )
    assert "less than or equal to 10000" in document["errors"][0]["message"]
    assert_problem(api.http.get("/v1/search?text=a&offset=10001"), 422, "invalid_request", "/offset")


def test_a_page_of_a_query_by_id_that_no_longer_fits_is_of_others_only(tmp_path: Path) -> None:
    api: Api = make_api(tmp_path)
    for number in range(4):
        api.add(number, axis(number))
    body = {"image_id": image_id(0), "filters": {"id": {"ne": image_id(0)}}, "limit": 2}
    found = [
        [one["id"] for one in (api.http.post("/v1/search", json=body | {"offset": at}).json or {})["results"]]
        for at in (0, 2, 4)
    ]
    assert found == [[image_id(1), image_id(2)], [image_id(3)], []]


def test_a_text_is_looked_for_among_more_candidates_in_a_large_collection(
    distinct: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    answer = index_search._answer

    def watched(store: Any, vector: Vector, count: int, *rest: Any) -> Any:
        asked.append(count)
        return answer(store, vector, count, *rest)

    monkeypatch.setattr(index_search, "_answer", watched)
    monkeypatch.setattr(index_search, "_IMAGES_PER_CANDIDATE", COUNT // 1_000)
    few = [hit.image.id for hit in distinct.search(query(8), limit=20)]
    assert asked == [21], "a picture's vector: one call with the records"
    found = [hit.image.id for hit in distinct.search(query(8), limit=20, of_text=True)]
    assert asked == [21, 1_000]
    assert len(found) == len(set(found) | set(few)) == 20
    for where in (None, parse_where({"half": 1})):
        options = {"of_text": True, "where": where}
        whole = [hit.image.id for hit in distinct.search(query(8), limit=500, **options)]
        paged = (one for page in pages(distinct, query(8), 7, 50, **options) for one in page)
        assert list(islice(paged, 500)) == whole


def test_a_collection_is_counted_now_and_then_only(
    distinct: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[str] = []
    kind = type(distinct._run(lambda chroma: chroma))
    count = kind.count
    monkeypatch.setattr(kind, "count", lambda self: counts.append(self.name) or count(self))
    distinct._index._sizes.clear()
    for _ in range(3):
        distinct.search(query(9), limit=1, of_text=True)
    assert counts == [distinct.physical]
