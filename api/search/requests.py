"""What goes into the routes that compare pictures and texts: search, compare, explain."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from api.http.request_models import BodyModel, CollectionName, Limit, QueryModel
from image_search.models.images import IMAGE_ID
from image_search.models.search import FACET_BOUND
from shared.models import DEFAULT_COLLECTION
from shared.validation import FIELDS, METADATA_NAME, RESERVED_NAMES

MAX_OFFSET = 10_000
MAX_TEXT = 2000
MAX_TERMS = 32
MAX_PICTURES = 8
MAX_FACETS = 16
# docs/search.md: with more, most of what was found goes with the picture.
MIXED_NEGATIVE = 0.35
Text = Annotated[
    str,
    Field(
        max_length=MAX_TEXT,
        description="what to look for; what is cut off at the model's length is warned of",
        json_schema_extra={"example": "a red car"},
    ),
]
ImageId = Annotated[
    str,
    Field(
        max_length=64,
        description="a picture's id, 64 hexadecimal digits",
        json_schema_extra={"example": IMAGE_ID},
    ),
]
ImageUrl = Annotated[str, Field(max_length=8192, description="a picture to fetch, http or https")]
Offset = Annotated[
    int, Field(ge=0, le=MAX_OFFSET, description="how many results to pass over; to get further, use filters")
]
Score = Annotated[
    float,
    Field(
        ge=-1,
        le=1,
        allow_inf_nan=False,
        description="leaves out what scores less",
        json_schema_extra={"example": 0.2},
    ),
]
Confidence = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="leaves out what is less sure to fit; then no result is an answer, too",
        json_schema_extra={"example": 0.9},
    ),
]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False, description="how much it counts")]


def _facet_name(name: str) -> str:
    if name in RESERVED_NAMES and name not in FIELDS:
        raise PydanticCustomError("facet", "is a word of filters, not a field")
    return name


FacetName = Annotated[str, Field(pattern=f"^{METADATA_NAME.pattern}$"), AfterValidator(_facet_name)]
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

    weight: Weight | None = Field(
        None,
        description="how much it counts. "
        f"[default: 1; what is subtracted where texts and pictures are mixed: {MIXED_NEGATIVE} of all "
        "positive weights, over the root of the number of such terms]",
    )


_FILTERS = {
    "type": "object",
    "description": (
        "Field to value, or to an object of operators `eq ne gt gte lt lte in nin`; `and` and `or` take "
        "lists of such objects, `not` one; `near` takes `lat`, `lon` and `radius_km`; `job` is a job that "
        "brought the picture. `ne`, `nin` and `not` also match pictures that lack the field."
    ),
    "examples": [{"shop": "north", "width": {"gte": 1024}}],
}
# Named aliases, each a component of the description.
Filters = TypeAliasType("Filters", Annotated[dict[str, Any], WithJsonSchema(_FILTERS)])
ResultPart = TypeAliasType("ResultPart", Literal["metadata", "tags", "contributions", "confidence"])


class SearchRequest(BodyModel):
    """At least one of `text`, `image_url`, `image_id`, `positive`, `negative` or, in multipart, a picture."""

    text: Text | None = None
    image_url: ImageUrl | None = None
    image_id: ImageId | None = None
    positive: list[WeightedSubject] = Field([], max_length=MAX_TERMS, description="what adds to the query")
    negative: list[WeightedSubject] = Field(
        [], max_length=MAX_TERMS, description="what is subtracted from it"
    )
    filters: Filters | None = Field(None, description="what the pictures must be like")
    collection: CollectionName = DEFAULT_COLLECTION
    limit: Limit = 20
    offset: Offset = 0
    min_score: Score | None = None
    min_confidence: Confidence | None = None
    include: list[ResultPart] = Field(
        ["metadata"],
        max_length=8,
        description=(
            "what each result carries beside the basics; `contributions`: its score, term by term; "
            "`confidence`: how sure it is that it fits, also as the word `strength`"
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
    """The parts of a multipart search."""

    # For the description only: the parts are read one by one.
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": {"text": "a red car"}, "image": ["(bytes)"]}]}
    )

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


class SimilarQuery(QueryModel):
    collection: CollectionName = DEFAULT_COLLECTION
    limit: Limit = 20
    min_score: Score | None = None


class MetadataPath(BaseModel):
    name: str = Field(description="the collection's name", json_schema_extra={"example": "images"})


class ExplainQuery(QueryModel):
    image_id: ImageId
    text: Annotated[str, Field(max_length=MAX_TEXT, description="what to look for")] = Field(
        json_schema_extra={"example": "a red car"}
    )
    collection: CollectionName = DEFAULT_COLLECTION


class CompareRequest(BodyModel):
    """Two texts or pictures."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"a": {"text": "a red car"}, "b": {"image_id": IMAGE_ID}}]}
    )

    a: Subject
    b: Subject
    collection: CollectionName = Field(
        DEFAULT_COLLECTION, description="where an `image_id` is looked up, and whose model compares"
    )
