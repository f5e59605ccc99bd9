"""What goes into the routes of images one by one, and of their list."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from api.http.request_models import (
    MAX_LIMIT,
    METADATA_VALUES,
    BodyModel,
    CollectionName,
    Key,
    QueryModel,
)
from shared.models import DEFAULT_COLLECTION
from shared.validation import MAX_METADATA

_PATCH = {
    "type": "object",
    "description": "a JSON merge patch (RFC 7396): a value replaces the name's, `null` takes the name away",
    "additionalProperties": {"anyOf": [*METADATA_VALUES, {"type": "null"}]},
}


class ImagePath(BaseModel):
    image_id: str = Field(description="64 hexadecimal digits")


class CollectionQuery(QueryModel):
    collection: CollectionName = DEFAULT_COLLECTION


class ImagesQuery(QueryModel):
    key: Key | None = Field(
        None,
        description="only the picture that this key points at",
        json_schema_extra={"example": "sku-1234"},
    )
    filters: str | None = Field(
        None,
        max_length=16_384,
        description="JSON, the same as `filters` of a search",
        json_schema_extra={"example": '{"shop": "north", "width": {"gte": 1024}}'},
    )
    cursor: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="`next_cursor` of the page before"
    )
    limit: int = Field(50, ge=1, le=MAX_LIMIT)
    collection: CollectionName = DEFAULT_COLLECTION


class KeyQuery(QueryModel):
    key: Key = Field(json_schema_extra={"example": "sku-1234"})
    collection: CollectionName = DEFAULT_COLLECTION


class ImagePatch(BodyModel):
    """What is to change of a picture."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"metadata": {"shop": "south", "price": 9.5, "sold": None}}]}
    )

    metadata: Annotated[dict[str, Any], WithJsonSchema(_PATCH)] = Field(
        description=f"at most {MAX_METADATA} names are left; null takes a name away"
    )
    collection: CollectionName | None = Field(None, description="or in the query string; `images` by default")
