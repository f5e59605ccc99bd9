"""Deduplication: which arriving images that ask for it (`on_near_duplicate: "skip"`) are not indexed.

One is left out when it is a near-duplicate, by the bounds of near_duplicates.py, of an image that is in the
collection, or that an earlier item of the same write brings. Only the one writer decides, so two items cannot
each leave out the other; an item whose own image is stored already never comes here, so what was indexed
stays indexed however often it is delivered.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.imaging.colors_and_hash import hash_bits
from shared.index.collection import Collection
from shared.index.near_duplicates import COSINE, HAMMING
from shared.models import Image

_QUERIES = 100  # at once
_NEAREST = 32  # of each; were more of them near by vector alone, a near-duplicate behind them would be kept


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """An item's outcome: its image was left out for `image_id`."""

    image_id: str


class NearDuplicates:
    """Answers for one write into `collection`; `asking` are the (image, unit vector) that may be left out."""

    def __init__(
        self, collection: Collection, asking: Sequence[tuple[Image, NDArray[np.float32]]], most: int
    ) -> None:
        """Ask the index, once for all, if any is asking; `most` is how many images the write brings."""
        asking = [(image, vector) for image, vector in asking if image.phash is not None]
        self._stored = _stored_near_duplicates(collection, asking)
        self._ids: list[str] = []
        self._hashes = np.zeros(most, np.uint64)
        self._vectors = np.zeros((most, len(asking[0][1]) if asking else 0), np.float32)

    def of(self, image: Image, vector: NDArray[np.float32]) -> NearDuplicate | None:
        """Return the image that this one nearly repeats, if any."""
        if image.id in self._stored:
            return NearDuplicate(self._stored[image.id])
        if image.phash is None:
            return None
        seen = len(self._ids)
        bits = np.bitwise_count(self._hashes[:seen] ^ hash_bits([image.phash])[0])
        similar = np.flatnonzero(bits <= HAMMING)
        scores = self._vectors[similar] @ vector
        if not similar.size or scores.max() < COSINE:
            return None
        return NearDuplicate(self._ids[similar[scores.argmax()]])

    def add(self, image: Image, vector: NDArray[np.float32]) -> None:
        """Add an image that the write brings new, for later ones to be compared with."""
        if image.phash is not None and self._vectors.shape[1]:
            place = len(self._ids)
            self._ids.append(image.id)
            self._hashes[place], self._vectors[place] = hash_bits([image.phash])[0], vector


def _stored_near_duplicates(
    collection: Collection, asking: Sequence[tuple[Image, NDArray[np.float32]]]
) -> dict[str, str]:
    """Map the id of each asking image that has one to its nearest near-duplicate in the collection."""
    found: dict[str, str] = {}
    for start in range(0, len(asking), _QUERIES):
        batch = asking[start : start + _QUERIES]
        answers = collection.nearest(np.stack([vector for _, vector in batch]), _NEAREST)
        close = [[one for one, score in answer if score >= COSINE] for answer in answers]
        stored = collection.stored(list({one for ids in close for one in ids}))
        for (image, _), ids in zip(batch, close, strict=True):
            hashes = {one: stored[one].image.phash for one in ids if one in stored}
            similar = (one for one, phash in hashes.items() if phash and _distance(image, phash) <= HAMMING)
            if (first := next(similar, None)) is not None:
                found[image.id] = first
    return found


def _distance(image: Image, phash: str) -> int:
    one, other = hash_bits([image.phash or "", phash])
    return int(np.bitwise_count(one ^ other))
