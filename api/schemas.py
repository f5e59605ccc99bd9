"""What goes into and comes out of the search side's routes."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from api.search_schemas import (
    FACET_BOUND,
    MAX_FACET_VALUES,
    MAX_FACETS,
    SEARCH_ANSWER,
    Contribution,
    FacetCount,
    FacetName,
    FacetScope,
)
from shared.job_view import rfc3339
from shared.models import COLLECTION_NAME, COLORS, DEFAULT_COLLECTION, CollectionInfo, Image

MAX_LIMIT = 500
MAX_OFFSET = 10_000
MAX_TERMS = 32
MAX_PICTURES = 8
MAX_TEXT = 2000

IMAGE_EXAMPLE: dict[str, Any] = {
    "id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "collection": "images",
    "source": "https://example.com/a.jpg",
    "sources": ["https://example.com/a.jpg"],
    "format": "jpeg",
    "width": 3024,
    "height": 4032,
    "bytes": 2481193,
    "created_at": "2026-11-24T13:20:53.120Z",
    "taken_at": "2026-07-01T18:04:05.000Z",
    "lat": 47.37,
    "lon": 8.54,
    "tags": ["sailboat", "lake"],
    "nsfw": 0.0031,
    "colors": ["blue", "white", "green"],
    "phash": "c3d2e1f00f1e2d3c",
    "metadata": {"shop": "north"},
    "keys": ["sku-1234"],
    "thumbnail_url": "/v1/images/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08/thumbnail",
}

Text = Annotated[
    str, Field(max_length=MAX_TEXT, description="what is cut off at the model's length is warned of")
]
ImageId = Annotated[str, Field(max_length=64, description="a picture's id, 64 hexadecimal digits")]
ImageUrl = Annotated[str, Field(max_length=8192, description="a picture to fetch, http or https")]
CollectionName = Annotated[
    str,
    Field(
        pattern=f"^{COLLECTION_NAME.pattern}$",
        description="1 to 63 of letters, digits, `.`, `_`, `-`; the first and last a letter or digit",
    ),
]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
Offset = Annotated[
    int, Field(ge=0, le=MAX_OFFSET, description="how many results to pass over; to get further, use filters")
]
Score = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Confidence = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class BodyModel(BaseModel):
    """A JSON body: no unknown field, no guessing of types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class QueryModel(BaseModel):
    """A query string: no unknown parameter."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Made once: flask-openapi3 looks at it in each request, which would take longer than the check."""
        return _once(super().model_json_schema, *args, **kwargs)


@cache
def _once(make: Callable[..., dict[str, Any]], *args: Any, **kwargs: Any) -> dict[str, Any]:
    return make(*args, **kwargs)


class FieldProblem(BaseModel):
    """`pointer` is an RFC 6901 pointer into the body or, for parameters, to the parameter's name."""

    pointer: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable, for programs; `detail` is for people."""

    type: str = Field(description="where the code is explained, relative to the server")
    title: str = Field(description="the code in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what went wrong this time")
    code: str
    errors: list[FieldProblem] = Field([], description="for bad input: the first faults")


class Subject(BodyModel):
    """Exactly one of `text`, `image_url` and `image_id`."""

    text: Text | None = None
    image_url: ImageUrl | None = None
    image_id: ImageId | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if [self.text, self.image_url, self.image_id].count(None) != 2:
            raise PydanticCustomError("one_of", "needs exactly one of text, image_url and image_id")
        return self


class WeightedSubject(Subject):
    """Exactly one of `text`, `image_url` and `image_id`, and how much it counts."""

    weight: Weight = 1.0


Filters = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": (
                "Field to value, or to an object of operators `eq ne gt gte lt lte in nin`; `and` and `or` "
                "take lists of such objects, `not` one; `near` takes `lat`, `lon` and `radius_km`. `ne`, "
                "`nin` and `not` also match pictures that lack the field."
            ),
        }
    ),
]


class SearchRequest(BodyModel):
    """At least one of `text`, `image_url`, `image_id`, `positive`, `negative` or, in multipart, a picture."""

    text: Text | None = None
    image_url: ImageUrl | None = None
    image_id: ImageId | None = None
    positive: list[WeightedSubject] = Field([], max_length=MAX_TERMS)
    negative: list[WeightedSubject] = Field([], max_length=MAX_TERMS)
    filters: Filters | None = None
    collection: CollectionName = DEFAULT_COLLECTION
    limit: Limit = 20
    offset: Offset = 0
    min_score: Score | None = Field(None, description="leaves out what scores less")
    min_confidence: Confidence | None = Field(
        None, description="leaves out what is less sure to fit; then no result is an answer, too"
    )
    include: list[Literal["metadata", "tags", "contributions", "confidence"]] = Field(
        ["metadata"],
        max_length=8,
        description=(
            "what each result carries beside the basics; `contributions`: its score, term by term; "
            "`confidence`: how sure it is that it fits"
        ),
    )
    facets: list[FacetName] = Field(
        [],
        max_length=MAX_FACETS,
        description=(
            "built-in fields or metadata names whose values are counted, over all pictures that match the "
            f"query's filters and bounds, up to the {FACET_BOUND:,} nearest"
        ),
    )


class SearchForm(BaseModel):
    """The parts of a multipart search (documentation only: the parts are read one by one)."""

    query: SearchRequest | None = Field(None, description="the same object as in a JSON body")
    image: list[Annotated[str, WithJsonSchema({"type": "string", "format": "binary"})]] = Field(
        [], max_length=MAX_PICTURES, description="pictures, each with weight 1"
    )


class SearchQuery(QueryModel):
    text: Text
    collection: CollectionName = DEFAULT_COLLECTION
    limit: Limit = 20
    offset: Offset = 0
    min_score: Score | None = None
    min_confidence: Confidence | None = None


class Result(BaseModel):
    """`score` is the cosine similarity to the query, in [-1, 1]."""

    id: str
    score: float
    source: str
    thumbnail_url: str
    width: int
    height: int
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


class Took(BaseModel):
    """Milliseconds. `encode` includes getting the query's pictures."""

    encode: float
    index: float
    total: float


