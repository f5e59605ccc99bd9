"""What comes out of the search for near-duplicates."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from image_search.models.images import IMAGE_ID as _ID
from image_search.models.times import Time

_OTHER_ID = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"
_EXAMPLE: dict[str, Any] = {
    "groups": [
        {
            "keeper": _ID,
            "count": 2,
            "images": [
                {
                    "id": _ID,
                    "score": 1.0,
                    "distance": 0,
                    "source": "https://example.com/a.jpg",
                    "thumbnail_url": f"/v1/images/{_ID}/thumbnail",
                    "format": "jpeg",
                    "width": 3024,
                    "height": 4032,
                    "bytes": 2481193,
                    "created_at": "2026-11-24T13:20:53.120Z",
                },
                {
                    "id": _OTHER_ID,
                    "score": 0.9893,
                    "distance": 2,
                    "source": "https://example.com/a-small.jpg",
                    "thumbnail_url": f"/v1/images/{_OTHER_ID}/thumbnail",
                    "format": "jpeg",
                    "width": 768,
                    "height": 1024,
                    "bytes": 143021,
                    "created_at": "2026-11-24T13:20:54.301Z",
                },
            ],
        }
    ],
    "total": 1,
    "compared": 1000,
    "not_compared": 0,
    "next_cursor": None,
}


class Duplicate(BaseModel):
    """One image of a group: its cosine similarity (`score`) and Hamming `distance` to the keeper."""

    id: str
    score: float
    distance: int
    source: str = Field(description="the URL or file that it came from")
    thumbnail_url: str = Field(description="a path on this server")
    format: str = Field("", description="of the file, such as `jpeg`")
    width: int | None
    height: int | None
    bytes: int | None
    created_at: Time | None


class DuplicateGroup(BaseModel):
    """A group of near-duplicates. `images` has the first 100: the keeper, then the most alike to it."""

    keeper: str = Field(description="the id of the picture to keep")
    count: int
    images: list[Duplicate]


class DuplicatePage(BaseModel):
    """A page of groups, in the order of each one's smallest id. `total` counts those of all pages."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    groups: list[DuplicateGroup]
    total: int
    compared: int = Field(description="pictures compared")
    not_compared: int = Field(description="pictures without a perceptual hash: ingested before there was one")
    next_cursor: str | None = Field(description="null on the last page")
