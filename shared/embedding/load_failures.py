"""A cache of checkpoints that failed to load, so that none is loaded again and again in vain."""

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.embedding.checkpoint_files import REMEDY
from shared.embedding.checkpoints import files_of
from shared.embedding.towers import is_out_of_memory
from shared.errors import ConfigError, ImageSearchError, ModelUnavailable, Unavailable

REFUSAL_TTL_SECONDS = 600.0
# The error numbers of a file that is missing or not this user's: they last until the files change.
_LASTING = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP)

_refused: dict[tuple[str, ...], tuple[str, object, float]] = {}


@contextmanager
def caching_failures(model: str, *how: str) -> Iterator[None]:
    """Run a block that loads or tries a checkpoint; whatever it raises becomes ModelUnavailable.

    A failure that is not `passing` is raised again, without running the block, until the checkpoint's files
    change or REFUSAL_TTL_SECONDS have passed. A ConfigError of another kind is raised as it is.
    """
    detail, files, until = _refused.get((model, *how), ("", None, 0.0))
    if time.monotonic() < until and files == files_of(model):
        raise ModelUnavailable(detail)
    try:
        yield
    except Exception as error:  # safetensors, pickle, json, torch and transformers each raise their own
        refusal = _refusal(model, error)
        if not (isinstance(refusal, ModelUnavailable) and refusal.passing):
            _refused[model, *how] = (refusal.detail, files_of(model), time.monotonic() + REFUSAL_TTL_SECONDS)
        if refusal is error:
            raise
        raise refusal from error


def _refusal(model: str, error: Exception) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, ImageSearchError):
        return ModelUnavailable(error.detail, passing=isinstance(error, Unavailable))
    reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
    passing = (
        is_out_of_memory(error)
        or "CUDA error" in reason  # of a GPU that others use up, too
        or (isinstance(error, OSError) and error.errno not in _LASTING)
    )
    remedy = "it is tried again" if passing else f"repair its files, or {REMEDY}"
    return ModelUnavailable(f"The model {model} cannot be loaded: {reason}; {remedy}.", passing=passing)
