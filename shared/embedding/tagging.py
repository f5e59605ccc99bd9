"""Zero-shot tags and an nsfw score from an image's vector: one matrix product for a whole batch.

Probabilities are by the rule that the model was trained with. With the unit vectors v of an image and t of a
text, and the checkpoint's logit scale s and bias b, it is

* CLIP's: the softmax of s * (v · t) over several texts (A. Radford et al., Learning Transferable Visual
  Models From Natural Language Supervision, 2021, section 3.1). A tag's t is the unit vector of the mean over
  TEMPLATES (section 3.1.4 there). The user's vocabulary competes with the built-in one, whose words stand for
  all that the user's does not name: an image of a house is then no cat, although "cat" is the best of "cat"
  and "dog". `nsfw` is a softmax over EXPLICIT and HARMLESS, the sum of the former's probabilities.
* SigLIP's, where there is a bias: the sigmoid of s * (v · t) + b, of each text by itself (X. Zhai et al.,
  Sigmoid Loss for Language Image Pre-Training, ICCV 2023, section 3.2). A tag's logit is the mean over
  TEMPLATES, its t their plain mean: to lengthen that to a unit vector, as the authors do where only the best
  class is asked for, would raise all logits against the bias. `nsfw` is the greatest probability among
  EXPLICIT: these say nearly the same, so of one picture all are likely or none is, and together they are
  hardly likelier than the likeliest alone.

The MAX_TAGS best of the vocabulary with at least TAG_MIN_SCORE are assigned. A SigLIP's probabilities are
small also where a text fits, since of the pairs that it was trained on one in 32,000 did: docs/pictures.md
has published ones. So MIN_SCORE depends on the rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.config import PREFIX, Settings
from shared.errors import ConfigError
from shared.models import Image

Vectors = NDArray[np.float32]

MAX_TAGS = 5
MAX_VOCABULARY = 2_000
MAX_TAG_CHARS = 64
MIN_SCORE, MIN_SCORE_OF_SIGMOID = 0.15, 0.01
_MAX_USEFUL_OF_SIGMOID = 0.1
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


log = structlog.get_logger()


class TextEncoder(Protocol):
    """What this module needs of an Encoder."""

    logit_scale: float
    logit_bias: float | None
    knows_english: bool

    def encode_texts(self, texts: Sequence[str]) -> Vectors: ...


def describe(
    encoder: TextEncoder, settings: Settings, images: Sequence[Image], vectors: Vectors
) -> list[Image]:
    """Return the images with `tags` and `nsfw` from their unit `vectors` (n, dimension).

    Every image that is ingested or reindexed comes through here. Raises ConfigError for the vocabulary, and
    what `encode_texts` does; only the first call of a process encodes any text.
    """
    found = _tagger(encoder, settings.tag_vocabulary, settings.tag_min_score).of(vectors)
    return [replace(image, tags=tags, nsfw=nsfw) for image, (tags, nsfw) in zip(images, found, strict=True)]


def prepare(encoder: TextEncoder, settings: Settings) -> None:
    """Encode the tags' texts now, so that no image waits for it; log what they cannot say of this model."""
    _tagger(encoder, settings.tag_vocabulary, settings.tag_min_score)
    if caveat := caveat_of(encoder, settings):
        log.warning(caveat)


def caveat_of(encoder: TextEncoder, settings: Settings) -> str | None:
    """Return a sentence where the settings on tags and nsfw do not suit the model."""
    if not encoder.knows_english:
        return (
            "The model knows no English: pictures get no nsfw score, so that NSFW_MAX hides none, and tags "
            "only from a TAG_VOCABULARY in its language."
        )
    if encoder.logit_bias is not None and (settings.nsfw_max or 0) > _MAX_USEFUL_OF_SIGMOID:
        return (
            f"NSFW_MAX is {settings.nsfw_max}, which hardly any picture exceeds with this model: a SigLIP's "
            f"probabilities are small, and {MIN_SCORE_OF_SIGMOID} is the place to start."
        )
    return None


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
    """`texts` are (n, dimension), times the logit scale: tags, other built-in words, EXPLICIT, HARMLESS.

    Of a model that knows no English they are the user's tags alone.
    """

    tags: tuple[str, ...]
    words: int  # tags and other built-in words
    texts: Vectors
    bias: float | None
    min_score: float

    def of(self, vectors: Vectors) -> list[tuple[list[str], float | None]]:
        logits = vectors @ self.texts.T
        tags = self._probabilities(logits[:, : self.words])[:, : len(self.tags)]
        return [(self._best(row), nsfw) for row, nsfw in zip(tags, self._nsfw(logits), strict=True)]

    def _nsfw(self, logits: Vectors) -> list[float] | list[None]:
        if self.words == len(self.texts):
            return [None] * len(logits)
        explicit = self._probabilities(logits[:, self.words :])[:, : len(EXPLICIT)]
        scores = explicit.sum(axis=1) if self.bias is None else explicit.max(axis=1)
        # Four digits: more mean nothing, and these Chroma keeps as they are.
        return [round(float(score), 4) for score in scores]

    def _probabilities(self, logits: Vectors) -> NDArray[np.float64]:
        """Compute (n, texts) by the model's rule, a softmax over the texts or a sigmoid of each."""
        if self.bias is not None:
            return np.asarray(np.exp(-np.logaddexp(0, -(logits.astype(np.float64) + self.bias))))
        powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def _best(self, probabilities: NDArray[np.float64]) -> list[str]:
        order = np.argsort(-probabilities, kind="stable")[:MAX_TAGS]
        return [self.tags[place] for place in order if probabilities[place] >= self.min_score]


# Of every encoder that is loaded, and kept no longer: one takes a second to make.
_taggers: WeakKeyDictionary[TextEncoder, dict[tuple[Path | None, float | None], _Tagger]] = (
    WeakKeyDictionary()
)


def _tagger(encoder: TextEncoder, vocabulary: Path | None, min_score: float | None) -> _Tagger:
    made = _taggers.setdefault(encoder, {})
    if (vocabulary, min_score) not in made:
        made[vocabulary, min_score] = _make(encoder, vocabulary, min_score)
    return made[vocabulary, min_score]


def _make(encoder: TextEncoder, vocabulary: Path | None, min_score: float | None) -> _Tagger:
    english, bias = encoder.knows_english, encoder.logit_bias
    tags = read_vocabulary(vocabulary) if english or vocabulary else ()
    words = list(dict.fromkeys((*tags, *read_vocabulary(None)))) if english else tags
    templates = TEMPLATES if english else ("{}",)
    each = encoder.encode_texts([template.format(word) for word in words for template in templates])
    named = each.reshape(len(words), len(templates), each.shape[-1]).mean(axis=1)
    if bias is None:
        named = named / np.linalg.norm(named, axis=1, keepdims=True)
    texts = np.concatenate([named, encoder.encode_texts([*EXPLICIT, *HARMLESS])]) if english else named
    if min_score is None:
        min_score = MIN_SCORE if bias is None else MIN_SCORE_OF_SIGMOID
    scaled = np.asarray(encoder.logit_scale * texts, np.float32)
    return _Tagger(tags, len(words), scaled, bias, min_score)
