"""What goes into the routes that compare pictures and texts: search, compare, explain."""

import base64
import binascii
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from api.http.request_models import BodyModel, CollectionName, Limit, QueryModel
from image_search.models.images import IMAGE_ID
from image_search.models.search import FACET_BOUND, LIST_BOUND
from shared.models import DEFAULT_COLLECTION
from shared.validation import FIELDS, METADATA_NAME, RESERVED_NAMES

MAX_OFFSET = 10_000
MAX_TEXT = 2000
MAX_TERMS = 32
MAX_PICTURES = 8
MAX_FACETS = 16
MAX_BASE64 = 28 * 2**20  # 20 MB of a file; a larger one is a part of a multipart search
MAX_DIMENSION = 8_192
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
MAX_KEYWORDS = 16
MAX_KEYWORD = 200  # characters
MAX_KEYWORD_NAMES = 16
# docs/search.md: with more, most of what was found goes with the picture.
MIXED_NEGATIVE = 0.35


def _field_name(name: str) -> str:
    if name in RESERVED_NAMES and name not in FIELDS:
        raise PydanticCustomError("field_name", "is a word of filters, not a field")
    return name


def _file_of(text: object) -> bytes:
    """Decode base64, of either alphabet, with blanks or without; it may be in a `data:` URL."""
    if not isinstance(text, str):
        raise PydanticCustomError("base64", "must be a text")
    if len(text) > MAX_BASE64:
        raise PydanticCustomError(
            "base64",
            f"has more than {MAX_BASE64:,} characters: send the file as a part of a multipart search",
        )
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise PydanticCustomError("base64", "is a data: URL that is not in base64")
    try:
        return base64.b64decode(text.encode("ascii").translate(_URL_SAFE, b" \t\r\n"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PydanticCustomError("base64", "is not base64: {error}", {"error": str(error)}) from None


def _box(sides: list[float]) -> list[float]:
    left, top, right, bottom = sides
    if left >= right or top >= bottom:
        raise PydanticCustomError("box", "has no area: it is left, top, right, bottom")
    return sides


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
ImageBase64 = Annotated[
    bytes,
    BeforeValidator(_file_of),
    WithJsonSchema(
        {
            "type": "string",
            "contentEncoding": "base64",
            "maxLength": MAX_BASE64,
            "description": "a picture's file in base64, also as a `data:` URL",
        }
    ),
]
QueryVector = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]],
    Field(
        min_length=1,
        max_length=MAX_DIMENSION,
        description="a vector of the collection's model, of any length but 0; counts as a picture",
    ),
]
Box = Annotated[
    list[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]],
    Field(
        min_length=4,
        max_length=4,
        description="left, top, right and bottom, as shares of the picture's sides as it is shown: only this "
        "part of the term's picture counts",
        json_schema_extra={"example": [0.25, 0.1, 0.75, 0.6]},
    ),
    AfterValidator(_box),
]
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
Keyword = Annotated[
    str, Field(max_length=MAX_KEYWORD, description="a word or phrase", json_schema_extra={"example": "boot"})
]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False, description="how much it counts")]


