"""What the API says of collections."""

from pydantic import BaseModel

DEFAULT_COLLECTION = "images"


class Collection(BaseModel):
    """`model` is the only one that can search the collection and add to it."""

    name: str
    count: int
    model: str
    dimension: int
    created_at: str


class CollectionList(BaseModel):
    collections: list[Collection]
