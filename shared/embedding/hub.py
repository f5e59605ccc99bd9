"""The model hub: its cache on this machine, and downloads of what a checkpoint needs."""

from __future__ import annotations

import errno
import glob
import re
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import structlog

from shared.embedding.checkpoint_files import REMEDY, SMALL_FILES, amount, unfit, weight_names
from shared.embedding.other_kinds import unusable, without_weights
from shared.errors import RETRYABLE_HTTP_STATUSES, ModelUnavailable

_HUB_TIMEOUT_SECONDS = 3.0  # of one request
_HUB_DEADLINE_SECONDS = 10.0  # of the whole first contact, name look-up and retries included
_UNREACHABLE = "it is not in the cache, or not whole, and cannot be downloaded from the model hub ({})"
_MOST_OF_SMALL = 256 * 2**20  # bytes; the largest tokenizer of a published checkpoint has a quarter
_HOME = "set HF_HOME to a folder on a disk with room"
_ROOM = f"free some, or {_HOME}"
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Of hf_xet's errors, which have no number.
_FULL_IN_WORDS = re.compile(r"no space left|os error 28|disk quota exceeded", re.IGNORECASE)

log = structlog.get_logger()


def cache_folder(model: str) -> Path | None:
    """Return the folder of a Hugging Face id in the cache; None where there is none."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - only a hub id needs the client

    try:
        config = try_to_load_from_cache(model, "config.json")
    except (ValueError, OSError):  # no hub id, or a cache that cannot be read: the download says so
        return None
    return Path(config).parent if isinstance(config, str) else None


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A weight file on the hub: its digest where the hub says it, and `blob`, its name in the cache."""

    name: str
    size: int
    blob: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Remote:
    """A checkpoint on the hub whose small files are here, in `folder`; its weights need not be."""

    model: str
    folder: Path
    weights: Sequence[WeightFile]

    @property
    def digests(self) -> list[bytes] | None:
        """Return the SHA-256 of each weight file, in name order; None where the hub does not say them."""
        named = sorted((one.name, one.sha256) for one in self.weights if one.sha256)
        return [bytes.fromhex(digest) for _, digest in named] if len(named) == len(self.weights) else None

    @property
    def missing(self) -> list[WeightFile]:
        return [one for one in self.weights if not (self.folder / one.name).is_file()]

    @property
    def progress(self) -> float:
        """Return the share of the weights' bytes that are here, unfinished files' too."""
        blobs = self.folder.parents[1] / "blobs"
        missing = self.missing
        here = sum(one.size for one in self.weights if one not in missing)
        here += sum(min(one.size, _newest_size(blobs, f"{one.blob}*")) for one in missing)
        return here / max(1, sum(one.size for one in self.weights))


_running: dict[str, Remote] = {}  # downloads of weights by this process


def downloading() -> list[str]:
    """List the Hugging Face ids whose weights this process downloads."""
    return list(_running)


def progress(model: str) -> float | None:
    """Return how far this process's download of a Hugging Face id is; None while there is none."""
    remote = _running.get(model)
    return remote.progress if remote else None


def look(model: str) -> Remote:
    """Look at a checkpoint on the hub, download its small files, and refuse what cannot be used or kept.

    Raises ModelUnavailable.
    """
    with _explaining(model):
        return _look(model)


def download(model: str) -> Path:
    """Download what is needed of a Hugging Face id; return its folder. Raises ModelUnavailable."""
    with _explaining(model):
        remote = _look(model)
        megabytes = round(sum(one.size for one in remote.missing) / 1e6)
        log.info("downloading model", model=model, megabytes=megabytes)
        _running[model] = remote
        try:
            _fetch_weights(remote)
        finally:
            _running.pop(model, None)
        return remote.folder


@contextmanager
def _explaining(model: str) -> Iterator[None]:
    try:
        yield
    except ModelUnavailable:
        raise
    except Exception as error:  # the hub's client raises its own, its HTTP library's and the file system's
        reason = _cache_refusal(error)
        passing = reason is not None and _is_full(error)
        if reason is None:
            refusal = _hub_refusal(error)
            passing = refusal is None
            reason = f"{refusal or _UNREACHABLE.format(type(error).__name__)}; {REMEDY}"
        raise ModelUnavailable(f"The model {model} cannot be had: {reason}.", passing=passing) from error


