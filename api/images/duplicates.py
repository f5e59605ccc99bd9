"""Near-duplicates of a collection, as groups with a suggestion which picture to keep."""

import threading
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import numpy as np
from flask import Response, jsonify
from pydantic import Field

from api.context import open_collection
from api.http.auth import requires
from api.http.openapi import make_blueprint
from api.http.request_models import CollectionName, QueryModel
from api.images.requests import Cursor
from api.search.answers import thumbnail_url
from image_search import models
from shared.errors import InvalidRequest, Unavailable
from shared.imaging.colors_and_hash import hash_bits
from shared.index.collection import Collection
from shared.index.near_duplicates import COSINE, HAMMING, Places, Vectors, groups
from shared.models import DEFAULT_COLLECTION, Image
from shared.rfc3339 import rfc3339

MAX_PICTURES = 100_000
MAX_SHOWN = 100  # pictures of one group
_BATCH = 1_000  # of records or vectors in one call of the index, which has a deadline

blueprint = make_blueprint("duplicates", __name__, tag="images")
# Each takes a core for seconds, so one at a time.
_searching = threading.Semaphore(1)


class DuplicatesQuery(QueryModel):
    collection: CollectionName = DEFAULT_COLLECTION
    threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        COSINE, description="least cosine similarity of the vectors"
    )
    max_distance: Annotated[int, Field(ge=0, le=32)] = Field(
        HAMMING, description="largest Hamming distance of the perceptual hashes, of 64 bits"
    )
    limit: Annotated[int, Field(ge=1, le=200)] = Field(50, description="groups in one answer")
    cursor: Cursor | None = None


@blueprint.get(
    "/v1/duplicates", summary="Find groups of near-duplicates", responses={200: models.DuplicatePage}
)
@requires("search")
def find_duplicates(query: DuplicatesQuery) -> Response:
    """Return groups of pictures that are nearly the same: recompressed, resized, slightly trimmed or edited.

    Two pictures are near-duplicates when the cosine similarity of their vectors is at least `threshold` and
    the Hamming distance of their perceptual hashes at most `max_distance`. Groups are the connected
    components of that, so two members may be less alike where others lie between them. The suggested keeper
    is the one with the most pixels, then the most bytes, then the oldest. The same bytes are one picture
    already and never appear here.

    Exact, for up to 100,000 pictures (422 beyond); 20,000 take some seconds, most of it to read them. Each
    page compares anew; one comparison runs at a time, a second meanwhile gets 503.
    """
    if not _searching.acquire(blocking=False):
        raise Unavailable("Another search for duplicates is running; try again when it is done.")
    try:
        answer = _answer(query)
    finally:
        _searching.release()
    return jsonify(answer.model_dump())


def _answer(query: DuplicatesQuery) -> models.DuplicatePage:
    collection = open_collection(query.collection)
    if collection is None:
        return models.DuplicatePage(groups=[], total=0, compared=0, not_compared=0, next_cursor=None)
    ids, hashes, bare = _hashes(collection)
    found = _groups(collection, ids, hashes, query)
    later = [group for group in found if query.cursor is None or group[0] > query.cursor]
    page = later[: query.limit]
    shown = (_group_out(collection, query.collection, group) for group in page)
    return models.DuplicatePage(
        groups=[group for group in shown if group is not None],
        total=len(found),
        compared=len(ids),
        not_compared=bare,
        next_cursor=page[-1][0] if len(later) > len(page) else None,
    )


def _hashes(collection: Collection) -> tuple[list[str], list[str], int]:
    """Return ids, perceptual hashes, and how many images have none. Raises InvalidRequest for too many."""
    ids = list(islice(collection.ids(), MAX_PICTURES + 1))
    if len(ids) > MAX_PICTURES:
        message = f"has more than {MAX_PICTURES:,} pictures, the most that are compared"
        raise InvalidRequest(f"The collection {message}.", [{"pointer": "/collection", "message": message}])
    hashes = {image.id: image.phash for image in _images(collection, ids) if image.phash is not None}
    return list(hashes), list(hashes.values()), len(ids) - len(hashes)


def _groups(
    collection: Collection, ids: list[str], hashes: list[str], query: DuplicatesQuery
) -> list[list[str]]:
    """Return groups of ids, each sorted, in the order of their first ids."""

    def vectors_of(places: Places) -> Vectors:
        return _vectors(collection, [ids[place] for place in places])

    found = groups(hash_bits(hashes), vectors_of, cosine=query.threshold, hamming=query.max_distance)
    return sorted(sorted(ids[place] for place in group) for group in found)


def _group_out(collection: Collection, name: str, group: list[str]) -> models.DuplicateGroup | None:
    """Describe a group; None where all but one was deleted meanwhile."""
    images = [image for image in _images(collection, group) if image.phash is not None]
    if len(images) < 2:
        return None
    images.sort(key=_preference)
    keeper = images[0]
    vectors = _vectors(collection, [image.id for image in images])
    norms = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    scores = (vectors @ vectors[0] / norms / norms[0]).clip(-1, 1)
    bits = hash_bits([image.phash or "" for image in images])
    members = [
        models.Duplicate(
            id=image.id,
            score=round(float(score), 6),
            distance=int(distance),
            source=image.source,
            thumbnail_url=thumbnail_url(name, image.id),
            format=image.format,
            width=image.width,
            height=image.height,
            bytes=image.bytes,
            created_at=None if image.created_at is None else rfc3339(image.created_at),
        )
        for image, score, distance in zip(images, scores, np.bitwise_count(bits ^ bits[0]), strict=True)
    ]
    members.sort(key=lambda one: (one.id != keeper.id, -one.score, one.id))
    return models.DuplicateGroup(keeper=keeper.id, count=len(members), images=members[:MAX_SHOWN])


def _images(collection: Collection, ids: list[str]) -> Iterator[Image]:
    """Yield those of `ids` that still exist, in their order, in short calls of the index."""
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        stored = collection.owners(batch)
        yield from (stored[image_id][1] for image_id in batch if image_id in stored)


def _vectors(collection: Collection, ids: list[str]) -> Vectors:
    """Return a row for each of `ids`; zeros, which are similar to nothing, for what is gone."""
    rows = np.zeros((len(ids), collection.pointer.dimension), np.float32)
    for start in range(0, len(ids), _BATCH):
        stored = collection.vectors(ids[start : start + _BATCH])
        for row, image_id in enumerate(ids[start : start + _BATCH], start):
            rows[row] = stored.get(image_id, 0)
    return rows


def _preference(image: Image) -> tuple[int, int, float, str]:
    """Return a sort key whose least is kept: most pixels, then most bytes, then the oldest."""
    pixels = (image.width or 0) * (image.height or 0)
    return -pixels, -(image.bytes or 0), image.created_at or 0.0, image.id
