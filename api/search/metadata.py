"""What a collection's own metadata are: their names, types and frequent values, to filter by."""

from flask import Response, jsonify

from api.context import context, open_collection
from api.http.auth import requires
from api.http.openapi import make_blueprint
from api.search.nsfw_filter import visible
from api.search.requests import MetadataPath
from image_search import models
from shared.errors import IndexUnavailable
from shared.index.survey import MAX_LISTED, Name

WAIT_SECONDS = 10.0

blueprint = make_blueprint("metadata", __name__, tag="collections")


@blueprint.get(
    "/v1/collections/<name>/metadata",
    summary="List a collection's metadata names and frequent values",
    responses={200: models.CollectionMetadata},
)
@requires("search")
def get_collection_metadata(path: MetadataPath) -> Response:
    """Return the names that pictures of the collection have, with types and frequent values, to filter by.

    Up to 5,000 pictures are looked at, spread over the collection, for a second and a half at most:
    `complete` says whether these are all. What was found is kept for some seconds. With `NSFW_MAX` set,
    pictures above that are left out.
    """
    collection = open_collection(path.name)
    survey = context().surveys.get(collection, visible(None), WAIT_SECONDS) if collection else None
    if collection is not None and survey is None:
        raise IndexUnavailable("The pictures could not be looked at in time.")
    names = list(survey.names.values()) if survey else []
    return jsonify(
        models.CollectionMetadata(
            collection=path.name,
            pictures=survey.pictures if survey else 0,
            complete=survey.complete if survey else True,
            names=[_answer(one) for one in names[:MAX_LISTED]],
            more_names=len(names) > MAX_LISTED,
            fields=[_answer(one) for one in survey.fields] if survey else [],
        ).model_dump()
    )


def _answer(name: Name) -> models.MetadataName:
    return models.MetadataName(
        name=name.name,
        pictures=name.pictures,
        types={str(kind): count for kind, count in name.types.items()},
        values=[models.FacetCount(value=value, count=count) for value, count in name.values],
        more_values=not name.all_values,
    )
