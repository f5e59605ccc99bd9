"""Near-duplicates: images whose vectors and perceptual hashes are both close.

Neither is enough alone: a model puts two photos of one dog close together, and flat or symmetrical images
share hashes. The hash is compared first, since 60,000 of them are half a megabyte.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

COSINE = 0.95
# Of 64 bits; unrelated pictures differ in about 32, a recompressed, resized, brightened or slightly trimmed
# one in up to 8.
HAMMING = 8
_CELLS = 4_000_000  # comparisons at once: 40 MB
_ROWS = 256

Hashes = NDArray[np.uint64]
Vectors = NDArray[np.float32]
Places = NDArray[np.intp]


def groups(
    hashes: Hashes, vectors_of: Callable[[Places], Vectors], *, cosine: float, hamming: int
) -> list[Places]:
    """Return the connected components, of two or more, of "cosine similarity >= and Hamming distance <=".

    So two members may be less alike than that where others lie between them. `vectors_of` is called once,
    with the rows whose hash has a similar one, and returns their vectors (m, dimension). Exact, in blocks:
    time grows with the square of n (60,000 in 3 s on one core where few are similar), memory with m. A vector
    of zeros is similar to nothing.
    """
    places = np.flatnonzero(_has_partner(hashes, hamming))
    if not places.size:
        return []
    vectors = vectors_of(places)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = _labels(hashes[places], vectors / np.maximum(norms, 1e-12), cosine, hamming)
    order = np.argsort(labels, kind="stable")
    parts = np.split(places[order], np.flatnonzero(np.diff(labels[order])) + 1)
    return [part for part in parts if len(part) > 1]


def leaders(vectors: Vectors, cosine: float = COSINE) -> Places:
    """Return for each row the first that it is alike to of those that are their own leaders, or itself.

    `vectors` (n, dimension) are of length 1, or 0 for what is like nothing. So no two leaders are alike, and
    what the first rows are told does not depend on those that follow.
    """
    places = np.arange(len(vectors))
    leading, count = np.empty_like(vectors), 0
    at = np.empty_like(places)
    for start in range(0, len(vectors), _ROWS):
        block = vectors[start : start + _ROWS]
        alike = _alike(block, leading[:count], cosine)
        known = alike.any(axis=1)
        if known.any():
            places[start : start + _ROWS][known] = at[:count][alike[known].argmax(axis=1)]
        rest = np.flatnonzero(~known)
        fresh = _first_alike(_alike(block[rest], block[rest], cosine))
        places[start + rest] = start + rest[fresh]
        new = rest[fresh == np.arange(len(rest))]
        leading[count : count + len(new)], at[count : count + len(new)] = block[new], start + new
        count += len(new)
    return places


def _first_alike(alike: NDArray[np.bool_]) -> Places:
    places = np.arange(len(alike))
    free = np.ones(len(alike), np.bool_)
    for row in range(len(alike)):
        if free[row]:
            joining = alike[row] & free
            places[joining], free[joining] = row, False
    return places


def _alike(left: Vectors, right: Vectors, cosine: float) -> NDArray[np.bool_]:
    # The slack is the rounding of a product of float32: equal vectors are near at a threshold of 1.
    return np.asarray(left @ right.T >= cosine - 1e-6)


def _has_partner(hashes: Hashes, hamming: int) -> NDArray[np.bool_]:
    found = np.zeros(len(hashes), np.bool_)
    for start, stop in _blocks(len(hashes)):
        similar = _similar_hashes(hashes, start, stop, hamming)
        rows = np.arange(stop - start)
        similar[rows, rows] = False
        found[start:stop] |= similar.any(axis=1)
        found[start:] |= similar.any(axis=0)
    return found


def _labels(hashes: Hashes, vectors: Vectors, cosine: float, hamming: int) -> Places:
    """Return a number for each row, the same for all that are connected."""
    labels = np.arange(len(hashes))
    for start, stop in _blocks(len(hashes)):
        similar = _similar_hashes(hashes, start, stop, hamming)
        columns = np.flatnonzero(similar.any(axis=0))
        alike = _alike(vectors[start:stop], vectors[start + columns], cosine)
        alike &= similar[:, columns]
        for row in range(stop - start):
            joined = np.append(labels[start + columns[alike[row]]], labels[start + row])
            if (joined != joined[0]).any():
                labels[np.isin(labels, joined)] = joined.min()
    return labels


def _similar_hashes(hashes: Hashes, start: int, stop: int, hamming: int) -> NDArray[np.bool_]:
    """Return which rows of `start` to `stop` have a hash similar to which rows from `start` on (columns)."""
    return np.asarray(np.bitwise_count(hashes[start:stop, None] ^ hashes[None, start:]) <= hamming)


def _blocks(count: int) -> list[tuple[int, int]]:
    size = max(1, _CELLS // max(1, count))
    return [(start, min(start + size, count)) for start in range(0, count, size)]
