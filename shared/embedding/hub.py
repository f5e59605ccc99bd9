"""The model hub: its cache on this machine, and downloads of what a checkpoint needs."""

from __future__ import annotations

import fnmatch
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import structlog

from shared.embedding.checkpoint_files import REMEDY, SMALL_FILES, WEIGHTS
from shared.embedding.kinds import KINDS
from shared.errors import RETRYABLE_HTTP_STATUSES, ModelUnavailable

_HUB_TIMEOUT_SECONDS = 3.0  # of one request
_HUB_DEADLINE_SECONDS = 10.0  # of the whole first contact, name look-up and retries included

log = structlog.get_logger()


def cache_folder(model: str) -> Path | None:
    """Return the folder of a Hugging Face id in the cache; None where there is none."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - only a hub id needs the client

    try:
        config = try_to_load_from_cache(model, "config.json")
    except (ValueError, OSError):  # no hub id, or a cache that cannot be read: the download says so
        return None
    return Path(config).parent if isinstance(config, str) else None


def download(model: str) -> Path:
    """Download what is needed of a Hugging Face id; return its folder. Raises ModelUnavailable."""
    try:
        return _download(model)
    except ModelUnavailable:
        raise
    except Exception as error:  # the hub's client raises its own, its HTTP library's and the file system's
        reason = _hub_refusal(error)
        told = reason or (
            f"it is not in the cache and cannot be downloaded from the model hub ({type(error).__name__})"
        )
        raise ModelUnavailable(
            f"The model {model} cannot be had: {told}; {REMEDY}.", passing=reason is None
        ) from error


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    info = _ask_hub(model)
    kind = (info.config or {}).get("model_type", "clip")
    if kind not in KINDS:
        raise ModelUnavailable(
            f"The model {model} is of type {kind!r}, and the types taken are {', '.join(KINDS)}; {REMEDY}."
        )
    sizes: dict[str, int] = {file.rfilename: file.size or 0 for file in info.siblings or []}
    weights = next((pattern for pattern in WEIGHTS if fnmatch.filter(sizes, pattern)), WEIGHTS[0])
    patterns = [*SMALL_FILES, weights]
    wanted = {name for pattern in patterns for name in fnmatch.filter(sizes, pattern)}
    log.info("downloading model", model=model, megabytes=round(sum(sizes[name] for name in wanted) / 1e6))
    if not sys.stderr.isatty():
        disable_progress_bars()
    return Path(snapshot_download(model, allow_patterns=patterns))


def _ask_hub(model: str) -> Any:
    """Return the hub's `ModelInfo`. Raises TimeoutError, leaving a hanging name look-up to a thread."""
    from huggingface_hub import HfApi  # noqa: PLC0415

    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(HfApi().model_info(model, timeout=_HUB_TIMEOUT_SECONDS, files_metadata=True))
        except Exception as error:  # handed to the waiting thread
            answer.set_exception(error)

    threading.Thread(target=ask, name="ask-model-hub", daemon=True).start()
    return answer.result(timeout=_HUB_DEADLINE_SECONDS)


def _hub_refusal(error: Exception) -> str | None:
    """Return why the hub never gives the model; None where it may, later."""
    from huggingface_hub import errors  # noqa: PLC0415

    if isinstance(error, errors.HFValidationError):
        return "that is neither a folder nor a Hugging Face id"
    if isinstance(error, errors.GatedRepoError):
        return "it is gated: accept its terms on the hub and set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such model, or it is private and HF_TOKEN is not set"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "it is not in the cache and HF_HUB_OFFLINE forbids a download"
    status = getattr(getattr(error, "response", None), "status_code", None)  # of a mirror or proxy, say
    if isinstance(error, errors.HfHubHTTPError) and status and status not in RETRYABLE_HTTP_STATUSES:
        return f"the model hub answers {status}"
    return None
