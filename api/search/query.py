"""A search's query: its terms as one vector.

With unit vectors v, the query is the unit vector of `sum(weight * scale * v of positives) - sum(weight *
scale * v of negatives)`. Uploaded images and the terms that stand alone are positives of weight 1; a `vector`
counts as an image. Negatives alone are a query, too: the least alike come first. So an image's score is the
weighted sum of its cosines to the terms, over the norm of the weighted sum of their vectors, and each summand
is that term's share of the score.

Images are far more alike to each other than to any text. So where a query has both, `scale` brings the
cosines of its images to the spread of those of its texts; else it is 1. docs/search.md has the arithmetic.
"""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from api.context import context, encoded_text, encoder_of, main_model, services
from api.search.query_images import Source, kept_file, read_all
from api.search.requests import MAX_PICTURES, MIXED_NEGATIVE, SearchRequest, Subject, WeightedSubject
from image_search.models.search import TermVector
from shared.embedding.encoder import Encoder
from shared.errors import FieldError, ImageNotFound, InvalidRequest, ItemError
from shared.imaging.decode import WHOLE, Box, open_query_image
from shared.index.collection import Collection

Vector = NDArray[np.float32]

# Below this share of the weights' sum, what is left of a sum of unit vectors is rounding of the encoder.
_CANCELLED = 1e-3
_UNIT = 1e-6  # how far a unit vector's length may be from 1
_PICTURES = "image_url, image_id, image_base64 or an uploaded `image`"
_FIELDS = ("text", "image_url", "image_id", "image_base64", "vector")


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a query: exactly one of `text`, `vector` and the four ways to give an image.

    `weight` is negative for what is subtracted; `pointer` says where the request has it; `image_base64` is
    the file, decoded; of an image with a `box` only that part is the term.
    """

    pointer: str
    weight: float = 1.0
    text: str | None = None
    image_url: str | None = None
    image_id: str | None = None
    image_base64: bytes | None = None
    vector: Sequence[float] | None = None
    upload: IO[bytes] | None = None
    box: Box | None = None

    @classmethod
    def of(cls, pointer: str, subject: Subject, weight: float = 1.0) -> "Term":
        given = {name: getattr(subject, name) for name in _FIELDS}
        return cls(pointer, weight, **given, box=_box(subject.box))

    @property
    def is_read(self) -> bool:
        """Whether pixels are to be read: of an image that is stored as a whole there is a vector."""
        is_stored = self.image_id is not None and self.box is None
        return self.text is None and self.vector is None and not is_stored


def terms_of(request: SearchRequest, uploads: Sequence[IO[bytes]] = ()) -> list[Term]:
    """Return the terms of a search. Raises InvalidRequest when there are none, or too many images."""
    positives, negatives = request.positive, request.negative
    box = _box(request.box)
    pictures = [
        Term("/image_url", image_url=request.image_url, box=box),
        Term("/image_id", image_id=request.image_id, box=box),
        Term("/image_base64", image_base64=request.image_base64, box=box),
        *(Term(f"/image/{i}", upload=upload, box=box) for i, upload in enumerate(uploads)),
    ]
    if box and (count := len([term for term in pictures if not _empty(term)])) != 1:
        raise _refusal("/box", f"needs exactly one picture beside it ({_PICTURES}), not {count}")
    terms = [
        Term("/text", text=request.text),
        *pictures,
        Term("/vector", vector=request.vector),
        *(Term.of(f"/positive/{i}", term, _weight(term)) for i, term in enumerate(positives)),
        *(Term.of(f"/negative/{i}", term, -_weight(term)) for i, term in enumerate(negatives)),
    ]
    given = [term for term in terms if not _empty(term)]
    if not given:
        raise InvalidRequest(
            f"The query is empty: give a text, a picture ({_PICTURES}), a vector, or positive or negative "
            "terms."
        )
    refuse_blank(given)
    counted = [term for term in given if term.weight]
    if not counted:
        raise InvalidRequest(
            "Every weight of the query is 0, so it asks for nothing.",
            [{"pointer": f"{term.pointer}/weight", "message": "is 0"} for term in given],
        )
    images = [term for term in counted if term.is_read]
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
    return term.upload is None and all(getattr(term, name) is None for name in _FIELDS)


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
    `encoder` is what encoded the terms; None where all are pictures of the collection. `cached`: nothing had
    to be read or encoded.
    """

    terms: Sequence[Term]
    encoder: Encoder | None
    vectors: Vector
    scales: Vector
    factors: Vector
    vector: Vector
    cached: bool

    @classmethod
    def of(cls, terms: Sequence[Term], collection: Collection | None) -> "Query":
        """Make a query of terms. Raises InvalidRequest when they cancel out, and as `encoded` does."""
        vectors, encoder, cached = encoded(terms, collection)
        scales = _scales(terms, vectors, collection)
        # Only their ratios count, and single precision has no numbers for the smallest weights.
        largest = max(abs(term.weight) for term in terms)
        weights = scales * np.array([term.weight / largest for term in terms], np.float32)
        total = weights @ vectors
        norm = float(np.linalg.norm(total))
        if norm <= _CANCELLED * float(np.abs(weights).sum()):
            raise _cancelled(terms)
        vector = (total / norm).astype(np.float32)
        return cls(terms, encoder, vectors, scales, weights / norm, vector, cached)

    @property
    def kind(self) -> Literal["text", "image", "combined"]:
        """Return what it asks with; a vector counts as an image."""
        if _is_mixed(self.terms):
            return "combined"
        return "image" if self.terms[0].text is None else "text"

    def picture_vectors(self) -> list[TermVector]:
        """Return the vectors of the images that were read, to ask with in their place."""
        return [
            # The fewest digits that make the same number of single precision again.
            TermVector(pointer=_pointer(term), vector=[float(str(number)) for number in vector])
            for term, vector in zip(self.terms, self.vectors, strict=True)
            if term.is_read
        ]

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


