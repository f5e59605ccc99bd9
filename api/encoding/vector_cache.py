"""A cache of the vectors of images, for lists that compare what was found with each other.

An image's id is its bytes, and a physical collection has one model: its vector never changes. Of more than
MAX_BYTES the least recently used go first; 64 MB are 32,768 vectors of 512 dimensions.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.index.collection import Collection

MAX_BYTES = 64 * 2**20
_PAGE = 1_000  # vectors in one call
Vector = NDArray[np.float32]


class VectorCache:
    """A cache that threads may share."""

    def __init__(self, most_bytes: int = MAX_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], Vector] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, collection: Collection, ids: Sequence[str]) -> Vector:
        """Return unit vectors (len(ids), dimension), zeros for images that are gone. Raises as Collection."""
        found = self._find(collection.physical, ids)
        lacking = [one for one in ids if one not in found]
        for start in range(0, len(lacking), _PAGE):  # each under a deadline of its own
            page = collection.vectors(lacking[start : start + _PAGE])
            read = {one: _unit(row) for one, row in page.items()}
            self._keep(collection.physical, read)
            found |= read
        rows = np.zeros((len(ids), collection.pointer.dimension), np.float32)
        for row, one in zip(rows, ids, strict=True):
            if one in found:
                row[:] = found[one]
        return rows

    def _find(self, physical: str, ids: Sequence[str]) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        with self._lock:
            for one in ids:
                if (vector := self._kept.get((physical, one))) is not None:
                    self._kept.move_to_end((physical, one))
                    found[one] = vector
        return found

    def _keep(self, physical: str, read: dict[str, Vector]) -> None:
        with self._lock:
            for one, vector in read.items():
                if (physical, one) not in self._kept:
                    self._kept[physical, one] = vector
                    self._bytes += vector.nbytes
            while self._bytes > self._most_bytes:
                _, vector = self._kept.popitem(last=False)
                self._bytes -= vector.nbytes


def _unit(row: Vector) -> Vector:
    # A row of its own: a view would keep all that was read with it.
    return np.asarray(row / max(float(np.linalg.norm(row)), 1e-12), np.float32)
