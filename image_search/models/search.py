"""What goes into and comes out of the routes that compare pictures and texts: search, compare, explain."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from api.http.request_models import BodyModel, CollectionName, Limit, QueryModel
from image_search.models.images import thumbnail_url
from shared.models import DEFAULT_COLLECTION, Hit
from shared.validation import FIELDS, METADATA_NAME, RESERVED_NAMES

MAX_OFFSET = 10_000
MAX_TEXT = 2000
MAX_TERMS = 32
MAX_PICTURES = 8
MAX_FACETS = 16
MAX_FACET_VALUES = 100
FACET_BOUND = 10_000

Text = Annotated[
    str, Field(max_length=MAX_TEXT, description="what is cut off at the model's length is warned of")
]
ImageId = Annotated[str, Field(max_length=64, description="a picture's id, 64 hexadecimal digits")]
ImageUrl = Annotated[str, Field(max_length=8192, description="a picture to fetch, http or https")]
Offset = Annotated[
    int, Field(ge=0, le=MAX_OFFSET, description="how many results to pass over; to get further, use filters")
]
Score = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Confidence = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


def _facet_name(name: str) -> str:
    if name in RESERVED_NAMES and name not in FIELDS:
        raise PydanticCustomError("facet", "is a word of filters, not a field")
    return name


FacetName = Annotated[str, Field(pattern=f"^{METADATA_NAME.pattern}$"), AfterValidator(_facet_name)]


class Contribution(BaseModel):
    """One term of the query in one result's score: `share = weight * cosine / norm`.

    `norm` is the length of the weighted sum of all terms' unit vectors. The shares of a result sum up to its
    score, within rounding. Terms of weight 0 are no part of a query and have no share.
    """

    pointer: str = Field(description="where the request has the term, such as `/negative/0/text`")
    weight: float = Field(description="negative for what is subtracted")
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


SEARCHES: dict[str, Any] = {
    "a text": {"value": {"text": "a red car", "limit": 5}},
    "a combined query": {
        "value": {
            "text": "a red car",
            "positive": [{"image_id": "0f3a" * 16, "weight": 0.5}],
            "negative": [{"text": "toy"}],
            "filters": {"shop": "north"},
            "include": ["metadata", "contributions"],
        }
    },
    "or nothing, with counts": {
        "value": {
            "text": "a red car",
            "min_confidence": 0.9,
            "include": ["metadata", "confidence"],
            "facets": ["tags", "shop"],
        }
    },
}

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
                {"pointer": "/text", "weight": 1.0, "cosine": 0.3106, "share": 0.3842},
                {"pointer": "/negative/0/text", "weight": -1.0, "cosine": 0.0833, "share": -0.1031},
            ],
            "confidence": 0.9871,
        }
    ],
    "facets": {"shop": [{"value": "north", "count": 61}, {"value": "south", "count": 12}]},
    "facet_scope": {"pictures": 80, "complete": True, "bound": FACET_BOUND, "cut_off": []},
    "took_ms": {"encode": 0.02, "index": 4.1, "total": 4.6},
    "model": "openai/clip-vit-base-patch32",
}


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

    @classmethod
    def of(cls, hit: Hit, collection: str, *, metadata: bool = True, tags: bool = False) -> Self:
        image = hit.image
        return cls(
            id=image.id,
            score=hit.score,
            source=image.source,
            thumbnail_url=thumbnail_url(collection, image.id),
            width=image.width,
            height=image.height,
            metadata=image.metadata if metadata else None,
            tags=image.tags if tags else None,
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
