"""What a search's answer says beside the pictures themselves, and the examples of the documentation."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.validation import FIELDS, METADATA_NAME, RESERVED_NAMES

MAX_FACETS = 16
MAX_FACET_VALUES = 100
FACET_BOUND = 10_000


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