class SearchResponse(BaseModel):
    """`results` best first, ties by id."""

    model_config = {"openapi_extra": {"example": SEARCH_ANSWER}}  # type: ignore[typeddict-unknown-key]

    results: list[Result]
    took_ms: Took
    model: str
    facets: dict[str, list[FacetCount]] | None = Field(
        None,
        description=(
            f"the {MAX_FACET_VALUES} most frequent values of each name asked for, ties by value; times in "
            "RFC 3339"
        ),
    )
    facet_scope: FacetScope | None = Field(None, description="only with facets")
    warnings: list[str] | None = Field(None, description="such as a text that was cut off")


class SimilarQuery(QueryModel):
    collection: CollectionName = DEFAULT_COLLECTION
    limit: Limit = 20
    min_score: Score | None = None


class SimilarResponse(BaseModel):
    results: list[Result]


class ImagePath(BaseModel):
    image_id: str = Field(description="64 hexadecimal digits")


class CollectionQuery(QueryModel):
    collection: CollectionName = DEFAULT_COLLECTION


class ImageOut(BaseModel):
    """One picture. Times are RFC 3339; `width` and `height` are those of the upright picture."""

    model_config = ConfigDict(json_schema_extra={"examples": [IMAGE_EXAMPLE]})

    id: str
    collection: str
    source: str
    sources: list[str]
    format: str
    width: int
    height: int
    bytes: int
    created_at: str | None
    taken_at: str | None
    lat: float | None
    lon: float | None
    tags: list[str] = Field(description="up to 5 of the vocabulary, best first")
    nsfw: float | None = Field(
        description="how likely explicit, in [0, 1]; as good as the model that says so"
    )
    colors: list[str] = Field(description=f"up to 5 of {', '.join(COLORS)}; most area first")
    phash: str | None = Field(description="perceptual hash (DCT), 64 bits as 16 hexadecimal digits")
    metadata: dict[str, Any]
    keys: list[str] = Field(description="the items' keys that point at it")
    thumbnail_url: str

    @classmethod
    def of(cls, image: Image, collection: str) -> Self:
        return cls(
            id=image.id,
            collection=collection,
            source=image.source,
            sources=image.sources,
            format=image.format,
            width=image.width,
            height=image.height,
            bytes=image.bytes,
            created_at=None if image.created_at is None else rfc3339(image.created_at),
            taken_at=None if image.taken_at is None else rfc3339(image.taken_at),
            lat=image.lat,
            lon=image.lon,
            tags=image.tags,
            nsfw=image.nsfw,
            colors=image.colors,
            phash=image.phash,
            metadata=image.metadata,
            keys=image.keys,
            thumbnail_url=thumbnail_url(collection, image.id),
        )


class EmbeddingOut(BaseModel):
    vector: list[float]
    dimension: int
    norm: float
    min: float
    max: float
    mean: float


class ExplainQuery(QueryModel):
    image_id: ImageId
    text: Annotated[
        str,
        Field(
            max_length=MAX_TEXT, description="what to look for", json_schema_extra={"example": "a red car"}
        ),
    ]
    collection: CollectionName = DEFAULT_COLLECTION


class CompareRequest(BodyModel):
    a: Subject
    b: Subject
    collection: CollectionName = Field(DEFAULT_COLLECTION, description="where an `image_id` is looked up")


class CompareResponse(BaseModel):
    """`score` is the cosine similarity, in [-1, 1]."""

    score: float


class CollectionIn(BodyModel):
    name: CollectionName


class CollectionPath(BaseModel):
    name: str


class CollectionOut(BaseModel):
    """`model` is the only one that can search the collection and add to it."""

    name: str
    count: int
    model: str
    dimension: int
    created_at: str

    @classmethod
    def of(cls, info: CollectionInfo) -> Self:
        return cls(
            name=info.name,
            count=info.count,
            model=info.model,
            dimension=info.dimension,
            created_at=rfc3339(info.created_at),
        )


class CollectionsOut(BaseModel):
    collections: list[CollectionOut]


def thumbnail_url(collection: str, image_id: str) -> str:
    """Relative to the server, so that it holds behind any proxy."""
    suffix = "" if collection == DEFAULT_COLLECTION else f"?collection={quote(collection)}"
    return f"/v1/images/{image_id}/thumbnail{suffix}"
