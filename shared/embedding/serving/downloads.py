"""Downloads of models in the background: one of each at a time in a process.

The hub's client locks files in its cache, so that of several processes of a machine one loads each down.
"""

import threading
import time
from pathlib import Path

import structlog

from shared.embedding.checkpoints import folder_here, resolve_model
from shared.embedding.hub import downloading, progress
from shared.errors import ModelNotReady, ModelUnavailable

RETRY_SECONDS = 30.0

log = structlog.get_logger()

_lock = threading.Lock()
_running: set[str] = set()
_failed: dict[str, tuple[ModelUnavailable | None, float]] = {}  # and until when it is not tried again


def at_hand(model: str) -> Path:
    """Return the folder of a checkpoint, which is downloaded in the background if need be.

    Raises ModelNotReady meanwhile, and ModelUnavailable, for RETRY_SECONDS, where that has failed.
    """
    folder = folder_here(model)
    if folder is None:
        begin(model)
        if error := failure(model):
            raise ModelUnavailable(error.detail, passing=error.passing)
        done = progress(model)
        far = f": {done:.0%} of it is here" if done else ""
        raise ModelNotReady(f"The model {model} is being downloaded{far}.")
    return folder


def begin(model: str) -> None:
    """Download a model in the background, unless that is under way or has just failed."""
    with _lock:
        _, until = _failed.get(model, (None, 0.0))
        if model in _running or time.monotonic() < until:
            return
        _failed.pop(model, None)
        _running.add(model)
    threading.Thread(target=_run, args=[model], name="model-download", daemon=True).start()


def running() -> set[str]:
    """Return the models that this process downloads, also in the foreground."""
    return {*_running, *downloading()}


def failure(model: str) -> ModelUnavailable | None:
    """Return why the last download failed."""
    return _failed.get(model, (None, 0.0))[0]


def _run(model: str) -> None:
    try:
        resolve_model(model)
    except ModelUnavailable as error:
        _failed[model] = (error.bare(), time.monotonic() + RETRY_SECONDS)
        log.warning("model_not_downloaded", model=model, reason=error.detail)
    finally:
        with _lock:
            _running.discard(model)
