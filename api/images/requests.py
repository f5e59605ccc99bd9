"""What goes into the routes of images one by one, and of their list."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypeAliasType

from api.http.request_models import (
    MAX_ITEMS,
    METADATA_VALUES,
    BodyModel,
    CallbackUrl,
    CollectionName,
    Key,
    Limit,
    QueryModel,
)
from api.jobs.requests import JobLabel
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
PICTURE_ID = re.compile(r"[0-9a-f]{64}")
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
    order_by: Literal["-created_at"] | None = Field(
        None,
        description="newest first; in the order of the pictures' ids where it is left out",
        json_schema_extra={"example": "-created_at"},
    )
    cursor: str | None = Field(
        None,
        max_length=200,
        description="`next_cursor` of the page before, in the same order",
        json_schema_extra={"example": IMAGE_ID},
    )
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


class Pictures(JobLabel, BodyModel):
    """The pictures of a job, by exactly one of `ids`, `keys` and `filters`."""

    ids: list[str] | None = Field(None, description=f"pictures' ids, at most {MAX_ITEMS:,}")
    keys: list[Key] | None = Field(None, description=f"the user's own names for them, at most {MAX_ITEMS:,}")
    filters: dict[str, Any] | None = Field(
        None,
        description="the same as `filters` of a search; what matches when the job is made, at most "
        f"{MAX_ITEMS:,} pictures",
    )
    all: bool = Field(False, description="needed where `filters` match every picture")
    collection: CollectionName = DEFAULT_COLLECTION
    dry_run: bool = Field(
        False,
        description="change nothing: the job's `result` has `counts` of what would become of the pictures, "
        "and the first 100 `ids`",
    )
    callback_url: CallbackUrl = None


class ImagesDelete(Pictures):
    """The pictures to delete."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"filters": {"shop": "north"}, "dry_run": True}, {"keys": ["sku-1234"]}]
        }
    )


class ImagesUpdate(Pictures):
    """The pictures to change, and what is to change of each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"filters": {"shop": "north"}, "metadata": {"shop": "south", "sold": None}}]
        }
    )

    metadata: MetadataPatch = Field(
        description=f"at most {MAX_METADATA} names are left of each; null takes a name away"
    )
