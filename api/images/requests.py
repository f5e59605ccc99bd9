"""What goes into the routes of images one by one, and of their list."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypeAliasType

from api.http.request_models import (
    METADATA_VALUES,
    BodyModel,
    CollectionName,
    Key,
    Limit,
    QueryModel,
)
from image_search.models.images import IMAGE_ID
from shared.models import DEFAULT_COLLECTION
from shared.validation import MAX_METADATA

_PATCH = {
    "type": "object",
    "description": "a JSON merge patch (RFC 7396): a value replaces the name's, `null` takes the name away",
    "additionalProperties": {"anyOf": [*METADATA_VALUES, {"type": "null"}]},
}
Cursor = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="`next_cursor` of the page before",
        json_schema_extra={"example": IMAGE_ID},
    ),
]
MetadataPatch = TypeAliasType("MetadataPatch", Annotated[dict[str, Any], WithJsonSchema(_PATCH)])


class ImagePath(BaseModel):
    image_id: str = Field(
        description="the picture's id, 64 hexadecimal digits", json_schema_extra={"example": IMAGE_ID}
    )


class CollectionQuery(QueryModel):
    collection: CollectionName = DEFAULT_COLLECTION


class ImagesQuery(QueryModel):
    key: Key | None = Field(None, description="only the picture that this key points at")
    filters: str | None = Field(
        None,
        max_length=16_384,
        description="JSON, the same as `filters` of a search",
        json_schema_extra={"example": '{"shop": "north", "width": {"gte": 1024}}'},
    )
    cursor: Cursor | None = None
    limit: Limit = 50
    collection: CollectionName = DEFAULT_COLLECTION


class KeyQuery(QueryModel):
    key: Key
    collection: CollectionName = DEFAULT_COLLECTION


class ImagePatch(BodyModel):
    """What is to change of a picture."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"metadata": {"shop": "south", "price": 9.5, "sold": None}}]}
    )

    metadata: MetadataPatch = Field(
        description=f"at most {MAX_METADATA} names are left; null takes a name away"
    )
    collection: CollectionName | None = Field(None, description="or in the query string; `images` by default")
