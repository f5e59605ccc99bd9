"""Pictures: the list of them; one's record, thumbnail, neighbours and vector; changing and deleting."""

from itertools import chain

import numpy as np
from flask import Response, jsonify, request
from werkzeug.exceptions import BadRequest

from api.context import open_collection, services
from api.http.auth import requires
from api.http.openapi import bytes_answer, make_blueprint, string_headers
from api.http.problems import load_json, refuse
from api.images.answers import image_answer
from api.images.edits import change_metadata, remove_image, remove_key
from api.images.listing import check_cursor, list_page
from api.images.requests import PICTURE_ID, CollectionQuery, ImagePatch, ImagePath, ImagesQuery, KeyQuery
from api.search.answers import hit_answer
from api.search.nsfw_filter import visible
from api.search.requests import SimilarQuery
from api.search.unknown_names import warnings_of
from image_search import models
from shared.errors import FieldError, ImageNotFound, InvalidRequest, RenditionNotKept
from shared.filters.conditions import Where
from shared.filters.parsing import parse_where
from shared.index.collection import Collection, no_image
from shared.models import Metadata
from shared.storage.blobs import FileKind, file_key
from shared.validation import json_bytes, listed, metadata_faults

blueprint = make_blueprint("images", __name__)
_HEADERS = {
    "ETag": "The picture's id; sent back as `If-None-Match` it gets a 304.",
    "Cache-Control": "`private, no-cache`: to be kept, and asked for again each time.",
}
_THUMBNAIL = bytes_answer("The thumbnail, longest side 256 px.", "image/webp", headers=_HEADERS)
_RENDITION = bytes_answer(
    "The rendition, longest side at most 768 px.", "image/jpeg", "image/webp", headers=_HEADERS
)
_UNCHANGED = {"description": "The `If-None-Match` still holds.", "headers": string_headers(_HEADERS)}


@blueprint.get("/v1/images/<image_id>", summary="Get a picture", responses={200: models.Image})
@requires("search")
def get_image(path: ImagePath, query: CollectionQuery) -> Response:
    """Return what is known of a picture."""
    image = _collection(query.collection, path.image_id).get(path.image_id)
    return jsonify(image_answer(image, query.collection).model_dump())


@blueprint.patch(
    "/v1/images/<image_id>", summary="Change a picture's metadata", responses={200: models.Image}
)
@requires("ingest")
def update_image(path: ImagePath, query: CollectionQuery, body: ImagePatch) -> Response:
    """Merge `metadata` into the picture's, at once (RFC 7396).

    A value replaces the name's, null takes the name away, names that are not mentioned stay. The rules for
    metadata are those of ingestion. Items of jobs that were made before do not undo it, whenever they are
    worked on; later ones merge into it. It lasts as long as the picture.
    """
    name = body.collection or query.collection
    given = {field: value for field, value in body.metadata.items() if value is not None}
    names = metadata_faults({field: "" for field in body.metadata if field not in given}, "metadata")
    refuse("The metadata is malformed.", chain(metadata_faults(given, "metadata"), names))
    _collection(name, path.image_id)
    changed = change_metadata(services(), name, path.image_id, body.metadata, _refuse_too_much)
    return jsonify(image_answer(changed, name).model_dump())


def _refuse_too_much(before: Metadata, after: Metadata) -> None:
    # Older versions merged without end.
    if any(measure(after) > measure(before) for measure in (len, listed, json_bytes)):
        refuse("The picture would have too much metadata.", metadata_faults(after, "metadata"))


@blueprint.delete("/v1/images/<image_id>", summary="Delete a picture", responses={204: None})
@requires("ingest")
def delete_image(path: ImagePath, query: CollectionQuery) -> tuple[str, int]:
    """Remove the picture, its keys and its files; a new job that ingests its bytes brings it back."""
    _collection(query.collection, path.image_id)
    remove_image(services(), query.collection, path.image_id)
    return "", 204


@blueprint.get("/v1/images", summary="List pictures", responses={200: models.ImagePage})
@requires("search")
def list_images(query: ImagesQuery) -> Response:
    """List pictures by their ids or newest first, page by page; with `filters` those that match.

    What is there from the first page to the last is listed exactly once, whatever is added or deleted in
    between; with `NSFW_MAX` set, without what is above that. With `key` at most the one picture that it
    points at; none is no error. Newest first, pictures of one `created_at` are in the order of their ids, and
    those without one last.
    """
    where = _where(query.filters)
    check_cursor(query)
    collection = open_collection(query.collection)
    page, next_cursor = list_page(collection, query, where) if collection else ([], None)
    # Said once, with the first page.
    warnings = [] if query.cursor else warnings_of(where, [], page, collection, is_full=bool(next_cursor))
    answer = models.ImagePage(
        images=[image_answer(image, query.collection) for image in page],
        next_cursor=next_cursor,
        warnings=warnings or None,
    )
    return jsonify(answer.model_dump(exclude=None if warnings else {"warnings"}))


