"""What the requests of several rooms are made of: strict bodies and queries, and their field types."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

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
METADATA_SCHEMA = {
    "type": "object",
    "maxProperties": MAX_METADATA,
    "description": f"names match `{METADATA_NAME.pattern}` and are not those of built-in fields",
    "propertyNames": {"pattern": f"^{METADATA_NAME.pattern}$"},
    "additionalProperties": {"anyOf": METADATA_VALUES},
}
# Any: the values' own check is `metadata_faults`, whose pointers name the value and not a union's branch.
Metadata = Annotated[dict[str, Any] | None, WithJsonSchema({"anyOf": [METADATA_SCHEMA, {"type": "null"}]})]
Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_KEY,
        description="the user's own name for the item, such as a SKU, unique in its collection",
    ),
]
CollectionName = Annotated[
    str,
    Field(
        pattern=f"^{COLLECTION_NAME.pattern}$",
        description="1 to 63 of letters, digits, `.`, `_`, `-`; the first and last a letter or digit",
    ),
]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]


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
