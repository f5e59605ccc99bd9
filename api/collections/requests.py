"""What goes into the routes of collections."""

from pydantic import BaseModel

from api.http.request_models import BodyModel, CollectionName


class CollectionRequest(BodyModel):
    name: CollectionName


class CollectionPath(BaseModel):
    name: str
