"""What the API says of images one by one, and of their list."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from image_search.models.times import Time

MetadataValue = str | int | float | bool | list[str]
Metadata = dict[str, MetadataValue]

IMAGE_ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
IMAGE_EXAMPLE: dict[str, Any] = {
    "id": IMAGE_ID,
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
    "thumbnail_url": f"/v1/images/{IMAGE_ID}/thumbnail",
}


class Image(BaseModel):
    """What is known of an image. Times are RFC 3339; `width` and `height` are those of it upright."""

    model_config = ConfigDict(json_schema_extra={"examples": [IMAGE_EXAMPLE]})

    id: str = Field(description="the SHA-256 of its bytes")
    collection: str
    source: str = Field(description="the URL or file that it came from first")
    sources: list[str] = Field(description="all that it came from")
    format: str = Field(description="of that file, such as `jpeg`")
    width: int | None
    height: int | None
    bytes: int | None = Field(description="of the file that was ingested")
    created_at: Time | None
    taken_at: Time | None = Field(description="from its EXIF, else its XMP, as `lat` and `lon`")
    lat: float | None
    lon: float | None
    tags: list[str] = Field(description="up to 5 of the vocabulary, best first")
    nsfw: float | None = Field(
        description="how likely explicit, in [0, 1]; as good as the model that says so"
    )
    colors: list[str] = Field(
        description="up to 5 of black, white, gray, red, orange, yellow, green, blue, purple, pink, brown; "
        "most area first"
    )
    phash: str | None = Field(description="perceptual hash (DCT), 64 bits as 16 hexadecimal digits")
    metadata: dict[str, Any] = Field(description="what the items that brought it and changes since said")
    keys: list[str] = Field(description="the items' keys that point at it")
    thumbnail_url: str = Field(description="a path on this server")


class ImagePage(BaseModel):
    """A page of images, in the order of their ids or newest first; `next_cursor` is null on the last page."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"images": [IMAGE_EXAMPLE], "next_cursor": IMAGE_EXAMPLE["id"]}]}
    )

    images: list[Image]
    next_cursor: str | None
    warnings: list[str] | None = Field(
        None, description="of the first page: such as a filter's metadata name that no picture has"
    )


class Embedding(BaseModel):
    """A picture's vector, and its statistics."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"vector": [0.6, -0.8], "dimension": 2, "norm": 1.0, "min": -0.8, "max": 0.6, "mean": -0.1}
            ]
        }
    )

    vector: list[float]
    dimension: int
    norm: float
    min: float
    max: float
    mean: float
