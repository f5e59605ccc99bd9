"""A search's query: its terms as one vector.

With unit vectors v, the query is the unit vector of `sum(weight * scale * v of positives) - sum(weight *
scale * v of negatives)`. `text`, `image_url`, `image_id` and uploaded images are positives of weight 1.
Negatives alone are a query, too: the least alike come first. So an image's score is the weighted sum of its
cosines to the terms, over the norm of the weighted sum of their vectors, and each summand is that term's
share of the score.

Images are far more alike to each other than to any text. So where a query has both, `scale` brings the
cosines of its images to the spread of those of its texts; else it is 1. docs/search.md has the arithmetic.
"""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
from numpy.typing import NDArray

from api.context import context, encoded_text, encoder_of
from api.search.query_images import read_all
from api.search.requests import MAX_PICTURES, MIXED_NEGATIVE, SearchRequest, Subject, WeightedSubject
from shared.embedding.encoder import Encoder
from shared.errors import FieldError, ImageNotFound, InvalidRequest, ItemError
from shared.imaging.decode import open_query_image
from shared.index.collection import Collection

Vector = NDArray[np.float32]

# Below this share of the weights' sum, what is left of a sum of unit vectors is rounding of the encoder.
_CANCELLED = 1e-3


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a query: exactly one of `text`, `image_url`, `image_id` and `upload`.

    `weight` is negative for what is subtracted; `pointer` says where the request has it.
    """

    pointer: str
    weight: float = 1.0
    text: str | None = None
    image_url: str | None = None
    image_id: str | None = None
    upload: IO[bytes] | None = None

    @classmethod
    def of(cls, pointer: str, subject: Subject, weight: float = 1.0) -> "Term":
        return cls(pointer, weight, subject.text, subject.image_url, subject.image_id)

    @property
    def content(self) -> str | IO[bytes] | None:
        return self.image_url if self.image_url is not None else self.upload


def terms_of(request: SearchRequest, uploads: Sequence[IO[bytes]] = ()) -> list[Term]:
    """Return the terms of a search. Raises InvalidRequest when there are none, or too many images."""
    positives, negatives = request.positive, request.negative
    terms = [
        Term("/text", text=request.text),
        Term("/image_url", image_url=request.image_url),
        Term("/image_id", image_id=request.image_id),
        *(Term(f"/image/{i}", upload=upload) for i, upload in enumerate(uploads)),
        *(Term.of(f"/positive/{i}", term, _weight(term)) for i, term in enumerate(positives)),
        *(Term.of(f"/negative/{i}", term, -_weight(term)) for i, term in enumerate(negatives)),
    ]
    given = [term for term in terms if not _empty(term)]
    if not given:
        raise InvalidRequest(
            "The query is empty: give a text, an image_url, an image_id, a picture, or positive or negative "
            "terms."
        )
    refuse_blank(given)
    counted = [term for term in given if term.weight]
    if not counted:
        raise InvalidRequest(
            "Every weight of the query is 0, so it asks for nothing.",
            [{"pointer": f"{term.pointer}/weight", "message": "is 0"} for term in given],
        )
    images = [term for term in counted if term.content is not None]
    if len(images) > MAX_PICTURES:
        raise _invalid(
            images[MAX_PICTURES], f"is one too many: a query takes at most {MAX_PICTURES} pictures"
        )
    unweighted = {f"/negative/{i}" for i, term in enumerate(negatives) if term.weight is None}
    return _weighed(counted, unweighted) if _is_mixed(counted) else counted


def _weighed(terms: Sequence[Term], unweighted: Set[str]) -> list[Term]:
    """Give the negatives at the pointers `unweighted` of a mixed query their weights.

    They are MIXED_NEGATIVE of all that is wanted, and as several of one length add up: by the root of their
    number.
    """
    wanted = sum(term.weight for term in terms if term.weight > 0) or 1.0
    weight = -MIXED_NEGATIVE * wanted / math.sqrt(max(len(unweighted), 1))
    return [replace(term, weight=weight) if term.pointer in unweighted else term for term in terms]


def _weight(term: WeightedSubject) -> float:
    return 1.0 if term.weight is None else term.weight


def _is_mixed(terms: Sequence[Term]) -> bool:
    return len({term.text is None for term in terms}) == 2


def refuse_blank(terms: Sequence[Term]) -> None:
    """Raise InvalidRequest for a text without a word."""
    for term in terms:
        if term.text is not None and not term.text.strip():
            raise _invalid(term, "is blank")


def _empty(term: Term) -> bool:
    if term.pointer == "/text" and term.text is not None:
        return not term.text.strip()
    return all(part is None for part in (term.text, term.content, term.image_id))


@dataclass(frozen=True, slots=True)
class Share:
    """One term's share of one image's score: `weight * scale * cosine / |sum of weight * scale * vector|`."""

    pointer: str
    weight: float
    scale: float
    cosine: float
    share: float


@dataclass(frozen=True, slots=True)
class Query:
    """A query: terms, unit `vectors` (n, dimension), `scales` and `factors` (n,); their unit `vector`.

    A term's factor is what it has in the unit vector: weight * scale / |sum of weight * scale * vector|.
    `encoder` is what encoded the terms; None where all are pictures of the collection.
    """

    terms: Sequence[Term]
    encoder: Encoder | None
    vectors: Vector
    scales: Vector
    factors: Vector
    vector: Vector

    @classmethod
    def of(cls, terms: Sequence[Term], collection: Collection | None) -> "Query":
        """Make a query of terms. Raises InvalidRequest when they cancel out, and as `encoded` does."""
        vectors, encoder = encoded(terms, collection)
        scales = _scales(terms, vectors, collection)
        # Only their ratios count, and single precision has no numbers for the smallest weights.
        largest = max(abs(term.weight) for term in terms)
        weights = scales * np.array([term.weight / largest for term in terms], np.float32)
        total = weights @ vectors
        norm = float(np.linalg.norm(total))
        if norm <= _CANCELLED * float(np.abs(weights).sum()):
            raise _cancelled(terms)
        return cls(terms, encoder, vectors, scales, weights / norm, (total / norm).astype(np.float32))

    def shares(self, image: Vector) -> list[Share]:
        """Return the terms' shares, which sum up to an image's score; its vector may have any length."""
        cosines = self.vectors @ (image / np.linalg.norm(image))
        return [
            Share(_pointer(term), term.weight, scale, cosine, factor * cosine)
            for term, scale, factor, cosine in zip(
                self.terms, self.scales.tolist(), self.factors.tolist(), cosines.tolist(), strict=True
            )
        ]


def _scales(terms: Sequence[Term], vectors: Vector, collection: Collection | None) -> Vector:
    scales = np.ones(len(terms), np.float32)
    if collection is not None and _is_mixed(terms):
        is_text = np.array([term.text is not None for term in terms])
        scales[~is_text] = context().backgrounds.scale(vectors[is_text], vectors[~is_text], collection)
    return scales


def _cancelled(terms: Sequence[Term]) -> InvalidRequest:
    taking = [term for term in terms if term.weight < 0] or terms
    return InvalidRequest(
        "The query cancels itself out: a negative term takes away what the other terms ask for.",
        [
            {"pointer": _pointer(term), "message": "takes away what the other terms ask for"}
            for term in taking
        ],
    )


def encoded(terms: Sequence[Term], collection: Collection | None) -> tuple[Vector, Encoder | None]:
    """Return the terms' vectors (n, dimension) of length 1, and the encoder where any was needed.

    Raises ImageNotFound, and InvalidRequest with the item error's code for an image that cannot be had.
    """
    vectors: dict[int, Vector] = {}
    ids = {term.image_id for term in terms if term.image_id is not None}
    stored = collection.vectors(sorted(ids)) if collection and ids else {}
    for place, term in enumerate(terms):
        if term.image_id is not None:
            if term.image_id not in stored:
                at = _pointer(term)
                message = f"there is no picture {term.image_id!r} in this collection"
                missing = ImageNotFound(f"{at}: {message}.")
                missing.errors = [{"pointer": at, "message": message}]
                raise missing
            vectors[place] = stored[term.image_id]
    encoder = None
    if len(vectors) < len(terms):
        encoder = encoder_of(collection)
        for place, term in enumerate(terms):
            if term.text is not None:
                vectors[place] = encoded_text(encoder, term.text).vector
        vectors |= _encode_images(encoder, terms)
    return np.stack([vectors[place] for place in range(len(terms))]), encoder


def cut_off(query: Query) -> list[str]:
    """Return a sentence for each text that is longer than the model reads."""
    return [
        f"{_pointer(term)}: the end of this text was left out, since it is longer than the model reads."
        for term in query.terms
        if term.text is not None and query.encoder and encoded_text(query.encoder, term.text).truncated
    ]


def _encode_images(model: Encoder, terms: Sequence[Term]) -> dict[int, Vector]:
    images = {place: term.content for place, term in enumerate(terms) if term.content is not None}
    if not images:
        return {}
    crops = []
    for place, crop in zip(
        images, read_all(list(images.values()), open_query_image, model.preprocess), strict=True
    ):
        if isinstance(crop, ItemError):
            raise _unusable(terms[place], crop) from crop
        crops.append(crop)
    try:
        vectors = model.encode_images(np.stack(crops))
    except ItemError as error:
        raise _unusable(terms[next(iter(images))], error) from error
    return dict(zip(images, vectors, strict=True))


def _unusable(term: Term, error: ItemError) -> InvalidRequest:
    fault: FieldError = {"pointer": _pointer(term), "message": error.detail}
    return InvalidRequest(f"{fault['pointer']}: {error.detail}", [fault], code=error.code)


def _invalid(term: Term, message: str) -> InvalidRequest:
    return InvalidRequest(f"{_pointer(term)} {message}.", [{"pointer": _pointer(term), "message": message}])


def _pointer(term: Term) -> str:
    """Return the exact field: in a list of terms, `/positive/0/image_url`."""
    if not term.pointer.startswith(("/positive/", "/negative/", "/a", "/b")):
        return term.pointer
    field = "text" if term.text is not None else "image_url" if term.image_url is not None else "image_id"
    return f"{term.pointer}/{field}"
