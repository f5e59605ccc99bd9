"""The models that collections are of or can be made with, and which of them this process has."""

from collections.abc import Mapping
from contextlib import suppress

from flask import Response, jsonify

from api.collections.named_models import model_folders
from api.context import context, services
from api.encoding.loaded_models import ModelInProcess
from api.http.auth import requires
from api.http.openapi import make_blueprint
from api.http.request_models import QueryModel
from image_search import models
from shared.embedding.checkpoint_files import STARTER, dimension, model_type
from shared.embedding.checkpoints import folder_here
from shared.embedding.hub import progress
from shared.embedding.kinds import LANGUAGES
from shared.embedding.serving import downloads
from shared.errors import ImageSearchError, ModelUnavailable

blueprint = make_blueprint("models", __name__, tag="operations")


class ModelsQuery(QueryModel):
    """The query of `GET /v1/models`, which has no parameters."""


@blueprint.get("/v1/models", summary="List models", responses={200: models.ModelList})
@requires("search")
def list_models(query: ModelsQuery) -> Response:
    """Return the default model, those of collections or of announced switches, and those of this server.

    These are `starter` and the folders below MODELS_FOLDER; any Hugging Face id can be named besides. `state`
    is that of the process that answers, which loads a model when a collection of it is asked for: `absent`
    says only that this has not happened of late, unless `detail` says why it cannot.
    """
    dimensions: dict[str, int | None] = dict.fromkeys(model_folders(services().settings))
    with suppress(ImageSearchError):
        folder_here(STARTER)
        dimensions[STARTER] = None
    with suppress(ImageSearchError):  # what cannot be asked now names none
        dimensions |= dict.fromkeys(services().ledger.models.announced().values())
    with suppress(ImageSearchError):
        dimensions |= {one.model: one.dimension for one in services().index.pointers()}
    return jsonify(models.ModelList(models=model_states(dimensions)).model_dump())


def model_states(others: Mapping[str, int | None] | None = None) -> list[models.ModelState]:
    """Return the states of the default model, then by name of those in this process and of `others`.

    These are the dimensions by name, as far as they are known.
    """
    in_process = context().models.states()
    default = in_process[0].name
    known = {one.name: one for one in reversed(in_process) if one.name is not None}
    dimensions = dict(others or {})
    names = {*known, *downloads.running(), *dimensions}
    ordered = sorted(names, key=lambda name: (name != default, name))
    return [_state(name, known, dimensions.get(name)) for name in ordered]


def _state(name: str, known: Mapping[str, ModelInProcess], dimension_bound: int | None) -> models.ModelState:
    here = known.get(name, ModelInProcess(name))
    kind, length, detail = None, dimension_bound, here.failure
    try:
        if here.encoder is not None:
            kind, length = here.encoder.kind, here.encoder.dimension
        elif folder := folder_here(name):
            kind, length = model_type(folder), dimension(folder)
    except ModelUnavailable as error:
        detail = error.detail
    except (OSError, ValueError, LookupError):  # taken away or written to meanwhile
        pass
    if (failed := downloads.failure(name)) is not None:
        detail = failed.detail
    done = progress(name)
    if here.encoder is not None:
        state = "loaded"
    elif name in downloads.running():
        state = "downloading"
    else:
        state = "loading" if here.is_loading else "absent"
    return models.ModelState(
        name=name,
        kind=kind,
        dimension=length,
        languages=LANGUAGES.get(name),
        state=state,
        progress=(done or 0.0) if state == "downloading" else None,
        detail=None if here.encoder is not None else detail,
    )