FacetName = Annotated[str, Field(pattern=f"^{METADATA_NAME.pattern}$"), AfterValidator(_field_name)]
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
    "a part of a picture": {"value": {"image_id": IMAGE_ID, "box": [0.25, 0.1, 0.75, 0.6]}},
    "the newest of what is nearest, one per product": {
        "value": {
            "text": "a red car",
            "keywords": {"any": ["north face"], "in": ["title", "brand"]},
            "order_by": "-created_at",
            "among": 200,
            "group_by": "sku",
        }
    },
    "a part of a picture, and results unlike each other": {
        "value": {"image_id": "0f3a" * 16, "box": [0.25, 0.1, 0.75, 0.6], "diversity": 0.3}
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
    """Exactly one of `text`, `image_url`, `image_id`, `image_base64`, `vector`; pictures may have a `box`."""

    text: Text | None = None
    image_url: ImageUrl | None = None
    image_id: ImageId | None = None
    image_base64: ImageBase64 | None = None
    vector: QueryVector | None = None
    box: Box | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        pictures = (self.image_url, self.image_id, self.image_base64)
        if [self.text, *pictures, self.vector].count(None) != 4:
            raise PydanticCustomError(
                "one_of", "needs exactly one of text, image_url, image_id, image_base64 and vector"
            )
        if self.box is not None and pictures.count(None) == 3:
            raise PydanticCustomError("box", "has a box, which only a picture can have")
        return self


class WeightedSubject(Subject):
    """A subject, and how much it counts."""

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
ResultPart = TypeAliasType(
    "ResultPart", Literal["metadata", "tags", "contributions", "confidence", "vectors"]
)
OrderBy = Annotated[
    str,
    Field(
        pattern=f"^-?{METADATA_NAME.pattern}$",
        description="a field or metadata name to order by instead of the score, with `-` the largest first: "
        "numbers before texts, missing last. It orders what is relevant, and so needs `min_score`, "
        "`min_confidence` or `among`",
        json_schema_extra={"example": "-created_at"},
    ),
    AfterValidator(lambda name: ("-" if name.startswith("-") else "") + _field_name(name.lstrip("-"))),
]
Among = Annotated[
    int,
    Field(
        ge=1,
        le=LIST_BOUND,
        description="only the nearest so many are what `order_by` orders",
        json_schema_extra={"example": 200},
    ),
]
GroupBy = Annotated[
    str,
    Field(
        pattern=f"^{METADATA_NAME.pattern}$",
        description="a field or metadata name, of which each value has one result, the best, or "
        "`near_duplicates`: one of each group of pictures whose cosine is .95 or more",
        json_schema_extra={"example": "sku"},
    ),
    AfterValidator(_field_name),
]
Diversity = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="how much a result is to differ from those before it: 0 by score alone, 1 as unlike as "
        "can be (maximal marginal relevance)",
        json_schema_extra={"example": 0.3},
    ),
]


class Keywords(BodyModel):
    """Words and phrases that the metadata must have, whole and in any case: `any` or `all` of them."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"any": ["north face"], "in": ["title", "brand"]}]}
    )

    any: list[Keyword] | None = Field(None, min_length=1, max_length=MAX_KEYWORDS)
    all: list[Keyword] | None = Field(None, min_length=1, max_length=MAX_KEYWORDS)
    names: list[FacetName] | None = Field(
        None,
        alias="in",
        min_length=1,
        max_length=MAX_KEYWORD_NAMES,
        description="metadata names to look in; by default all that hold texts",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.any is None) == (self.all is None):
            raise PydanticCustomError("one_of", "needs exactly one of any and all")
        return self


class SearchRequest(BodyModel):
    """At least one of `text`, a picture, `vector`, `positive` and `negative`, or a part `image`."""

    text: Text | None = None
    image_url: ImageUrl | None = None
    image_id: ImageId | None = None
    image_base64: ImageBase64 | None = None
    vector: QueryVector | None = None
    box: Box | None = None
    positive: list[WeightedSubject] = Field([], max_length=MAX_TERMS, description="what adds to the query")
    negative: list[WeightedSubject] = Field(
        [], max_length=MAX_TERMS, description="what is subtracted from it"
    )
    filters: Filters | None = Field(None, description="what the pictures must be like")
    keywords: Keywords | None = Field(None, description="words that their metadata must have")
    collection: CollectionName = DEFAULT_COLLECTION
    limit: Limit = 20
    offset: Offset = 0
    min_score: Score | None = None
    min_confidence: Confidence | None = None
    order_by: OrderBy | None = None
    among: Among | None = None
    group_by: GroupBy | None = None
    diversity: Diversity | None = None
    include: list[ResultPart] = Field(
        ["metadata"],
        max_length=8,
        description=(
            "what each result carries beside the basics; `contributions`: its score, term by term; "
            "`confidence`: how sure it is that it fits, also as the word `strength`; `vectors`: those of the "
            "query's pictures, once for all results, to ask for the next page with"
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
    order_by: OrderBy | None = None
    among: Among | None = None
    group_by: GroupBy | None = None
    diversity: Diversity | None = None


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
