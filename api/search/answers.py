"""What a search has found as the API's documents."""

from urllib.parse import quote

from image_search import models
from shared.models import DEFAULT_COLLECTION, Hit


def hit_answer(hit: Hit, collection: str, *, metadata: bool = True, tags: bool = False) -> models.Hit:
    """Describe a hit, with its metadata and tags where they were asked for."""
    image = hit.image
    return models.Hit(
        id=image.id,
        score=hit.score,
        source=image.source,
        thumbnail_url=thumbnail_url(collection, image.id),
        width=image.width,
        height=image.height,
        metadata=image.metadata if metadata else None,
        tags=image.tags if tags else None,
    )


def thumbnail_url(collection: str, image_id: str) -> str:
    """Return the thumbnail's path, relative to the server, so that it holds behind any proxy."""
    suffix = "" if collection == DEFAULT_COLLECTION else f"?collection={quote(collection)}"
    return f"/v1/images/{image_id}/thumbnail{suffix}"
