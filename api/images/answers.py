"""Images of the index as the API's documents."""

from dataclasses import asdict

from api.search.answers import thumbnail_url
from image_search import models
from shared.models import Image
from shared.rfc3339 import rfc3339


def image_answer(image: Image, collection: str) -> models.Image:
    """Describe an image of a collection."""
    times = {
        name: None if (moment := getattr(image, name)) is None else rfc3339(moment)
        for name in ("created_at", "taken_at")
    }
    where = {"collection": collection, "thumbnail_url": thumbnail_url(collection, image.id)}
    return models.Image(**asdict(image) | times | where)
