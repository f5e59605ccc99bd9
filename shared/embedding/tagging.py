"""Zero-shot tags and an nsfw score from an image's CLIP vector: one matrix product for a whole batch.

With the unit vectors v of an image and t of a text, and the logit scale s that the checkpoint was trained
with, the softmax of s * (v · t) over several texts is how CLIP itself says which of them fits (Radford et
al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, section 3.1). So the same
threshold serves models of different temperature. A tag's t is the unit vector of the mean over TEMPLATES
(section 3.1.4 there).

* `tags`: softmax over the vocabulary together with the built-in one, whose words stand for all that the
  user's does not name: an image of a house is then no cat, although "cat" is the best of "cat" and "dog".
  The MAX_TAGS best of the user's words with at least TAG_MIN_SCORE are assigned.
* `nsfw`: softmax over EXPLICIT and HARMLESS; the sum of the former's probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Protocol
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from shared.config import PREFIX, Settings
from shared.errors import ConfigError
from shared.models import Image

Vectors = NDArray[np.float32]

MAX_TAGS = 5
MAX_VOCABULARY = 2_000
MAX_TAG_CHARS = 64
TEMPLATES = ("{}", "a photo of a {}", "a drawing of a {}")
EXPLICIT = (
    "an explicit photo of naked people",
    "a nude person",
    "pornography",
    "people having sex",
    "an erotic picture of bare breasts",
    "an explicit sexual drawing",
)
HARMLESS = (
    "a photo of people wearing clothes",
    "a portrait of a face",
    "a family photo",
    "a photo of an animal",
    "a photo of a landscape",
    "a photo of a building or a street",
    "a photo of food",
    "a photo of an object",
    "a drawing or a diagram",
    "a page of text",
)


class TextEncoder(Protocol):
    """What this module needs of an Encoder."""

    logit_scale: float

    def encode_texts(self, texts: Sequence[str]) -> Vectors: ...


def describe(
    encoder: TextEncoder, settings: Settings, images: Sequence[Image], vectors: Vectors
) -> list[Image]:
    """Return the images with `tags` and `nsfw` from their unit `vectors` (n, dimension).

    Every image that is encoded, for the first time or again, comes through here. Raises ConfigError for the
    vocabulary, and what `encode_texts` does; only the first call of a process encodes any text.
    """
    found = _tagger(ref(encoder), settings.tag_vocabulary, settings.tag_min_score).of(vectors)
    return [replace(image, tags=tags, nsfw=nsfw) for image, (tags, nsfw) in zip(images, found, strict=True)]


def prepare(encoder: TextEncoder, settings: Settings) -> None:
    """Encode the tags' texts now, so that no image waits for it."""
    _tagger(ref(encoder), settings.tag_vocabulary, settings.tag_min_score)


def read_vocabulary(path: Path | None) -> tuple[str, ...]:
    """Read a vocabulary, one tag per line without blank lines and `#` comments; None is the built-in one.

    Raises ConfigError, in one line that names the setting, for a file that cannot be that.
    """
    if path is None:
        text = resources.files("shared.embedding").joinpath("vocabulary.txt").read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(f"{path} cannot be read as UTF-8: {error}") from None
    lines = (line.strip() for line in text.splitlines())
    tags = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if len(tags) > MAX_VOCABULARY:
        raise _unusable(f"{path} has {len(tags):,} tags; at most {MAX_VOCABULARY:,} are allowed")
    if long := next((tag for tag in tags if len(tag) > MAX_TAG_CHARS), None):
        raise _unusable(
            f"{path} has a tag of more than {MAX_TAG_CHARS} characters: {long[:MAX_TAG_CHARS]}..."
        )
    return tags


def _unusable(reason: str) -> ConfigError:
    return ConfigError(f"{PREFIX}TAG_VOCABULARY: {reason}")


@dataclass(frozen=True, slots=True)
class _Tagger:
    """`texts` are (n, dimension), times the logit scale: tags, other built-in words, EXPLICIT, HARMLESS."""

    tags: tuple[str, ...]
    words: int  # tags and other built-in words
    texts: Vectors
    min_score: float

    def of(self, vectors: Vectors) -> list[tuple[list[str], float]]:
        logits = vectors @ self.texts.T
        tags = _softmax(logits[:, : self.words])[:, : len(self.tags)]
        explicit = _softmax(logits[:, self.words :])[:, : len(EXPLICIT)].sum(axis=1)
        # Four digits: more mean nothing, and these Chroma keeps as they are.
        return [(self._best(row), round(float(score), 4)) for row, score in zip(tags, explicit, strict=True)]

    def _best(self, probabilities: NDArray[np.float64]) -> list[str]:
        order = np.argsort(-probabilities, kind="stable")[:MAX_TAGS]
        return [self.tags[place] for place in order if probabilities[place] >= self.min_score]


@lru_cache(maxsize=2)
def _tagger(living: "ref[TextEncoder]", vocabulary: Path | None, min_score: float) -> _Tagger:
    encoder = living()  # by a weak reference, so that the cache keeps no finished reindex's encoder alive
    assert encoder is not None  # noqa: S101 - the caller holds it
    tags = read_vocabulary(vocabulary)
    words = list(dict.fromkeys((*tags, *read_vocabulary(None))))
    each = encoder.encode_texts([template.format(word) for word in words for template in TEMPLATES])
    means = each.reshape(len(words), len(TEMPLATES), -1).mean(axis=1)
    named = means / np.linalg.norm(means, axis=1, keepdims=True)
    texts = np.concatenate([named, encoder.encode_texts([*EXPLICIT, *HARMLESS])])
    return _Tagger(tags, len(words), np.asarray(encoder.logit_scale * texts, np.float32), min_score)


def _softmax(logits: Vectors) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
