"""Calibration: how sure it is that a picture fits, from how all pictures of its collection score.

Cosines of CLIP mean little by themselves: what is high for one query, collection or model is low for another.
So each query is scored against a sample of the collection (one matrix product). With the mean m and standard
deviation s of those scores, taken as a normal distribution of cumulative function F, and n pictures in the
collection,

    confidence(score) = F((score - m) / s) ** n

is the chance that the best of n pictures that have nothing to do with the query scores less: the distribution
of the maximum of n independent draws (for example S. Coles, An Introduction to Statistical Modeling of
Extreme Values, 2001, chapter 3). Where nothing fits, the best result's confidence is spread evenly over [0,
1]. docs/search.md has what was measured and where this fails.
"""

import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from shared.index.collection import Collection

MIN_IMAGES = 30
SAMPLE = 400
_MAX_COLLECTIONS = 64
_COUNT_TTL_SECONDS = 10.0
_GROWTH = 1.5
_MIN_DEVIATION = 1e-6
_MIN_TAIL = 1e-17  # all that a float can tell from 1
_NORMAL = NormalDist()

# Of the starter model, among 500 to 1,900 drawings or photographs: 0.59 to 0.68.
_TYPICAL_SCALE = 0.6
_MIN_SCALED = 10
_ALIKE = 0.95

Vector = NDArray[np.float32]


def picture_scale(texts: Vector, pictures: Vector, sample: Vector) -> float:
    """Return by what to multiply the weights of pictures so that they count as those of texts.

    That is the ratio of the standard deviations of the texts' and of the pictures' scores among a `sample` of
    the collection, each the root of its terms' mean square; all are unit vectors (n, dimension). A picture's
    own copies in the sample are left out. Of fewer than ten others a typical ratio is returned.
    """
    spreads = []
    for terms in (texts, pictures):
        scores = [of_term[of_term < _ALIKE] for of_term in terms @ sample.T]
        if min(map(len, scores)) < _MIN_SCALED:
            return _TYPICAL_SCALE
        spreads.append(math.sqrt(np.mean([of_term.var(ddof=1) for of_term in scores])))
    return spreads[0] / spreads[1] if min(spreads) > _MIN_DEVIATION else _TYPICAL_SCALE


@dataclass(frozen=True, slots=True)
class Calibration:
    """One query's scores among the `count` pictures of a collection: their mean and standard deviation."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, query: Vector, sample: Vector, count: int) -> "Calibration":
        """Calibrate a query (dimension,) on a sample (n >= 2, dimension), all of length 1."""
        scores = sample @ query
        return cls(float(scores.mean()), max(float(scores.std(ddof=1)), _MIN_DEVIATION), count)

    def confidence(self, score: float) -> float:
        """Return the confidence of a score, in [0, 1], growing with the score."""
        tail = 0.5 * math.erfc((score - self.mean) / (self.deviation * math.sqrt(2)))
        return math.exp(self.count * math.log1p(-tail)) if tail < 1 else 0.0

    def score(self, confidence: float) -> float:
        """Return the least score of that confidence, -inf for 0: the inverse of `confidence`."""
        if confidence <= 0:
            return -math.inf
        tail = max(-math.expm1(math.log(confidence) / self.count), _MIN_TAIL)
        return self.mean - _NORMAL.inv_cdf(tail) * self.deviation


@dataclass(frozen=True, slots=True)
class _Background:
    sample: Vector
    taken_of: int
    count: int
    counted_at: float


class Backgrounds:
    """Samples of the collections asked for lately, taken again when one has grown or shrunk by half.

    Safe to share between threads.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Background] = OrderedDict()
        self._lock = threading.Lock()

    def calibrate(self, query: Vector, collection: Collection) -> Calibration | None:
        """Calibrate a query; None with fewer than MIN_IMAGES. Raises as Collection's methods do."""
        background = self._background(collection)
        if min(background.count, len(background.sample)) < MIN_IMAGES:
            return None
        return Calibration.of(query, background.sample, background.count)

    def scale(self, texts: Vector, pictures: Vector, collection: Collection) -> float:
        """Return `picture_scale` for the collection. Raises as Collection's methods do."""
        return picture_scale(texts, pictures, self._background(collection).sample)

    def _background(self, collection: Collection) -> _Background:
        with self._lock:
            kept = self._kept.get(collection.physical)
        now = time.monotonic()
        if kept is not None and now - kept.counted_at < _COUNT_TTL_SECONDS:
            return kept
        count = collection.count()
        if kept is not None and kept.taken_of / _GROWTH <= count <= kept.taken_of * _GROWTH:
            background = _Background(kept.sample, kept.taken_of, count, now)
        else:
            background = _Background(_unit(collection.sample(SAMPLE)), count, count, now)
        with self._lock:
            self._kept[collection.physical] = background
            self._kept.move_to_end(collection.physical)
            while len(self._kept) > _MAX_COLLECTIONS:
                self._kept.popitem(last=False)
        return background


def _unit(rows: Vector) -> Vector:
    rows /= np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    return rows
