"""The models that a request may name for a collection."""

from dataclasses import dataclass
from pathlib import Path

from shared.config import Settings
from shared.embedding.checkpoint_files import STARTER, dimension, fingerprint
from shared.embedding.checkpoints import AUTO, resolve_model
from shared.errors import InvalidRequest, ModelUnavailable


@dataclass(frozen=True, slots=True)
class NamedModel:
    """What binds a collection to a model."""

    name: str
    fingerprint: str
    dimension: int


def named_model(settings: Settings, name: str) -> NamedModel:
    """Return the model that a request names: a Hugging Face id, `starter`, or a folder below MODELS_FOLDER.

    Raises InvalidRequest for another folder, and for a model that cannot be had.
    """
    try:
        _check_place(settings, name)
        folder = resolve_model(name)
        return NamedModel(name, fingerprint(folder), dimension(folder))
    except ModelUnavailable as error:
        raise InvalidRequest(error.detail, [{"pointer": "/model", "message": error.detail}]) from None


def _check_place(settings: Settings, name: str) -> None:
    if name == AUTO:
        raise ModelUnavailable("`auto` is no model: name one, or leave `model` out for the default one.")
    path = Path(name).expanduser()
    if name == STARTER or not (path.is_dir() or name.startswith((".", "/", "~"))):
        return
    allowed = settings.models_folder
    if name != settings.model and not (allowed and path.resolve().is_relative_to(allowed.resolve())):
        where = f"below {allowed}" if allowed else "below IMAGE_SEARCH_MODELS_FOLDER, which is not set"
        raise ModelUnavailable(f"The model's folder must be {where}.")
