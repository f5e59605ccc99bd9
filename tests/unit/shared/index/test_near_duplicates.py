"""Near-duplicates by vector and hash together, against the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.index import near_duplicates
from shared.index.near_duplicates import groups, leaders

Vectors = NDArray[np.float32]


def found(hashes: list[int], vectors: Vectors, *, cosine: float = 0.95, hamming: int = 2) -> list[list[int]]:
    all_groups = groups(np.array(hashes, np.uint64), lambda p: vectors[p], cosine=cosine, hamming=hamming)
    return sorted(sorted(group.tolist()) for group in all_groups)


def angle(*degrees: float) -> Vectors:
    radians = np.deg2rad(np.array(degrees))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_both_the_vector_and_the_hash_must_be_near() -> None:
    hashes = [0b0, 0b1, 0b0, 0xFFFF]
    assert found(hashes, angle(0, 5, 90, 0)) == [[0, 1]]


def test_the_bounds_themselves_are_near() -> None:
    assert found([0, 0b11], angle(0, 0), cosine=1.0) == [[0, 1]]
    assert found([0, 0b111], angle(0, 0), cosine=1.0) == []
    assert found([0, 0], angle(0, 60), cosine=0.5) == [[0, 1]]
    assert found([0, 0], angle(0, 61), cosine=0.5) == []


def test_what_is_near_to_one_of_a_group_belongs_to_it() -> None:
    assert found([0, 0, 0, 0], angle(0, 15, 30, 90)) == [[0, 1, 2]]


def test_nothing_and_vectors_of_zeros_are_in_no_group() -> None:
    assert found([], np.empty((0, 2), np.float32)) == []
    assert found([0, 0, 0], np.array([[0, 0], [1, 0], [0, 0]], np.float32)) == []


def test_only_the_vectors_of_near_hashes_are_asked_for() -> None:
    asked: list[int] = []

    def vectors_of(places: NDArray[np.intp]) -> Vectors:
        asked.extend(places.tolist())
        return angle(*[0] * len(places))

    groups(np.array([1, 2**40 - 1, 0, 2**63], np.uint64), vectors_of, cosine=0.95, hamming=1)
    assert asked == [0, 2, 3]


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40), cells=st.sampled_from([7, 64, 4_000]))
def test_blocks_of_any_size_give_what_the_definition_says(seed: int, count: int, cells: int) -> None:
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 32, count, dtype=np.uint64)
    vectors = angle(*random.uniform(0, 360, count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_CELLS", cells)
        blocks = found(hashes.tolist(), vectors, hamming=1)
    alike = (vectors @ vectors.T >= 0.95) & (np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= 1)
    reached = np.linalg.matrix_power((alike | np.eye(count, dtype=bool)).astype(np.int64), 1) > 0
    for _ in range(6):  # squaring: paths of up to 64 steps
        reached = (reached.astype(np.int64) @ reached.astype(np.int64)) > 0
    expected = {tuple(np.flatnonzero(row).tolist()) for row in reached}
    assert blocks == sorted(list(group) for group in expected if len(group) > 1)


def test_leaders_are_those_that_no_leader_before_is_alike_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_ROWS", 5)
    vectors = angle(*np.random.default_rng(0).uniform(0, 360, 40))
    expected: list[int] = []
    for row in range(len(vectors)):
        before = [one for one in dict.fromkeys(expected) if vectors[one] @ vectors[row] >= 0.95]
        expected.append(before[0] if before else row)
    assert leaders(vectors, 0.95).tolist() == expected
    assert len(set(expected)) < len(expected)


def test_a_chain_has_several_leaders_and_nothing_is_alike_to_zeros() -> None:
    assert leaders(angle(0, 15, 30), 0.95).tolist() == [0, 0, 2]
    assert leaders(np.zeros((2, 2), np.float32)).tolist() == [0, 1]
    assert leaders(np.zeros((0, 2), np.float32)).tolist() == []