@blueprint.delete("/v1/images", summary="Delete a key, and its picture", responses={204: None})
@requires("ingest")
def delete_key(query: KeyQuery) -> tuple[str, int]:
    """Remove the key; its picture goes too, unless another key or an item without one has brought it.

    Items under this key of jobs that were made before do not bring it back, whenever they are worked on: also
    where the answer is 404, since the key pointed at nothing yet.
    """
    if open_collection(query.collection) is None or not remove_key(services(), query.collection, query.key):
        raise ImageNotFound(f"The key {query.key!r} points at no picture of this collection.")
    return "", 204


@blueprint.get(
    "/v1/images/<image_id>/thumbnail",
    summary="Get a picture's thumbnail",
    responses={200: _THUMBNAIL, 304: _UNCHANGED},
)
@requires("search")
def get_thumbnail(path: ImagePath, query: CollectionQuery) -> Response:
    """Return the thumbnail, WebP. Its ETag never changes, since an id stands for the same bytes for ever."""
    found = _kept(query.collection, path.image_id, "thumbnail")
    if found is None:
        raise no_image(path.image_id)
    return found


@blueprint.get(
    "/v1/images/<image_id>/rendition",
    summary="Get a picture, larger than its thumbnail",
    responses={200: _RENDITION, 304: _UNCHANGED},
)
@requires("search")
def get_rendition(path: ImagePath, query: CollectionQuery) -> Response:
    """Return the rendition, JPEG or WebP, upright. Its ETag never changes.

    It was kept where `KEEP` was `rendition`, the default, at ingest; else `404 rendition_not_kept`.
    """
    found = _kept(query.collection, path.image_id, "rendition")
    if found is None:
        _collection(query.collection, path.image_id).get(path.image_id)
        raise RenditionNotKept(
            "No rendition of this picture was kept: ingest it again with IMAGE_SEARCH_KEEP set to rendition."
        )
    return found


def _kept(collection: str, image_id: str, kind: FileKind) -> Response | None:
    if not PICTURE_ID.fullmatch(image_id):  # file systems choke on some names
        return None
    try:
        data = services().blobs.get(file_key(collection, image_id, kind))
    except KeyError:
        return None
    is_webp = kind == "thumbnail" or data.startswith(b"RIFF")
    response = Response(data, mimetype="image/webp" if is_webp else "image/jpeg")
    # Asked for again each time: who may no longer see it, or signed out, does not get it from a cache.
    response.headers["Cache-Control"] = "private, no-cache"
    response.vary.add("Authorization")
    response.set_etag(image_id)
    response.make_conditional(request)
    return response


@blueprint.get(
    "/v1/images/<image_id>/similar", summary="Find similar pictures", responses={200: models.SimilarResult}
)
@requires("search")
def find_similar(path: ImagePath, query: SimilarQuery) -> Response:
    """Return its nearest neighbours, best first, without itself and, with `NSFW_MAX`, what is above that."""
    collection = _collection(query.collection, path.image_id)
    hits = collection.search(
        collection.vector(path.image_id),
        limit=query.limit,
        offset=0,
        where=visible(None),
        min_score=query.min_score,
        exclude=path.image_id,
    )
    return jsonify(results=[hit_answer(hit, query.collection).model_dump(exclude_none=True) for hit in hits])


@blueprint.get(
    "/v1/images/<image_id>/embedding", summary="Get a picture's vector", responses={200: models.Embedding}
)
@requires("search")
def get_embedding(path: ImagePath, query: CollectionQuery) -> Response:
    """Return the unit vector that the index holds, and its statistics."""
    vector = _collection(query.collection, path.image_id).vector(path.image_id)
    return jsonify(
        models.Embedding(
            vector=vector.tolist(),
            dimension=len(vector),
            norm=float(np.linalg.norm(vector)),
            min=float(vector.min()),
            max=float(vector.max()),
            mean=float(vector.mean()),
        ).model_dump()
    )


def _where(filters: str | None) -> Where | None:
    if filters is None:
        return None
    try:
        document = load_json(filters, "The parameter `filters`")
    except BadRequest as error:
        fault: FieldError = {"pointer": "/filters", "message": "not JSON"}
        raise InvalidRequest(error.description or "not JSON", [fault]) from None
    return parse_where(document)


def _collection(name: str, image_id: str) -> Collection:
    """Open a collection. Raises CollectionNotFound; ImageNotFound in an unused default one."""
    collection = open_collection(name)
    if collection is None:
        raise no_image(image_id)
    return collection