def encoded(terms: Sequence[Term], collection: Collection | None) -> tuple[Vector, Encoder | None, bool]:
    """Return the terms' vectors (n, dimension) of length 1, and the encoder where any was needed.

    And whether nothing had to be read or encoded: all were known before.

    Raises ImageNotFound, PixelsNotKept for a box of an image whose pixels were not kept, and InvalidRequest,
    with the item error's code for an image that cannot be had.
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
            if term.box is None:
                vectors[place] = stored[term.image_id]
        elif term.vector is not None:
            vectors[place] = _unit(term, term.vector, collection)
    encoder, cached = None, not any(term.is_read for term in terms)
    if len(vectors) < len(terms):
        encoder = encoder_of(collection)
        for place, term in enumerate(terms):
            if term.text is not None:
                cached = cached and context().texts.has(encoder, term.text)
                vectors[place] = encoded_text(encoder, term.text).vector
        vectors |= _encode_images(encoder, terms, collection)
    return np.stack([vectors[place] for place in range(len(terms))]), encoder, cached


def _unit(term: Term, numbers: Sequence[float], collection: Collection | None) -> Vector:
    """Return a vector that was given, of length 1; one that has it nearly is left as it is."""
    if collection is None:
        model, dimension = main_model().name, main_model().dimension
    else:
        model, dimension = collection.pointer.model, collection.pointer.dimension
    if len(numbers) != dimension:
        raise _invalid(term, f"has {len(numbers):,} numbers, and one of {model} has {dimension:,}")
    given = np.array(numbers, np.float64)
    largest = np.abs(given).max()
    if not largest:
        raise _invalid(term, "is all zeros")
    scaled = given / largest  # whose squares neither overflow nor vanish
    length = np.linalg.norm(scaled)
    unit = given if abs(largest * length - 1) <= _UNIT else scaled / length
    return unit.astype(np.float32)


def cut_off(query: Query) -> list[str]:
    """Return a sentence for each text that is longer than the model reads."""
    return [
        f"{_pointer(term)}: the end of this text was left out, since it is longer than the model reads."
        for term in query.terms
        if term.text is not None and query.encoder and encoded_text(query.encoder, term.text).truncated
    ]


def _encode_images(model: Encoder, terms: Sequence[Term], collection: Collection | None) -> dict[int, Vector]:
    images = {place: term for place, term in enumerate(terms) if term.is_read}
    if not images:
        return {}
    sources = [_source(term, collection) for term in images.values()]
    boxes = [term.box or WHOLE for term in images.values()]
    crops = []
    for term, crop in zip(
        images.values(), read_all(sources, open_query_image, model.preprocess, boxes), strict=True
    ):
        if isinstance(crop, InvalidRequest):
            raise _refusal(_pointer(term, "box"), crop.detail) from crop
        if isinstance(crop, ItemError):
            raise _unusable(term, crop) from crop
        crops.append(crop)
    try:
        vectors = model.encode_images(np.stack(crops))
    except ItemError as error:
        raise _unusable(terms[next(iter(images))], error) from error
    return dict(zip(images, vectors, strict=True))


def _source(term: Term, collection: Collection | None) -> Source:
    if term.image_id is not None and collection is not None:
        blobs, name = services().blobs, collection.pointer.name
        return partial(kept_file, blobs, name, term.image_id, _pointer(term))
    given = (term.image_url, term.image_base64, term.upload)
    return next(source for source in given if source is not None)


def _box(sides: Sequence[float] | None) -> Box | None:
    return None if sides is None else cast(Box, tuple(sides))


def _unusable(term: Term, error: ItemError) -> InvalidRequest:
    fault: FieldError = {"pointer": _pointer(term), "message": error.detail}
    return InvalidRequest(f"{fault['pointer']}: {error.detail}", [fault], code=error.code)


def _invalid(term: Term, message: str) -> InvalidRequest:
    return _refusal(_pointer(term), message)


def _refusal(pointer: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{pointer} {message}.", [{"pointer": pointer, "message": message}])


def _pointer(term: Term, field: str | None = None) -> str:
    """Return the exact field, or another one of the term's: in a list of terms, `/positive/0/image_url`."""
    if not term.pointer.startswith(("/positive/", "/negative/", "/a", "/b")):
        return f"/{field}" if field else term.pointer
    field = field or next(name for name in _FIELDS if getattr(term, name) is not None)
    return f"{term.pointer}/{field}"
