"""What the API says of collections."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from image_search.models.times import Time

DEFAULT_COLLECTION = "images"


COLLECTION_EXAMPLE: dict[str, Any] = {
    "name": DEFAULT_COLLECTION,
    "count": 60000,
    "model": "openai/clip-vit-base-patch32",
    "dimension": 512,
    "created_at": "2026-11-24T13:20:53.120Z",
}


class Collection(BaseModel):
    """A collection. Only its `model` can search it and add to it."""

    model_config = ConfigDict(json_schema_extra={"examples": [COLLECTION_EXAMPLE]})

    name: str
    count: int = Field(description="pictures in it")
    model: str
    dimension: int = Field(description="of the model's vectors")
    created_at: Time


class CollectionList(BaseModel):
    """All collections, by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"collections": [COLLECTION_EXAMPLE]}]})

    collections: list[Collection]
