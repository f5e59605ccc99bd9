"""The models that a request may name for a collection."""

from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from shared.config import Settings
from shared.embedding.checkpoint_files import STARTER, dimension, fingerprint, fingerprint_by
from shared.embedding.checkpoints import AUTO, folder_here
from shared.embedding.hub import look
from shared.embedding.serving import downloads
from shared.errors import InvalidRequest, ModelUnavailable

MOST_FOLDERS = 200
_MOST_ENTRIES = 1_000  # of one folder that are looked at


@dataclass(frozen=True, slots=True)
class NamedModel:
    """What binds a collection to a model, which is perhaps still to be downloaded."""

    name: str
    fingerprint: str
    dimension: int
    is_here: bool = True

    def fetch(self) -> None:
        """Download the weights in the background, where they are not here."""
        if not self.is_here:
            downloads.begin(self.name)


def named_model(settings: Settings, name: str, *, anywhere: bool = False) -> NamedModel:
    """Return the model that a request names: a Hugging Face id, `starter`, or a folder below MODELS_FOLDER.

    With `anywhere` it may be any folder.

    Of an id that is not here it takes the small files, and the digests of the weights by the hub's word: what
    is downloaded must have the same fingerprint to be used. Raises InvalidRequest for another folder, and for
    a model that cannot be had.
    """
    if name == AUTO:
        detail = "`auto` is no model: name one" + (
            "." if anywhere else ", or leave `model` out for the default one."
        )
        raise InvalidRequest(detail).at("/model")
    try:
        name = _checked(settings, name, anywhere=anywhere)
        if folder := folder_here(name):
            return NamedModel(name, fingerprint(folder), dimension(folder))
        remote = look(name)
    except ModelUnavailable as error:
        raise InvalidRequest(error.detail).at("/model") from None
    if remote.digests is None:
        raise InvalidRequest(
            f"The hub gives no SHA-256 of the weights of {name}, so that what to bind the collection to is "
            f"known only once they are here: download them first, by `hf download {name}` say."
        ).at("/model")
    bound = fingerprint_by(remote.folder, remote.digests)
    return NamedModel(name, bound, dimension(remote.folder), is_here=False)


def model_folders(settings: Settings) -> list[str]:
    """List folders that hold a checkpoint, one or two levels below MODELS_FOLDER, MOST_FOLDERS at most."""
    allowed = settings.models_folder
    if allowed is None:
        return []
    top = allowed.expanduser().absolute()
    children = _folders(top, allowed)
    grandchildren = (inner for child in children for inner in _folders(child, allowed))
    found = (one for one in chain(children, grandchildren) if (one / "config.json").is_file())
    return [str(one) for one in islice(found, MOST_FOLDERS)]


def _folders(folder: Path, allowed: Path) -> list[Path]:
    with suppress(OSError):
        entries = sorted(islice(folder.iterdir(), _MOST_ENTRIES))
        return [one for one in entries if one.is_dir() and _is_below(one, allowed)]
    return []


def _checked(settings: Settings, name: str, *, anywhere: bool) -> str:
    """Return a name that other processes understand, too. Raises ModelUnavailable where it is not allowed."""
    if name in (STARTER, settings.model):
        return name
    try:
        path = Path(name).expanduser()
        if not name.startswith((".", "/", "~")) and not path.exists():
            return name
    except (OSError, RuntimeError, ValueError):  # whoever looks for it says so
        return name
    allowed = settings.models_folder
    if not (anywhere or (allowed and _is_below(path, allowed))):
        where = f"below {allowed}" if allowed else "below IMAGE_SEARCH_MODELS_FOLDER, which is not set"
        raise ModelUnavailable(f"The model's folder must be {where}.")
    return str(path.absolute())


def _is_below(path: Path, allowed: Path) -> bool:
    """Return whether a path is in the allowed folder, wherever links and `..` lead."""
    with suppress(OSError, RuntimeError, ValueError):
        return path.resolve().is_relative_to(allowed.expanduser().resolve())
    return False
