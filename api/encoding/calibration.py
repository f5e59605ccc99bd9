"""Calibration: how sure it is that a picture fits, from how unrelated pictures and words score.

Cosines mean little by themselves: what is high for one query, collection or model is low for another.
So each query is scored against a sample of the collection (one matrix product). Unrelated pictures are taken
to score as a normal distribution around the sample's median m, with SPREAD times the deviation s of what lies
below m: what fits lies above and is no part of it. Of z = (score - m) / (SPREAD * s), the normal cumulative
function F and n pictures in the collection,

    confidence(score) = (F(z(score)) / F(z(1))) ** n

is the chance that the best of n pictures that have nothing to do with the query scores less: the distribution
of the maximum of n independent draws (for example S. Coles, An Introduction to Statistical Modeling of
Extreme Values, 2001, chapter 3), none of which can be above 1. Where nothing fits, the best result's
confidence is spread about evenly over [0, 1].

Where much of a collection fits ("a face" among faces), m and s are those of what fits. So a query of texts
has a second background, the sample's scores to common words, and the higher z counts; not of a model that
knows no English, to which the words are noise. docs/search.md has what was measured and where this fails.
"""

import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from image_search.models.search import STRENGTHS, Strength
from shared.embedding.encoder import Encoder
from shared.embedding.tagging import read_vocabulary
from shared.index.collection import Collection
from shared.index.near_duplicates import COSINE

MIN_IMAGES = 30
# Scores of unrelated pictures fall off that much more slowly above their median than below it, as measured.
SPREAD = 1.15
SAMPLE = 400
_MAX_COLLECTIONS = 64
_COUNT_TTL_SECONDS = 10.0
_GROWTH = 1.1
_EVERY_WORD = 4  # of the built-in tags, some 50 words
_MIN_DEVIATION = 1e-4  # of the same vector again and again, whose scores differ by rounding

# Of the starter model, among 500 to 1,900 drawings or photographs: 0.59 to 0.68.
_TYPICAL_SCALE = 0.6
_MIN_SCALED = 10

Vector = NDArray[np.float32]


def strength(confidence: float) -> Strength:
    """Name a confidence by the one rule for this, STRENGTHS."""
    return next(name for name, least in STRENGTHS.items() if confidence >= least)


def picture_scale(texts: Vector, pictures: Vector, sample: Vector) -> float:
    """Return by what to multiply the weights of pictures so that they count as those of texts.

    That is the ratio of the standard deviations of the texts' and of the pictures' scores among a `sample` of
    the collection, each the root of its terms' mean square; all are unit vectors (n, dimension). A picture's
    near-duplicates in the sample are left out. Of fewer than ten others a typical ratio is returned.
    """
    if len(sample) < _MIN_SCALED:  # an empty one has no columns, either
        return _TYPICAL_SCALE
    spreads = []
    for terms in (texts, pictures):
        scores = [of_term[of_term < COSINE] for of_term in terms @ sample.T]
        if min(map(len, scores)) < _MIN_SCALED:
            return _TYPICAL_SCALE
        spreads.append(math.sqrt(np.mean([of_term.var(ddof=1) for of_term in scores])))
    return spreads[0] / spreads[1] if min(spreads) > _MIN_DEVIATION else _TYPICAL_SCALE


@dataclass(frozen=True, slots=True)
class Background:
    """What scores without any fit: normally distributed, by their mean and standard deviation."""

    mean: float
    deviation: float

    @classmethod
    def of_pictures(cls, scores: Vector) -> Self:
        """Make a query's background of its scores in a sample, some of which may fit."""
        median = float(np.median(scores))
        below = scores[scores < median] - median
        return cls(median, SPREAD * math.sqrt(float(np.mean(below**2))) if below.size else 0.0)

    @classmethod
    def of_words(cls, scores: Vector) -> Self:
        """Make the background of all texts of the scores of unrelated ones."""
        return cls(float(scores.mean()), float(scores.std()))


