"""What the API says of collections."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from image_search.models.search import FacetCount
from image_search.models.times import Time

DEFAULT_COLLECTION = "images"


COLLECTION_EXAMPLE: dict[str, Any] = {
    "name": DEFAULT_COLLECTION,
    "count": 60000,
    "model": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
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


class MetadataName(BaseModel):
    """A name, and what those pictures have under it that were looked at."""

    name: str
    pictures: int = Field(description="how many have it")
    types: dict[str, int] = Field(
        description="how many have it as `text`, `number`, `boolean` and `texts`, a list of texts"
    )
    values: list[FacetCount] = Field(
        description="the most frequent ones, ties by value; of a list, each of its texts"
    )
    more_values: bool = Field(description="whether there are others")


class CollectionMetadata(BaseModel):
    """What can be filtered by: the metadata names of a collection, the most frequent first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "collection": DEFAULT_COLLECTION,
                    "pictures": 5000,
                    "complete": False,
                    "names": [
                        {
                            "name": "shop",
                            "pictures": 4400,
                            "types": {"text": 4400},
                            "values": [{"value": "north", "count": 3100}, {"value": "south", "count": 1300}],
                            "more_values": False,
                        }
                    ],
                    "more_names": False,
                    "fields": [
                        {
                            "name": "tags",
                            "pictures": 4900,
                            "types": {"texts": 4900},
                            "values": [{"value": "sailboat", "count": 310}],
                            "more_values": True,
                        }
                    ],
                }
            ]
        }
    )

    collection: str
    pictures: int = Field(description="how many were looked at")
    complete: bool = Field(
        description="whether these are all; a name that few pictures have may be missing if not"
    )
    names: list[MetadataName]
    more_names: bool = Field(description="whether there are others, less frequent")
    fields: list[MetadataName] = Field(
        description="the built-in fields `tags`, `colors` and `format`, likewise"
    )
