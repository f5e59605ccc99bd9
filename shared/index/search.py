"""The nearest pictures of one Chroma collection, filtered, without ever losing one that exists.

Unfiltered queries take Chroma 3 to 4 ms and filtered ones 70 to 450 ms (60,000 x 512), so a filtered search
first fetches more than it needs unfiltered and filters here. A first page takes one call, which brings the
records, too. HNSW may also come back short, above all where many vectors are equal: then the missing ones
are found by an exact scan.

HNSW is approximate: asked for more, it may find a picture that it missed among fewer. So a search goes up
steps that its query alone decides, and what a step finds anew is put behind what the steps below have found.
Every page is then cut from the same list: pages neither repeat nor miss a picture.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.filters.conditions import Where
from shared.index.records import Record, from_record, read_records, records_of
from shared.models import Hit, Image, JsonObject

PAGE = 1_000
# How many a step asks for; the last covers the deepest page. Records cost 20 times what ids do, so where
# records are needed the steps are closer. The first step brings them for a page that it suffices for.
_FETCHES = (32, 256, 1_024, 4_096, 16_384)
_FILTERED_FETCHES = (64, *(256 << step for step in range(7)))
# A filter that leaves fewer than one in so many is left to Chroma.
_SPARSE = 64
# Where a filter leaves at most so many candidates, scoring them all is faster than asking HNSW.
_EXACT_CANDIDATES = 1_000
_EXACT_COLLECTION = 20_000
_SURE = 4
# HNSW looks at no fewer candidates than results are asked for. How many find the nearest of a text, whose
# vector is far from all pictures', grows with the collection: some 200 among 100,000, 2,000 in a million
# (docs/performance/index.md).
EF_SEARCH = 256  # of every collection's HNSW: enough among 100,000
_IMAGES_PER_CANDIDATE = 500
_MAX_CANDIDATES = 4_096
_SAMPLE_PAGES = 25

Vector = NDArray[np.float32]
_NONE: Vector = np.empty((0, 0), np.float32)


class Store(Protocol):
    """What this module needs of a chromadb Collection."""

    def get(self, *args: Any, **kwargs: Any) -> Any: ...
    def query(self, *args: Any, **kwargs: Any) -> Any: ...
    def count(self) -> int: ...


class Scored(NamedTuple):
    id: str
    score: float


class Ranked(NamedTuple):
    """The beginning of a ranking, and the images, by id, whose records were read to find it."""

    order: list[Scored]
    images: dict[str, Image]


@dataclass(frozen=True, slots=True)
class _Step:
    """Some of what matches: above the score `reach`, all that HNSW finds among the `fetch` nearest."""

    found: list[Scored]
    reach: float = -np.inf
    fetch: float = np.inf


def candidates_for(count: int) -> int:
    """Return how many candidates HNSW needs to find a text's nearest among `count`; 0: EF_SEARCH suffice."""
    candidates = min(count // _IMAGES_PER_CANDIDATE, _MAX_CANDIDATES)
    return candidates if candidates > EF_SEARCH else 0


def search(
    store: Store,
    vector: Vector,
    *,
    limit: int,
    offset: int,
    where: Where | None,
    min_score: float | None,
    exclude: str | None,
    candidates: int = 0,
) -> list[Hit]:
    """Return hits `offset` to `offset + limit` of all that match, best first, ties by id.

    `candidates` is the least number that HNSW is asked for.
    """
    found = ranked(
        store, vector, limit=offset + limit, where=where, min_score=min_score, exclude=exclude,
        candidates=candidates,
    )  # fmt: skip
    page = sorted(found.order[offset:], key=_order)
    lacking = _images(store, [one.id for one in page if one.id not in found.images])
    there = found.images | {image.id: image for image in lacking}
    return [Hit(there[one.id], one.score) for one in page if one.id in there]


def ranked(
    store: Store,
    vector: Vector,
    *,
    limit: int,
    where: Where | None,
    min_score: float | None,
    exclude: str | None,
    candidates: int = 0,
) -> Ranked:
    """Return the first `limit` of all that match, in an order that does not depend on `limit`.

    Best first, ties by id, but for what HNSW finds only when it is asked for more: that comes behind. Some
    may have been deleted meanwhile. `candidates` is the least number that HNSW is asked for.
    """
    floor = -np.inf if min_score is None else min_score
    needed = limit + (exclude is not None)
    nearest = _Nearest(store, vector, candidates)
    looking = _Plain(store, nearest, needed) if where is None else _Filtered(store, nearest, where, floor)
    ranking = [one for one in _ranking(looking.steps(), needed, floor) if one.id != exclude]
    return Ranked(ranking[:limit], looking.matching)


def matching(
    store: Store, vector: Vector, *, where: Where | None, min_score: float | None, most: int
) -> tuple[list[Image], bool]:
    """Return those of the `most` nearest in Chroma's `where` that match, and whether these are all."""
    narrowed = _narrowing(where)
    ids = store.get(**narrowed, limit=most + 1, include=[])["ids"]
    answer = _answer(store, vector, most, narrowed, "metadatas")
    scored = _scored(answer)
    images = {image.id: image for image in map(from_record, _records(answer))}
    floor = -np.inf if min_score is None else min_score
    complete = len(ids) <= most
    if complete:  # HNSW may have come back short
        missed = [one for one in ids if one not in images]
        scored += _score(store, vector, missed)
        images |= {image.id: image for image in _images(store, missed)}
    else:
        complete = any(one.score < floor for one in scored)
    inside = [images[one.id] for one in scored if one.score >= floor and one.id in images]
    return [image for image in inside if where is None or where.matches(image)], complete


def sample(store: Store, count: int, of: int | None = None) -> Vector:
    """Return vectors (n, dimension) of about `count` images, always the same ones, taken evenly.

    They are taken of the first `of` in the order of ingestion, of all by default.

    Read a few at a time: the whole list of ids would take a second at a million, and neighbours in the order
    of ingestion are often alike.
    """
    total = store.count() if of is None else of
    several = max(1, count // _SAMPLE_PAGES)
    if total <= count:
        places = [(0, count)]
    else:
        places = [(total * page // _SAMPLE_PAGES, several) for page in range(_SAMPLE_PAGES)]
    pages = [store.get(limit=limit, offset=at, include=["embeddings"])["embeddings"] for at, limit in places]
    return np.concatenate([rows_of(page) for page in pages if len(page)] or [_NONE])


def rows_of(embeddings: Any) -> Vector:
    """Return vectors as Chroma has them, 0 for what is no number: of some that are too long it keeps none."""
    rows = np.asarray(embeddings, dtype=np.float32)
    return np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)


def vectors(store: Store, ids: list[str]) -> Iterator[tuple[list[str], Vector]]:
    """Yield pages of those ids that exist with their vectors (float32, one row each)."""
    ids = list(dict.fromkeys(ids))  # Chroma refuses what repeats
    for start in range(0, len(ids), PAGE):
        answer = store.get(ids=ids[start : start + PAGE], include=["embeddings"])
        if answer["ids"]:
            yield answer["ids"], rows_of(answer["embeddings"])


def nearest(store: Store, vectors: Vector, count: int) -> list[list[tuple[str, float]]]:
    """Return for each row of `vectors` up to `count` (id, score), best first, as HNSW finds them."""
    found = store.query(query_embeddings=list(vectors), n_results=count, include=["distances"])
    scores = [_scores(1.0 - np.asarray(row, np.float64)) for row in found["distances"]]
    return [list(zip(*row, strict=True)) for row in zip(found["ids"], scores, strict=True)]


def _order(one: Scored) -> tuple[float, str]:
    return -one.score, one.id


def _ranking(steps: Iterable[_Step], needed: int, floor: float) -> list[Scored]:
    """Rank what scores `floor` or more: at least `needed` results, if there are so many.

    Whatever is `needed`, it is the beginning of the same ranking, so pages fit together.
    """
    ranking: dict[str, Scored] = {}
    last_find = 0.0
    for step in steps:
        fresh = [one for one in step.found if one.score >= floor and one.id not in ranking]
        ranking |= {one.id: one for one in sorted(fresh, key=_order)}
        last_find = step.fetch if fresh else last_find
        # Past the floor HNSW may still have missed some above it: unless four times as many add none.
        if len(ranking) >= needed or (step.reach < floor and step.fetch >= _SURE * last_find):
            break
    return list(ranking.values())


class _Nearest:
    """What HNSW finds nearest to `vector` among at least `candidates`."""

    def __init__(self, store: Store, vector: Vector, candidates: int) -> None:
        self._store, self.vector = store, vector
        self._candidates = candidates
        self._asked = 0
        self._found: list[Scored] = []

    def first(self, fetch: int) -> list[Scored]:
        if fetch > self._asked:
            self._asked = max(fetch, self._candidates)
            self._found = _query(self._store, self.vector, self._asked)
        return self._found[:fetch]

    def with_records(self, fetch: int) -> tuple[list[Scored], list[Record]]:
        """Return the `fetch` nearest with their records, which are left out where most are useless."""
        if self._candidates > fetch:
            return self.first(fetch), []
        answer = _answer(self._store, self.vector, fetch, {}, "metadatas")
        return _scored(answer), _records(answer)


class _Plain:
    """One unfiltered search for the first `needed`; `matching` is what it has read on the way, by id.

    Where the first step, likely the only one, suffices for them, it fetches records, too, and no more than
    show that nothing ties with the last: HNSW looks at more candidates, so fewer are the first of more.
    """

    def __init__(self, store: Store, nearest: _Nearest, needed: int) -> None:
        self._store, self._nearest = store, nearest
        self._with_records = needed < _FETCHES[0]
        self._first = min(needed + 1, _FETCHES[0])
        self.matching: dict[str, Image] = {}

    def steps(self) -> Iterator[_Step]:
        for fetch in (self._first, *_FETCHES[1:]):
            found = self._query(fetch)
            if len(found) == fetch:
                yield _Step(found) if fetch == _FETCHES[-1] else _cut_off(found, found, fetch)
            elif len(found) >= (total := self._store.count()):
                yield _Step(found)
                return
            elif total <= _EXACT_COLLECTION:
                yield _Step(_score(self._store, self._nearest.vector, self._store.get(include=[])["ids"]))
                return
            elif fetch > _FETCHES[0]:
                yield _Step(found)
                return

    def _query(self, fetch: int) -> list[Scored]:
        if fetch > _FETCHES[0] or not self._with_records:
            # HNSW looks at no fewer than EF_SEARCH for the first 32: so the next step costs no call.
            return self._nearest.first(max(fetch, EF_SEARCH))[:fetch]
        found, records = self._nearest.with_records(fetch)
        self.matching = {image.id: image for image in map(from_record, records)}
        return found


class _Filtered:
    """One filtered search; `matching` is what it has seen of the collection and matches, by id.

    What scores less than `floor` need not be looked at.
    """

    def __init__(self, store: Store, nearest: _Nearest, where: Where, floor: float) -> None:
        self._store, self._nearest, self._where, self._floor = store, nearest, where, floor
        self._narrowed = _narrowing(where)
        self._has_words = where.to_document() is not None
        self._seen: set[str] = set()
        self.matching: dict[str, Image] = {}

    def steps(self) -> Iterator[_Step]:
        for fetch in _FILTERED_FETCHES:
            found = self._query(fetch)
            matching = [one for one in found if one.id in self.matching]
            if len(found) < fetch and len(found) >= self._store.count():
                yield _Step(matching)
                return
            step = _cut_off(found, matching, fetch)
            yield step
            if step.reach >= self._floor and _SPARSE * len(matching) < len(found):
                break
            if self._has_words and fetch == _FILTERED_FETCHES[1] and self._are_few:
                break
        if not self._are_few:
            yield from self._narrowed_steps()
        self._see(_scan(self._store, self._narrowed))
        yield _Step(_score(self._store, self._nearest.vector, list(self.matching)))

    @cached_property
    def _are_few(self) -> bool:
        """Return whether Chroma leaves so few candidates that all are scored.

        Of keywords its full-text index says so at once, so that few are not looked for among thousands.
        """
        ids = self._store.get(**self._narrowed, limit=_EXACT_CANDIDATES + 1, include=[])["ids"]
        return len(ids) <= _EXACT_CANDIDATES

    def _narrowed_steps(self) -> Iterator[_Step]:
        most = self._store.count() // 8  # records cost Chroma 75 us each: past that, scan them once
        for fetch in _FETCHES[2:]:
            if fetch > most:
                return
            found = _query(self._store, self._nearest.vector, fetch, self._narrowed)
            self._see_fresh(found)
            yield _cut_off(found, [one for one in found if one.id in self.matching], fetch)
            if len(found) < fetch:
                return

    def _query(self, fetch: int) -> list[Scored]:
        if self._seen:
            found = self._nearest.first(fetch)
        else:
            found, records = self._nearest.with_records(fetch)
            self._see(map(from_record, records))
        self._see_fresh(found)
        return found

    def _see_fresh(self, found: Sequence[Scored]) -> None:
        fresh = [one.id for one in found if one.score >= self._floor and one.id not in self._seen]
        self._see(_images(self._store, fresh))

    def _see(self, images: Iterable[Image]) -> None:
        for image in images:
            self._seen.add(image.id)
            if self._where.matches(image):
                self.matching[image.id] = image


def _cut_off(found: list[Scored], matching: list[Scored], fetch: int) -> _Step:
    """Return the step without ties with the worst of `found`: lower ids of that score may come behind it."""
    reach = min((one.score for one in found), default=np.inf)
    return _Step([one for one in matching if one.score > reach], reach, fetch)


def _narrowing(where: Where | None) -> JsonObject:
    """Return the arguments of `get` and `query` that have Chroma look at less than the whole."""
    if where is None:
        return {}
    narrowing = {"where": where.to_chroma(), "where_document": where.to_document()}
    return {name: condition for name, condition in narrowing.items() if condition is not None}


def _query(store: Store, vector: Vector, count: int, narrowed: JsonObject | None = None) -> list[Scored]:
    return _scored(_answer(store, vector, count, narrowed or {}))


def _answer(store: Store, vector: Vector, count: int, narrowed: JsonObject, *include: str) -> Any:
    return store.query(
        query_embeddings=[vector], n_results=count, include=["distances", *include], **narrowed
    )


def _scored(answer: Any) -> list[Scored]:
    scores = _scores(1.0 - np.asarray(answer["distances"][0], dtype=np.float64))
    return [Scored(*one) for one in zip(answer["ids"][0], scores, strict=True)]


def _scores(cosines: NDArray[np.float64]) -> list[float]:
    scores: list[float] = np.nan_to_num(np.clip(cosines, -1.0, 1.0), nan=-1.0).tolist()
    return scores


def _records(answer: Any) -> list[Record]:
    """Return the records of what was found, but for what was deleted meanwhile: Chroma has None for that."""
    found = zip(answer["ids"][0], answer["metadatas"][0], strict=True)
    there = [(image_id, record) for image_id, record in found if record is not None]
    return records_of([one for one, _ in there], [record for _, record in there])


def _score(store: Store, vector: Vector, ids: list[str]) -> list[Scored]:
    """Return every one of `ids` with its exact score."""
    query = vector.astype(np.float64) / max(float(np.linalg.norm(vector)), 1e-12)
    scored: list[Scored] = []
    for page, rows in vectors(store, ids):
        cosines = (rows @ query) / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
        scored += [Scored(*one) for one in zip(page, _scores(cosines), strict=True)]
    return scored


def _scan(store: Store, narrowed: JsonObject) -> Iterator[Image]:
    offset = 0
    while (found := store.get(**narrowed, limit=PAGE, offset=offset, include=["metadatas"]))["ids"]:
        yield from map(from_record, records_of(found["ids"], found["metadatas"]))
        offset += len(found["ids"])


def _images(store: Store, ids: Sequence[str]) -> Iterator[Image]:
    for start in range(0, len(ids), PAGE):
        yield from map(from_record, read_records(store, list(ids[start : start + PAGE])))
