"""What the API answers to searches and comparisons."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

MAX_FACET_VALUES = 100
FACET_BOUND = 10_000
LIST_BOUND = 10_000
MAX_GROUP_IDS = 100
Strength = Literal["strong", "likely", "weak"]
# The least confidence of each, from the best on. All but the last are good matches.
STRENGTHS: dict[Strength, float] = {"strong": 0.99, "likely": 0.9, "weak": 0.0}
SEARCH_ANSWER: dict[str, Any] = {
    "results": [
        {
            "id": "9b1c" * 16,
            "score": 0.2811,
            "source": "https://example.com/a.jpg",
            "thumbnail_url": f"/v1/images/{'9b1c' * 16}/thumbnail",
            "width": 1024,
            "height": 768,
            "metadata": {"shop": "north"},
            "contributions": [
                {"pointer": "/text", "weight": 1.0, "scale": 1.0, "cosine": 0.3106, "share": 0.3842},
                {
                    "pointer": "/negative/0/text",
                    "weight": -1.0,
                    "scale": 1.0,
                    "cosine": 0.0833,
                    "share": -0.1031,
                },
            ],
            "confidence": 0.9871,
            "strength": "likely",
        }
    ],
    "facets": {"shop": [{"value": "north", "count": 61}, {"value": "south", "count": 12}]},
    "facet_scope": {"pictures": 80, "complete": True, "bound": FACET_BOUND, "cut_off": []},
    "took_ms": {"encode": 0.02, "index": 4.1, "total": 4.6},
    "model": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
}


_NEIGHBOUR = {
    name: value
    for name, value in SEARCH_ANSWER["results"][0].items()
    if name not in ("contributions", "confidence", "strength")
}


class Contribution(BaseModel):
    """One term of the query in one result's score: `share = weight * scale * cosine / norm`.

    `norm` is the length of the sum of `weight * scale * vector` over all terms. The shares of a result sum up
    to its score, within rounding. Terms of weight 0 are no part of a query and have no share.
    """

    pointer: str = Field(description="where the request has the term, such as `/negative/0/text`")
    weight: float = Field(description="negative for what is subtracted")
    scale: float = Field(
        1.0,
        description="of a picture in a query that has texts, too: what makes its weight count as a text's",
    )
    cosine: float = Field(description="cosine similarity of the picture to this term alone, in [-1, 1]")
    share: float = Field(description="what the term adds to the score, or takes from it")


class FacetCount(BaseModel):
    """A value and the number of pictures that have it."""

    # Any: metadata may hold lone surrogates, which a str of pydantic's may not.
    value: Annotated[
        Any, WithJsonSchema({"anyOf": [{"type": kind} for kind in ("string", "number", "boolean")]})
    ]
    count: int


class FacetScope(BaseModel):
    """What the facets were counted over."""

    pictures: int = Field(description="how many")
    complete: bool = Field(description="whether these are all pictures that match")
    bound: int = Field(description="the most that are looked at: the nearest")
    cut_off: list[str] = Field(description=f"facets that have more than {MAX_FACET_VALUES} values")


class Group(BaseModel):
    """The pictures that a result is the best of, where `group_by` was asked for."""

    value: Annotated[
        Any, WithJsonSchema({"anyOf": [{"type": kind} for kind in ("string", "number", "boolean", "null")]})
    ] = Field(None, description="null of near-duplicates, and of a picture without the value, which is alone")
    size: int = Field(description="how many pictures it has among those looked at (`list_scope`)")
    ids: list[str] = Field(description=f"its first {MAX_GROUP_IDS}, best first, the result's own among them")


class ListScope(BaseModel):
    """What `order_by`, `group_by` or `diversity` was made over."""

    by: Literal["min_score", "min_confidence", "among", "bound"] = Field(
        description="what bounds it: what was asked for, or `bound`"
    )
    pictures: int = Field(description="how many were looked at: the nearest that match")
    complete: bool = Field(description="whether no other picture matches the query, its filters and bounds")
    bound: int = Field(LIST_BOUND, description="the most that are ever looked at")


class TermVector(BaseModel):
    """The vector of one picture of the query, of length 1."""

    pointer: str = Field(description="where the request has the picture, such as `/image/0`")
    vector: list[float]


class Hit(BaseModel):
    """An image that was found. `score` is its cosine similarity to the query, in [-1, 1]."""

    id: str
    score: float
    source: str = Field(description="the URL or file that it came from")
    thumbnail_url: str = Field(description="a path on this server")
    width: int | None = Field(None, description="left out where it is not known, as `height`")
    height: int | None = None
    metadata: dict[str, Any] | None = Field(None, description="only where `include` names it")
    tags: list[str] | None = Field(None, description="best first; only where `include` names it")
    contributions: list[Contribution] | None = Field(None, description="only where `include` names it")
    confidence: float | None = Field(
        None,
        description=(
            "only where `include` names it: the chance, in [0, 1], that the best of as many pictures as the "
            "collection has, none of which fits, scores less"
        ),
    )
    strength: Strength | None = Field(
        None,
        description=(
            "with `confidence`, which it puts into a word: "
            + ", ".join(f"`{name}` from {least:g}" for name, least in STRENGTHS.items())
        ),
    )
    group: Group | None = Field(None, description="only with `group_by`")
    matched: dict[str, list[str]] | None = Field(
        None, description="only with `keywords`: those that it has, and the metadata names that have them"
    )


class Took(BaseModel):
    """How long a search took, in milliseconds. `encode` includes getting the query's images."""

    encode: float
    index: float
    total: float


class SearchResult(BaseModel):
    """What a search has found: `results`, best first, ties by id, unless another order was asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [SEARCH_ANSWER]})

    results: list[Hit]
    took_ms: Took
    model: str = Field(description="that encoded the query")
    facets: dict[str, list[FacetCount]] | None = Field(
        None,
        description=(
            f"the {MAX_FACET_VALUES} most frequent values of each name asked for, ties by value; times in "
            "RFC 3339"
        ),
    )
    facet_scope: FacetScope | None = Field(None, description="only with facets")
    list_scope: ListScope | None = Field(None, description="only with `order_by`, `group_by` or `diversity`")
    vectors: list[TermVector] | None = Field(None, description="only where `include` names it")
    warnings: list[str] | None = Field(
        None, description="such as a text that was cut off, or a filter's metadata name that no picture has"
    )


class SimilarResult(BaseModel):
    """The images nearest to one: `results`, best first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"results": [_NEIGHBOUR]}]})

    results: list[Hit]


class HeatMap(bytes):
    """A PNG of an image under its heat map.

    `clear` is whether there is a clear spot, None where the server does not know. `confidence` is that of the
    best window of the image, as a Hit has it, None in a collection that is too small for it.
    """

    clear: bool | None = None
    confidence: float | None = None

    @classmethod
    def of(cls, png: bytes, headers: Mapping[str, str]) -> Self:
        """Make one of an answer of the server."""
        made = cls(png)
        made.clear = {"clear": True, "unclear": False}.get(headers.get("heat-spot", ""))
        with suppress(ValueError):
            made.confidence = float(headers.get("heat-confidence", ""))
        return made


class Comparison(BaseModel):
    """How alike two things are: `score` is their cosine similarity, in [-1, 1]."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"score": 0.2811}]})

    score: float
