"""What goes into and comes out of the collection routes."""

from dataclasses import asdict
from typing import Self

from pydantic import BaseModel

from api.http.request_models import BodyModel, CollectionName
from shared.models import CollectionInfo
from shared.rfc3339 import rfc3339


class CollectionIn(BodyModel):
    name: CollectionName


class CollectionPath(BaseModel):
    name: str


class CollectionOut(BaseModel):
    """`model` is the only one that can search the collection and add to it."""

    name: str
    count: int
    model: str
    dimension: int
    created_at: str

    @classmethod
    def of(cls, info: CollectionInfo) -> Self:
        return cls(**asdict(info) | {"created_at": rfc3339(info.created_at)})


class CollectionsOut(BaseModel):
    collections: list[CollectionOut]
