"""The nearest pictures of one Chroma collection, filtered, without ever losing one that exists.

Unfiltered queries take Chroma 3 to 4 ms and filtered ones 70 to 450 ms (60,000 x 512), so a filtered search
first fetches more than it needs unfiltered and filters here. HNSW may also come back short, above all where
many vectors are equal: then the missing ones are found by an exact scan.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import methodcaller
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.filters import Where
from shared.index_records import from_record
from shared.models import Hit, Image, JsonObject

PAGE = 1_000
_ID_PAGE = 5_000
_OVERLAP = 1_000
_LEAST_FETCH = 256
# Where a filter leaves at most so many candidates, scoring them all is faster than asking HNSW.
_EXACT_CANDIDATES = 1_000
_EXACT_COLLECTION = 20_000
_MOST_FETCH = 16_384


class Store(Protocol):
    """What this module needs of a chromadb Collection."""

    def get(self, *args: Any, **kwargs: Any) -> Any: ...
    def query(self, *args: Any, **kwargs: Any) -> Any: ...
    def count(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Candidate:
    id: str
    score: float
    image: Image | None = None


def search(
    store: Store,
    vector: NDArray[np.float32],
    *,
    limit: int,
    offset: int,
    where: Where | None,
    min_score: float | None,
    exclude: str | None,
) -> list[Hit]:
    """Hits `offset` to `offset + limit` of all that match, best first, ties by id."""
    needed = offset + limit + (exclude is not None)
    floor = -np.inf if min_score is None else min_score
    found = (
        _nearest(store, vector, needed)
        if where is None
        else _nearest_matching(store, vector, needed, where, floor)
    )
    kept = [one for one in found if one.id != exclude and one.score >= floor]
    page = sorted(kept, key=lambda one: (-one.score, one.id))[offset : offset + limit]
    missing = [one.id for one in page if one.image is None]
    loaded = {image.id: image for image in _images(store, missing)}
    hits = ((one.image or loaded.get(one.id), one.score) for one in page)
    return [Hit(image, score) for image, score in hits if image is not None]


def vectors(store: Store, ids: list[str]) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Pages of those ids that exist with their vectors (float32, one row each)."""
    for start in range(0, len(ids), PAGE):
        answer = store.get(ids=ids[start : start + PAGE], include=["embeddings"])
        if answer["ids"]:
            yield answer["ids"], np.asarray(answer["embeddings"], dtype=np.float32)


def ids(run: Callable[[Callable[[Any], Any]], Any]) -> Iterator[str]:
    """Every id of the store that `run` calls its argument with, once for each page.

    Each page begins well before the end of the one before: what is deleted meanwhile moves the rest forward,
    and up to _OVERLAP deletions between two pages leave nothing out.
    """
    start, before = 0, frozenset[str]()
    while True:
        page: list[str] = run(methodcaller("get", limit=_ID_PAGE, offset=start, include=[]))["ids"]
        yield from (one for one in page if one not in before)
        if len(page) < _ID_PAGE:
            return
        start, before = start + len(page) - _OVERLAP, frozenset(page)


def nearest(store: Store, vectors: NDArray[np.float32], count: int) -> list[list[tuple[str, float]]]:
    """For each row of `vectors` up to `count` (id, score), best first, as HNSW finds them."""
    found = store.query(query_embeddings=list(vectors), n_results=count, include=["distances"])
    scores = [np.clip(1.0 - np.asarray(row, np.float64), -1.0, 1.0).tolist() for row in found["distances"]]
    return [list(zip(*row, strict=True)) for row in zip(found["ids"], scores, strict=True)]


def _nearest(store: Store, vector: NDArray[np.float32], needed: int) -> list[_Candidate]:
    fetch = _fetch_size(needed)
    found = _query(store, vector, fetch, with_images=False)
    if len(found) == fetch or len(found) >= (total := store.count()) or total > _EXACT_COLLECTION:
        return found
    return _score(store, vector, dict.fromkeys(_ids(store)))


def _nearest_matching(
    store: Store, vector: NDArray[np.float32], needed: int, where: Where, floor: float
) -> list[_Candidate]:
    fetch = _fetch_size(10 * needed)
    found = _query(store, vector, fetch)
    matching = _matching(found, where)
    if len(matching) >= needed or (found and found[-1].score < floor):
        return matching
    total = store.count()
    if len(found) >= total:
        return matching
    narrowed = where.to_chroma()
    candidates = store.get(where=narrowed, limit=_EXACT_CANDIDATES + 1, include=[])["ids"]
    most = min(_MOST_FETCH, total // 8)  # records cost Chroma 75 us each: past that, scan them once
    while len(candidates) > _EXACT_CANDIDATES and 4 * fetch <= most and len(found) == fetch:
        fetch *= 4
        found = _query(store, vector, fetch, narrowed)
        matching = _matching(found, where)
        if len(matching) >= needed or (found and found[-1].score < floor):
            return matching
    return _score(store, vector, {one.id: one for one in _scan(store, narrowed) if where.matches(one)})


def _fetch_size(needed: int) -> int:
    """A power of two: the pages of one search then mostly ask Chroma the same and so cut the same list."""
    return max(_LEAST_FETCH, 1 << needed.bit_length())


def _query(
    store: Store,
    vector: NDArray[np.float32],
    count: int,
    narrowed: JsonObject | None = None,
    *,
    with_images: bool = True,
) -> list[_Candidate]:
    answer = store.query(
        query_embeddings=[vector],
        n_results=count,
        where=narrowed,
        include=["distances", "metadatas"] if with_images else ["distances"],
    )
    ids = answer["ids"][0]
    scores = np.clip(1.0 - np.asarray(answer["distances"][0], dtype=np.float64), -1.0, 1.0).tolist()
    images = map(from_record, answer["metadatas"][0]) if with_images else [None] * len(ids)
    return [_Candidate(*one) for one in zip(ids, scores, images, strict=True)]


def _matching(found: Iterable[_Candidate], where: Where) -> list[_Candidate]:
    return [one for one in found if one.image is not None and where.matches(one.image)]


def _score(
    store: Store, vector: NDArray[np.float32], images: dict[str, Image] | dict[str, None]
) -> list[_Candidate]:
    """Every one of `images` (by id) with its exact score."""
    query = vector.astype(np.float64) / np.linalg.norm(vector)
    scored: list[_Candidate] = []
    for ids, rows in vectors(store, list(images)):
        cosines = (rows @ query) / np.linalg.norm(rows, axis=1)
        scores = np.clip(cosines, -1.0, 1.0).tolist()
        scored += [_Candidate(one, score, images[one]) for one, score in zip(ids, scores, strict=True)]
    return scored


def _ids(store: Store) -> list[str]:
    return list(store.get(include=[])["ids"])


def _scan(store: Store, narrowed: JsonObject | None) -> Iterator[Image]:
    offset = 0
    while records := store.get(where=narrowed, limit=PAGE, offset=offset, include=["metadatas"])["metadatas"]:
        yield from map(from_record, records)
        offset += len(records)


def _images(store: Store, ids: list[str]) -> Iterator[Image]:
    if ids:
        yield from map(from_record, store.get(ids=ids, include=["metadatas"])["metadatas"])
