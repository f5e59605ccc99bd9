"""What goes into and comes out of the routes of pictures one by one, and of their list."""

from dataclasses import asdict
from typing import Annotated, Any, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from api.http.request_models import MAX_LIMIT, BodyModel, CollectionName, QueryModel
from image_search.models.jobs import METADATA_VALUES, Key
from shared.models import COLORS, DEFAULT_COLLECTION, Image
from shared.rfc3339 import rfc3339
from shared.validation import MAX_METADATA

IMAGE_EXAMPLE: dict[str, Any] = {
    "id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "collection": "images",
    "source": "https://example.com/a.jpg",
    "sources": ["https://example.com/a.jpg"],
    "format": "jpeg",
    "width": 3024,
    "height": 4032,
    "bytes": 2481193,
    "created_at": "2026-11-24T13:20:53.120Z",
    "taken_at": "2026-07-01T18:04:05.000Z",
    "lat": 47.37,
    "lon": 8.54,
    "tags": ["sailboat", "lake"],
    "nsfw": 0.0031,
    "colors": ["blue", "white", "green"],
    "phash": "c3d2e1f00f1e2d3c",
    "metadata": {"shop": "north"},
    "keys": ["sku-1234"],
    "thumbnail_url": "/v1/images/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08/thumbnail",
}

_PATCH = {
    "type": "object",
    "description": "a JSON merge patch (RFC 7396): a value replaces the name's, `null` takes the name away",
    "additionalProperties": {"anyOf": [*METADATA_VALUES, {"type": "null"}]},
}


class ImagePath(BaseModel):
    image_id: str = Field(description="64 hexadecimal digits")


class CollectionQuery(QueryModel):
    collection: CollectionName = DEFAULT_COLLECTION


class ImageOut(BaseModel):
    """One picture. Times are RFC 3339; `width` and `height` are those of the upright picture."""

    model_config = ConfigDict(json_schema_extra={"examples": [IMAGE_EXAMPLE]})

    id: str
    collection: str
    source: str
    sources: list[str]
    format: str
    width: int
    height: int
    bytes: int
    created_at: str | None
    taken_at: str | None
    lat: float | None
    lon: float | None
    tags: list[str] = Field(description="up to 5 of the vocabulary, best first")
    nsfw: float | None = Field(
        description="how likely explicit, in [0, 1]; as good as the model that says so"
    )
    colors: list[str] = Field(description=f"up to 5 of {', '.join(COLORS)}; most area first")
    phash: str | None = Field(description="perceptual hash (DCT), 64 bits as 16 hexadecimal digits")
    metadata: dict[str, Any]
    keys: list[str] = Field(description="the items' keys that point at it")
    thumbnail_url: str

    @classmethod
    def of(cls, image: Image, collection: str) -> Self:
        times = {
            name: None if (moment := getattr(image, name)) is None else rfc3339(moment)
            for name in ("created_at", "taken_at")
        }
        where = {"collection": collection, "thumbnail_url": thumbnail_url(collection, image.id)}
        return cls(**asdict(image) | times | where)


class EmbeddingOut(BaseModel):
    vector: list[float]
    dimension: int
    norm: float
    min: float
    max: float
    mean: float


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


class ImagesOut(BaseModel):
    """Pictures in the order of their ids; `next_cursor` is null on the last page."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"images": [IMAGE_EXAMPLE], "next_cursor": IMAGE_EXAMPLE["id"]}]}
    )

    images: list[ImageOut]
    next_cursor: str | None


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


def thumbnail_url(collection: str, image_id: str) -> str:
    """Relative to the server, so that it holds behind any proxy."""
    suffix = "" if collection == DEFAULT_COLLECTION else f"?collection={quote(collection)}"
    return f"/v1/images/{image_id}/thumbnail{suffix}"
