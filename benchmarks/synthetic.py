"""Made-up vectors that lie as embeddings do, and the records that go with them."""

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shared.encoder import Encoder
from shared.index import Collection, Index
from shared.models import DEFAULT_COLLECTION, Image

CLUSTERS = 600
BATCH = 2_000


def clustered(rng: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    """Unit vectors (count, dimension) in clusters of like subjects: the cosine within one is about 0.5.

    Independent random vectors are all equally far from each other: on them recall means nothing.
    """
    centres = np.random.default_rng(0).normal(size=(CLUSTERS, dimension)).astype(np.float32)
    vectors = centres[rng.integers(CLUSTERS, size=count)]
    vectors += rng.normal(size=(count, dimension)).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def batches(
    rng: np.random.Generator, count: int, dimension: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The number of its first picture and the vectors of each batch, `count` vectors in all."""
    for first in range(0, count, BATCH):
        yield first, clustered(rng, min(BATCH, count - first), dimension)


def image(number: int, **metadata: float) -> Image:
    source = f"http://a/{number}.jpg"
    return Image(
        f"{number:064x}", source, [source], "jpeg", 2048, 1536, 10**6, time.time(), metadata={**metadata}
    )


def fill(index: Index, encoder: Encoder, count: int) -> Collection:
    """The default collection with pictures 0 to `count`, as if `encoder` had made their vectors.

    Their metadata `draw` is spread evenly over [0, 1), independent of the vectors.
    """
    collection = index.ensure(
        DEFAULT_COLLECTION,
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
    )
    rng = np.random.default_rng(0)
    draws = rng.permutation(count) / count
    for first, vectors in batches(rng, count, encoder.dimension):
        images = [image(first + row, draw=float(draws[first + row])) for row in range(len(vectors))]
        collection.upsert(images, vectors, ["bench:0"] * len(images))
    return collection