@dataclass(frozen=True, slots=True)
class Calibration:
    """One query's scores: how `count` pictures that have nothing to do with it would score.

    A score counts as much as the `backgrounds` that it stands out from the most say.
    """

    backgrounds: tuple[Background, ...]
    count: int

    @classmethod
    def of(cls, query: Vector, sample: Vector, count: int, *others: Background) -> Self:
        """Calibrate a query (dimension,) on a sample (n, dimension), all of length 1, and `others`."""
        return cls((Background.of_pictures(sample @ query), *others), count)

    def confidence(self, score: float) -> float:
        """Return the confidence of a score, in [0, 1], growing with the score."""
        tail = self._tail(score)
        if tail >= 1:
            return 0.0
        return min(1.0, math.exp(self.count * (math.log1p(-tail) - math.log1p(-self._tail(1.0)))))

    def score(self, confidence: float) -> float:
        """Return the least score of that confidence, as `confidence` has it to the last bit; -inf for 0."""
        low, high = -1.0, 1.0
        if self.confidence(low) >= confidence:
            return -math.inf
        while low < (middle := (low + high) / 2) < high:
            if self.confidence(middle) >= confidence:
                high = middle
            else:
                low = middle
        return high

    def _tail(self, score: float) -> float:
        """Return the chance that one picture scores more."""
        z = max((score - one.mean) / max(one.deviation, _MIN_DEVIATION) for one in self.backgrounds)
        return 0.5 * math.erfc(z / math.sqrt(2))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Vectors of length 1; `of_words`: what common words score in them, by the fingerprint of their model."""

    vectors: Vector
    taken_of: int
    count: int
    counted_at: float
    of_words: dict[str, Background] = field(default_factory=dict)


class Backgrounds:
    """Samples of the collections asked for lately, taken again when one has grown or shrunk by a tenth.

    Which pictures are taken depends on their number, not on when: processes that began at different times
    scale a query's pictures alike, so that its pages fit together.

    Safe to share between threads.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Sample] = OrderedDict()
        self._words: dict[str, Vector] = {}  # common words, by the fingerprint of their model
        self._lock = threading.Lock()

    def prepared(self, encoder: Encoder) -> Encoder:
        """Encode the common words now, so that no search waits for it; return the encoder."""
        if encoder.knows_english:
            self._words[encoder.fingerprint] = encoder.encode_texts(read_vocabulary(None)[::_EVERY_WORD])
        return encoder

    def calibrate(
        self, query: Vector, collection: Collection, words_of: Encoder | None = None
    ) -> Calibration | None:
        """Calibrate a query; None with fewer than MIN_IMAGES. Raises as Collection's methods do.

        A query of nothing but texts is compared with the common words of its encoder, too, if that knows any.
        """
        kept = self._sample(collection)
        if min(kept.count, len(kept.vectors)) < MIN_IMAGES:
            return None
        if words_of is None or not words_of.knows_english:
            return Calibration.of(query, kept.vectors, kept.count)
        return Calibration.of(query, kept.vectors, kept.count, self._background_of_words(kept, words_of))

    def _background_of_words(self, sample: _Sample, encoder: Encoder) -> Background:
        if encoder.fingerprint not in sample.of_words:
            if encoder.fingerprint not in self._words:
                self.prepared(encoder)
            scores = sample.vectors @ self._words[encoder.fingerprint].T
            sample.of_words[encoder.fingerprint] = Background.of_words(scores)
        return sample.of_words[encoder.fingerprint]

    def scale(self, texts: Vector, pictures: Vector, collection: Collection) -> float:
        """Return `picture_scale` for the collection. Raises as Collection's methods do."""
        return picture_scale(texts, pictures, self._sample(collection).vectors)

    def _sample(self, collection: Collection) -> _Sample:
        with self._lock:
            kept = self._kept.get(collection.physical)
        now = time.monotonic()
        if kept is not None and now - kept.counted_at < _COUNT_TTL_SECONDS:
            return kept
        count = collection.count()
        taken_of = _sampled(count)
        if kept is not None and kept.taken_of == taken_of:
            sample = replace(kept, count=count, counted_at=now)
        else:
            sample = _Sample(_unit(collection.sample(SAMPLE, taken_of)), taken_of, count, now)
        with self._lock:
            self._kept[collection.physical] = sample
            self._kept.move_to_end(collection.physical)
            while len(self._kept) > _MAX_COLLECTIONS:
                self._kept.popitem(last=False)
        return sample


def _sampled(count: int) -> int:
    """Return of how many of `count` pictures to take a sample: of all, or the last step of growth."""
    if count <= SAMPLE:
        return count
    return int(SAMPLE * _GROWTH ** math.floor(math.log(count / SAMPLE, _GROWTH)))


def _unit(rows: Vector) -> Vector:
    rows /= np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    return rows
