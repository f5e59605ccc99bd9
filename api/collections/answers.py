"""Collections as the API's documents."""

from dataclasses import asdict

from image_search import models
from shared.models import CollectionInfo
from shared.rfc3339 import rfc3339


def collection_answer(info: CollectionInfo) -> models.Collection:
    """Describe a collection."""
    return models.Collection(**asdict(info) | {"created_at": rfc3339(info.created_at)})
