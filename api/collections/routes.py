"""Collections: named sets of pictures, each bound to the model that writes it."""

from flask import Response, jsonify, make_response, url_for

from api.collections.answers import collection_answer
from api.collections.named_models import NamedModel, named_model
from api.collections.requests import CollectionPath, CollectionRequest
from api.context import main_model, services
from api.http.auth import authorize, requires
from api.http.openapi import component, make_blueprint, string_headers
from api.images.edits import remove_collection
from image_search import models

blueprint = make_blueprint("collections", __name__)
_CREATED = {
    "description": "Created",
    "headers": string_headers({"Location": "The collection."}),
    "content": {"application/json": component(blueprint, models.Collection)},
}


@blueprint.get("/v1/collections", summary="List collections", responses={200: models.CollectionList})
@requires("search")
def list_collections() -> Response:
    """Return every collection with its number of pictures and its model, by name."""
    found = [collection_answer(info) for info in services().index.collections()]
    return jsonify(models.CollectionList(collections=found).model_dump())


@blueprint.post("/v1/collections", summary="Create a collection", responses={201: _CREATED})
@requires("ingest")
def create_collection(body: CollectionRequest) -> Response:
    """Create an empty collection, bound to the server's default model, or to `model` (with `admin`).

    Ingesting into a new name makes one of the default model, too.
    """
    if body.model is not None:
        authorize("admin")
    bound = named_model(services().settings, body.model) if body.model is not None else main_model()
    collection = services().index.create(
        body.name, model=bound.name, fingerprint=bound.fingerprint, dimension=bound.dimension
    )
    if isinstance(bound, NamedModel):
        bound.fetch()
    response = make_response(jsonify(collection_answer(collection.info).model_dump()), 201)
    response.headers["Location"] = url_for("collections.get_collection", name=body.name)
    return response


@blueprint.get("/v1/collections/<name>", summary="Get a collection", responses={200: models.Collection})
@requires("search")
def get_collection(path: CollectionPath) -> Response:
    """Return one collection."""
    return jsonify(collection_answer(services().index.collection(path.name).info).model_dump())


@blueprint.delete("/v1/collections/<name>", summary="Delete a collection", responses={204: None})
@requires("admin")
def delete_collection(path: CollectionPath) -> tuple[str, int]:
    """Delete a collection with its pictures, also those that jobs which are running still bring.

    Such a job may leave an empty collection of this name.
    """
    remove_collection(services(), path.name)
    return "", 204
