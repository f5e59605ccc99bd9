"""The checkpoint folder that a MODEL setting means.

Imports neither torch nor transformers: choosing and downloading a model stays cheap.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from shared.embedding.checkpoint_files import REMEDY, STARTER, fault, weight_files
from shared.embedding.hub import cache_folder, download
from shared.errors import ModelUnavailable

AUTO = "auto"

_STARTER_FOLDER = Path(__file__).parent / STARTER


def resolve_model(model: str) -> Path:
    """Return the folder of the checkpoint that `model` names, downloading it if need be.

    `starter` is the checkpoint inside this package; a path is taken as it is; anything else is a Hugging Face
    id, taken from the hub's cache or else downloaded (progress bar on a terminal). Without a network this
    fails within seconds. Raises ModelUnavailable with what to do.
    """
    return folder_here(model) or _checked(download(model), model)


def folder_here(model: str) -> Path | None:
    """Return `resolve_model`'s folder; None of a Hugging Face id that is yet to be downloaded."""
    if model == AUTO:
        raise ValueError("`auto` is decided by resolve_auto, once a deployment")
    if model == STARTER:
        if not _STARTER_FOLDER.is_dir() or not weight_files(_STARTER_FOLDER):
            raise ModelUnavailable(
                f"This build carries no `{STARTER}` model; name another (IMAGE_SEARCH_MODEL sets the default "
                "one): a checkpoint's folder or a Hugging Face id."
            )
        return _checked(_STARTER_FOLDER, model)
    try:
        return _found(model)
    except (OSError, RuntimeError) as error:  # a name too long, a folder of somebody else's, ~nobody
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelUnavailable(
            f"The model {model:.100} cannot be looked for: {reason.rstrip('.')}; {REMEDY}."
        ) from None


def _found(model: str) -> Path | None:
    folder = Path(model).expanduser()
    if folder.is_file():
        raise ModelUnavailable(f"The model {model} cannot be used: it is a file; name the folder it is in.")
    if folder.is_dir():
        return _checked(folder, model)
    if model.startswith((".", "/", "~")):
        raise ModelUnavailable(f"There is no checkpoint (config.json) in the folder {model}; {REMEDY}.")
    return cached(model)


def files_of(model: str) -> list[tuple[str, int, int]]:
    """List name, size and time of each file of a checkpoint that is here, to tell whether one changed."""
    found = []
    with suppress(OSError, RuntimeError, ValueError):  # ValueError: a name that no file system takes
        folder = _STARTER_FOLDER if model == STARTER else Path(model).expanduser()
        if not folder.is_dir() and (cached := cache_folder(model)):
            folder = cached
        for path in sorted(folder.iterdir()):
            state = path.stat()
            found.append((path.name, state.st_size, state.st_ctime_ns))
    return found


def _checked(folder: Path, model: str) -> Path:
    if reason := fault(folder):
        raise ModelUnavailable(f"The model {model} cannot be used: {reason}.")
    return folder


def cached(model: str) -> Path | None:
    """Return the folder of a Hugging Face id in the hub's cache; None where it is not there, or not whole."""
    folder = cache_folder(model)
    return None if folder is None or fault(folder) is not None else folder