def _look(model: str) -> Remote:
    info = _ask_hub(model)
    files = {file.rfilename: file for file in info.siblings or []}
    names = {name.partition("/")[0] for name in files}
    if info.config is not None or "config.json" not in names:
        _refuse(model, unusable(info.config, names) or (None if info.config else without_weights(names)))
    sizes: dict[str, int] = {name: file.size or 0 for name, file in files.items()}
    small = [name for name in files if any(fnmatchcase(name, one) for one in SMALL_FILES) and "/" not in name]
    for name in small:
        if sizes[name] > _MOST_OF_SMALL:
            _refuse(model, f"its {name} has {amount(sizes[name])}, which no checkpoint's has; {REMEDY}")
    _forget_damaged(model, info.sha, sizes)
    _check_room(model, small, sizes)
    folder = _fetch_small(model, small)
    _refuse(model, unfit(folder, names))
    chosen = weight_names(folder, names)
    if not chosen:
        _refuse(model, without_weights(names) or f"it has no weights (model.safetensors); {REMEDY}")
    _check_room(model, chosen, sizes)
    return Remote(model, folder, [_weight_file(name, files.get(name)) for name in chosen])


def _forget_damaged(model: str, commit: str, sizes: dict[str, int]) -> None:
    """Delete what is cached of this commit in another size than the hub says: the client would keep it.

    A page that somebody on the way answered instead of the file, say.
    """
    folder = cache_folder(model)
    if folder is None or folder.name != commit:
        return
    for path in folder.iterdir():  # not what the hub lists, which may lie elsewhere
        size = sizes.get(path.name)
        with suppress(FileNotFoundError):  # another process has just done it
            if size and path.is_file() and path.stat().st_size != size:
                path.resolve().unlink()
                path.unlink()  # the link to it


def _check_room(model: str, names: Iterable[str], sizes: dict[str, int]) -> None:
    """Raise ModelUnavailable where the disk has no room for what is not cached of the files."""
    folder = cache_folder(model)
    wanted = sum(sizes.get(name, 0) for name in names if not (folder and (folder / name).is_file()))
    free = shutil.disk_usage(_existing(_cache())).free
    if wanted > free:
        raise ModelUnavailable(
            f"The model {model} cannot be had: it takes {amount(wanted)} more, and the cache {_cache()} has "
            f"{amount(free)} free; {_ROOM}.",
            passing=True,
        )


def _weight_file(name: str, file: Any) -> WeightFile:
    lfs = getattr(file, "lfs", None)
    sha256 = lfs.sha256 if lfs and re.fullmatch("[0-9a-f]{64}", lfs.sha256) else None
    blob = sha256 or getattr(file, "blob_id", None) or name
    return WeightFile(name, getattr(file, "size", None) or 0, blob, sha256)


def _newest_size(folder: Path, pattern: str) -> int:
    """Return the length of the newest file, since an earlier download may have left unfinished ones."""
    with suppress(OSError):
        states = [path.stat() for path in folder.glob(pattern)]
        return max(states, key=lambda state: state.st_mtime_ns).st_size if states else 0
    return 0


def _fetch_small(model: str, names: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    _quiet()
    return Path(snapshot_download(model, allow_patterns=[glob.escape(name) for name in names]))


def _fetch_weights(remote: Remote) -> None:
    """Download the weights of the small files' commit: what the hub has by now may be another's.

    One by one and without a thread pool, whose threads would hold up the end of this process.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    _quiet()
    for one in remote.weights:
        hf_hub_download(remote.model, one.name, revision=remote.folder.name)


def _quiet() -> None:
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    if not sys.stderr.isatty():
        disable_progress_bars()


def _refuse(model: str, reason: str | None) -> None:
    if reason:
        raise ModelUnavailable(f"The model {model} cannot be used: {reason}.")


def _cache() -> Path:
    from huggingface_hub import constants  # noqa: PLC0415

    return Path(constants.HF_HUB_CACHE)


def _existing(folder: Path) -> Path:
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


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


def _is_full(error: BaseException) -> bool:
    return any(
        getattr(one, "errno", None) in _FULL or _FULL_IN_WORDS.search(str(one)) for one in _chain(error)
    )


def _cache_refusal(error: BaseException) -> str | None:
    """Return why the cache does not take the model; None where it is not the cache."""
    if _is_full(error):
        free = shutil.disk_usage(_existing(_cache())).free
        return f"the disk of the cache {_cache()} is full ({amount(free)} free), or your quota is; {_ROOM}"
    for one in _chain(error):
        if isinstance(one, OSError) and one.filename and one.strerror:
            return f"the cache {_cache()} cannot be written ({one.strerror}); make it writable, or {_HOME}"
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


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
    for one in _chain(error):  # of one file's answer the client makes a file that is not in the cache
        status = getattr(getattr(one, "response", None), "status_code", None)  # of a mirror or proxy, say
        if isinstance(one, errors.HfHubHTTPError) and status and status not in RETRYABLE_HTTP_STATUSES:
            return f"the model hub answers {status}"
    return None
