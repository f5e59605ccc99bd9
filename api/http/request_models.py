"""What the requests of several rooms are made of: strict bodies and queries, and their field types."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from shared.models import COLLECTION_NAME, MAX_KEY
from shared.validation import MAX_METADATA, METADATA_NAME

MAX_LIMIT = 500
MAX_ITEMS = 100_000  # of a JSON body
METADATA_VALUES: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "array", "items": {"type": "string"}},
]
_METADATA = {
    "type": "object",
    "maxProperties": MAX_METADATA,
    "description": f"names match `{METADATA_NAME.pattern}` and are not those of built-in fields",
    "propertyNames": {"pattern": f"^{METADATA_NAME.pattern}$"},
    "additionalProperties": {"anyOf": METADATA_VALUES},
    "examples": [{"shop": "north", "price": 9.5, "sold": False, "labels": ["sale", "new"]}],
}
# Any: the values' own check is `metadata_faults`, whose pointers name the value and not a union's branch.
# A named alias is a component of the description, not a part of each that uses it.
Metadata = TypeAliasType("Metadata", Annotated[dict[str, Any], WithJsonSchema(_METADATA)])
Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_KEY,
        description="the user's own name for the item, such as a SKU, unique in its collection",
        json_schema_extra={"example": "sku-1234"},
    ),
]


def _collection_name(name: str) -> str:
    if not COLLECTION_NAME.fullmatch(name):
        rule = "is 1 to 63 letters, digits, `.`, `_` or `-`; the first and last a letter or digit"
        raise PydanticCustomError("collection_name", f"a collection's name {rule}")
    return name


CollectionName = Annotated[
    str,
    AfterValidator(_collection_name),
    Field(
        description="the collection: 1 to 63 of letters, digits, `.`, `_`, `-`; no punctuation at its ends",
        json_schema_extra={"example": "images", "pattern": f"^{COLLECTION_NAME.pattern}$"},
    ),
]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="the most results in one answer")]
CallbackUrl = Annotated[
    str | None,
    Field(
        max_length=2048,
        description="gets the final status by POST: answer 2xx within 3 s; what is not taken is sent again, "
        "8 times in all",
        json_schema_extra={"example": "https://example.com/done"},
    ),
]


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
