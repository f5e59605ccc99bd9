"""Strays: pictures that Chroma holds and that its HNSW graph cannot reach.

A new point is linked from its nearest, each of which keeps the 48 links that it likes best. Where many
vectors are nearly equal, or quite, all of these may be full, and then no walk through the graph comes by,
whatever is asked for. To write the vector again helps little, a denser graph not everywhere (docs/search.md).
So `lost` asks for pictures by their own vectors: the writer for what it has just written and is `doubtful`,
`verify` for all, since a later point may take the last link to an earlier one. Those that it misses are
marked in their records (`MARK`), and `Reaching` scores them one by one beside what HNSW finds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.index.records import MARK
from shared.index.search import PAGE, Store, nearest, vectors
from shared.models import JsonObject

MOST = 20_000  # strays of a collection: 80 MB at 512 numbers each, in every process that searches
AT_ONCE = 2_000  # are read while a search waits: some 0.2 s
# How many each query asks for, and how many queries one call has. The last is as deep as searches look.
_PROBES = ((10, 200), (1_024, 16), (16_384, 1))
_EQUAL = 1e-6  # what float32 makes of the distance of equal vectors
_FEW = 50  # take less time to ask for than to write
_CROWD, _CROWD_COSINE = 24, 0.99  # as many as a new point gets links (max_neighbors)

Vector = NDArray[np.float32]


class Reaching:
    """A Chroma collection whose queries find strays, too."""

    def __init__(self, store: Store, strays: Mapping[str, Vector], *, complete: bool = True) -> None:
        self._store, self.strays, self.complete = store, strays, complete
        self._ids = np.array(list(strays))
        if strays:
            rows = np.stack(list(strays.values()))
            self._rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return self._store.get(*args, **kwargs)

    def count(self) -> int:
        return self._store.count()

    def query(self, *, query_embeddings: Sequence[Vector], n_results: int, **kwargs: Any) -> Any:
        answer = self._store.query(query_embeddings=query_embeddings, n_results=n_results, **kwargs)
        if self.strays:
            for row, vector in enumerate(query_embeddings):
                self._join(answer, row, vector, n_results, **kwargs)
        return answer

    def _join(
        self, answer: Any, row: int, vector: Vector, most: int, *, include: Sequence[str], **narrowed: Any
    ) -> None:
        """Put the strays that belong among the `most` nearest of a query where they belong."""
        ids, distances = answer["ids"][row], answer["distances"][row]
        away = 1.0 - self._rows @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        near = np.flatnonzero(away < distances[-1]) if len(ids) >= most else np.arange(len(away))
        near = near[np.argsort(away[near], kind="stable")]
        if not narrowed:
            near = near[:most]
        strays = dict(zip(self._ids[near].tolist(), away[near].tolist(), strict=True))
        for known in ids:
            strays.pop(known, None)
        records = {}
        if narrowed or "metadatas" in include:
            records = self._matching(list(strays), most, narrowed)
            strays = {one: strays[one] for one in strays if one in records}
        if not strays:
            return
        whole = [*zip(distances, ids, strict=True), *((far, one) for one, far in strays.items())]
        order = sorted(range(len(whole)), key=lambda place: whole[place][0])[:most]
        answer["ids"][row] = [whole[place][1] for place in order]
        answer["distances"][row] = [whole[place][0] for place in order]
        if "metadatas" in include:
            known = [*answer["metadatas"][row], *(records[one] for one in strays)]
            answer["metadatas"][row] = [known[place] for place in order]

    def _matching(self, ids: list[str], most: int, narrowed: JsonObject) -> dict[str, Any]:
        """Return the records of the first `most` that match, and of some more."""
        found: dict[str, Any] = {}
        for start in range(0, len(ids), PAGE):
            if len(found) >= most:
                break
            page = self._store.get(ids=ids[start : start + PAGE], include=["metadatas"], **narrowed)
            found |= zip(page["ids"], page["metadatas"], strict=True)
        return found


def reaching(store: Store, before: Reaching | None, at_once: int) -> Reaching:
    """Return the collection with the strays that are marked there; `before` saves reading them again.

    Of what is new, `at_once` are read, so that no search waits for long; then the result is not `complete`.
    """
    ids: list[str] = store.get(where={MARK: 1}, limit=MOST, include=[])["ids"]
    rows = dict(before.strays) if before else {}
    new = [one for one in ids if one not in rows]
    read = {
        one: row
        for page, found in vectors(store, new[:at_once])
        for one, row in zip(page, found, strict=True)
    }
    whole = rows | read
    return Reaching(store, {one: whole[one] for one in ids if one in whole}, complete=len(new) <= at_once)


def doubtful(written: Mapping[str, Vector]) -> dict[str, Vector]:
    """Return those of the unit vectors, new in Chroma, that HNSW may well have lost.

    Of a few these are all; of many, those that a crowd of nearly equal ones came with.
    """
    if len(written) <= _FEW:
        return dict(written)
    ids, rows = list(written), np.stack(list(written.values()))
    crowded = [
        place
        for start in range(0, len(rows), PAGE)
        for place in start
        + np.flatnonzero(
            np.count_nonzero(rows[start : start + PAGE] @ rows.T >= _CROWD_COSINE, axis=1) > _CROWD
        )
    ]
    return {ids[place]: written[ids[place]] for place in crowded}


def lost(store: Store, asked: Mapping[str, Vector]) -> list[str]:
    """Return those of the ids that no search by their own vectors, `asked`, finds.

    A picture with more equals than a search looks at counts as found.
    """
    unsure, settled = list(asked), list[str]()
    for count, queries in _PROBES:
        asking, unsure = _by_vector(asked, unsure), []
        for start in range(0, len(asking), queries):
            batch = asking[start : start + queries]
            found = nearest(store, np.stack([asked[ids[0]] for ids in batch]), count)
            for ids, answer in zip(batch, found, strict=True):
                there = {one for one, _ in answer}
                equals = len(answer) == count and answer[-1][1] > 1.0 - _EQUAL
                ask_again = equals or count == _PROBES[0][0]  # asked for more, HNSW looks at more
                (unsure if ask_again else settled).extend(one for one in ids if one not in there)
    return settled


def _by_vector(asked: Mapping[str, Vector], ids: Sequence[str]) -> list[list[str]]:
    """Return the ids in groups of equal vectors: one answer tells of all of them."""
    groups: dict[bytes, list[str]] = {}
    for one in ids:
        groups.setdefault(asked[one].tobytes(), []).append(one)
    return list(groups.values())
