"""One picture: its record, thumbnail, neighbours and vector."""

import re

import numpy as np
from flask import Response, jsonify, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api.auth import requires
from api.context import services
from api.query import open_collection
from api.schemas import CollectionQuery, EmbeddingOut, ImageOut, ImagePath, SimilarQuery, SimilarResponse
from api.search import result_of
from api.visibility import visible
from shared.blobs import thumbnail_key
from shared.errors import ImageNotFound
from shared.index import Collection

blueprint = APIBlueprint("images", __name__, abp_tags=[Tag(name="images", description="Pictures")])
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_WEBP = {
    "description": "The thumbnail, longest side 256 px.",
    "content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}},
}


@blueprint.get("/v1/images/<image_id>", summary="A picture", responses={200: ImageOut})
@requires("search")
def get_image(path: ImagePath, query: CollectionQuery) -> Response:
    """What is known of a picture."""
    image = _collection(query.collection, path.image_id).get(path.image_id)
    return jsonify(ImageOut.of(image, query.collection).model_dump())


@blueprint.delete("/v1/images/<image_id>", summary="Delete a picture", responses={204: None})
@requires("ingest")
def delete_image(path: ImagePath, query: CollectionQuery) -> tuple[str, int]:
    """Removes the picture and its files; ingesting its bytes again brings it back."""
    _collection(query.collection, path.image_id)
    services().remove_image(query.collection, path.image_id)
    return "", 204


@blueprint.get(
    "/v1/images/<image_id>/thumbnail",
    summary="A picture's thumbnail",
    responses={200: _WEBP, 304: {"description": "The `If-None-Match` still holds."}},
)
@requires("search")
def get_thumbnail(path: ImagePath, query: CollectionQuery) -> Response:
    """WebP. Its ETag never changes, since an id stands for the same bytes for ever."""
    if not _IMAGE_ID.fullmatch(path.image_id):  # file systems choke on some names
        raise _no_image(path.image_id)
    try:
        data = services().blobs.get(thumbnail_key(query.collection, path.image_id))
    except KeyError:
        raise _no_image(path.image_id) from None
    response = Response(data, mimetype="image/webp")
    response.headers["Cache-Control"] = "private, max-age=86400"
    response.set_etag(path.image_id)
    response.make_conditional(request)
    return response


@blueprint.get("/v1/images/<image_id>/similar", summary="Similar pictures", responses={200: SimilarResponse})
@requires("search")
def get_similar(path: ImagePath, query: SimilarQuery) -> Response:
    """Its nearest neighbours, best first, without itself and, with `NSFW_MAX` set, what is above that."""
    collection = _collection(query.collection, path.image_id)
    hits = collection.search(
        collection.vector(path.image_id),
        limit=query.limit,
        offset=0,
        where=visible(None),
        min_score=query.min_score,
        exclude=path.image_id,
    )
    return jsonify(results=[result_of(hit, query.collection).model_dump(exclude_none=True) for hit in hits])


@blueprint.get("/v1/images/<image_id>/embedding", summary="A picture's vector", responses={200: EmbeddingOut})
@requires("search")
def get_embedding(path: ImagePath, query: CollectionQuery) -> Response:
    """The unit vector that the index holds, and its statistics."""
    vector = _collection(query.collection, path.image_id).vector(path.image_id)
    return jsonify(
        EmbeddingOut(
            vector=vector.tolist(),
            dimension=len(vector),
            norm=float(np.linalg.norm(vector)),
            min=float(vector.min()),
            max=float(vector.max()),
            mean=float(vector.mean()),
        ).model_dump()
    )


def _collection(name: str, image_id: str) -> Collection:
    """Raises CollectionNotFound, and ImageNotFound for the default collection before it was written to."""
    collection = open_collection(name)
    if collection is None:
        raise _no_image(image_id)
    return collection


def _no_image(image_id: str) -> ImageNotFound:
    return ImageNotFound(f"There is no picture {image_id} in this collection.")
