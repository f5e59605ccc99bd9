from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from api.encoding.vector_cache import VectorCache
from shared.index.collection import Collection


class Stored:
    """A collection of vectors, that notes what is read of it."""

    def __init__(self, physical: str = "p", **vectors: list[float]) -> None:
        self.physical, self.pointer = physical, SimpleNamespace(dimension=2)
        self._vectors = {one: np.array(row, np.float32) for one, row in vectors.items()}
        self.read: list[str] = []

    def vectors(self, ids: list[str]) -> dict[str, NDArray[np.float32]]:
        self.read += ids
        return {one: self._vectors[one] for one in ids if one in self._vectors}


def get(cache: VectorCache, stored: Stored, *ids: str) -> list[Any]:
    rows = cache.get(cast(Collection, stored), ids)
    assert rows.dtype == np.float32
    return rows.tolist()


def test_a_vector_is_read_once_and_given_back_with_length_one() -> None:
    cache, stored = VectorCache(), Stored(a=[2, 0], b=[0, 3])
    assert get(cache, stored, "b", "a") == [[0, 1], [1, 0]]
    assert get(cache, stored, "a", "b", "a") == [[1, 0], [0, 1], [1, 0]]
    assert stored.read == ["b", "a"]


def test_what_is_gone_is_zeros_and_asked_for_again() -> None:
    cache, stored = VectorCache(), Stored()
    assert get(cache, stored, "a") == get(cache, stored, "a") == [[0, 0]]
    assert stored.read == ["a", "a"]


def test_another_physical_collection_has_vectors_of_its_own() -> None:
    cache = VectorCache()
    assert get(cache, Stored("p", a=[1, 0]), "a") == [[1, 0]]
    assert get(cache, Stored("q", a=[0, 1]), "a") == [[0, 1]]


def test_what_was_not_used_for_the_longest_time_goes_first() -> None:
    cache, stored = VectorCache(most_bytes=2 * 8), Stored(a=[1, 0], b=[1, 0], c=[1, 0])
    for one in ("a", "b", "a", "c", "a", "b"):
        get(cache, stored, one)
    assert stored.read == ["a", "b", "c", "b"]
