"""The checkpoint folder that a MODEL setting means, and the fingerprint that binds collections to it.

Imports neither torch nor transformers: choosing, downloading and fingerprinting a model stays cheap.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from shared.errors import ConfigError, ModelUnavailable
from shared.formats import FIELD, check_format
from shared.imaging.preprocess import Preprocess
from shared.models import JsonObject
from shared.storage.blobs import MODEL_KEY, Blobs

AUTO = "auto"
STARTER = "starter"
DEFAULT_MODEL = "openai/clip-vit-base-patch32"
FORMAT = 1  # of the record under MODEL_KEY

_STARTER_FOLDER = Path(__file__).parent / STARTER
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "pytorch_model.bin", "pytorch_model-*-of-*.bin")
_SMALL_FILES = ("*.json", "*.txt")
_HUB_TIMEOUT_SECONDS = 3.0  # of one request
_HUB_DEADLINE_SECONDS = 10.0  # of the whole first contact, name look-up and retries included
_FINGERPRINT_DIGITS = 16
_MAX_HEAD_BYTES = 100 * 2**20  # safetensors reads no longer one
REMEDY = f"set IMAGE_SEARCH_MODEL to a CLIP checkpoint's folder or Hugging Face id, or to `{STARTER}`"

log = structlog.get_logger()


def resolve_model(model: str) -> Path:
    """Return the folder of the CLIP checkpoint that `model` names, downloading it if need be.

    `starter` is the checkpoint inside this package; a path is taken as it is; anything else is a Hugging Face
    id, taken from the hub's cache or else downloaded (progress bar on a terminal). Without a network this
    fails within _HUB_DEADLINE_SECONDS. Raises ModelUnavailable with what to do.
    """
    if model == AUTO:
        raise ValueError("`auto` is decided by resolve_auto, once a deployment")
    if model == STARTER:
        if not _STARTER_FOLDER.is_dir() or not weight_files(_STARTER_FOLDER):
            raise ModelUnavailable(
                f"This build carries no `{STARTER}` model; set IMAGE_SEARCH_MODEL to a CLIP checkpoint's "
                "folder or Hugging Face id."
            )
        return _checked(_STARTER_FOLDER, model)
    folder = Path(model).expanduser()
    if (folder / "config.json").is_file():
        return _checked(folder, model)
    if folder.is_dir() or model.startswith((".", "/", "~")):
        raise ModelUnavailable(f"There is no checkpoint (config.json) in the folder {model}; {REMEDY}.")
    return _checked(_cached(model) or _downloaded(model), model)


def resolve_auto(blobs: Blobs) -> str:
    """Return what `auto` means in this deployment: a model name for `resolve_model`.

    The first call decides and records it under MODEL_KEY: the hub's DEFAULT_MODEL if it is cached or can be
    downloaded, else `starter`. Later calls only read the record, so that vectors of two models never mix.
    Raises ModelUnavailable when neither can be had, and BlobsUnavailable.
    """
    if recorded := _recorded(blobs):
        return recorded
    blobs.put(MODEL_KEY, json.dumps({"model": _decide(), FIELD: FORMAT}).encode())
    decided = _recorded(blobs)  # a process that started at the same moment may have written last
    assert decided is not None  # noqa: S101 - just written
    return decided


def fingerprint(folder: Path) -> str:
    """Return the first 16 hex digits of a SHA-256 over what decides a checkpoint's vectors.

    That is the dimension, the preprocessing, the vision settings that leave no trace in the weights, and the
    bytes of the weight files in name order. Moving the folder keeps it; saving the same weights in another
    format changes it.
    """
    digest = hashlib.sha256(json.dumps(_head(folder), sort_keys=True).encode())
    for path in weight_files(folder):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:_FINGERPRINT_DIGITS]


def _head(folder: Path) -> JsonObject:
    config = _config(folder)
    vision: JsonObject = config.get("vision_config") or {}
    return {
        "dimension": config.get("projection_dim", 512),
        "preprocess": Preprocess.from_checkpoint(folder).to_json(),
        "hidden_act": vision.get("hidden_act", "quick_gelu"),
        "heads": vision.get("num_attention_heads", 12),
        "layer_norm_eps": vision.get("layer_norm_eps", 1e-5),
    }


def dimension(folder: Path) -> int:
    """Return how many numbers a vector of the checkpoint has."""
    return int(_config(folder).get("projection_dim", 512))


def files_of(model: str) -> list[tuple[str, int, int]]:
    """List name, size and time of each file of a checkpoint that is here, to tell whether one changed."""
    folder = _STARTER_FOLDER if model == STARTER else Path(model).expanduser()
    if not folder.is_dir() and (cached := _cache_folder(model)):
        folder = cached
    found = []
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            state = path.stat()
            found.append((path.name, state.st_size, state.st_ctime_ns))
    return found


def weight_files(folder: Path) -> list[Path]:
    """List the weights that transformers would load, in name order; safetensors before pickles."""
    for pattern in _WEIGHTS:
        if found := sorted(folder.glob(pattern)):
            return found
    return []


def _recorded(blobs: Blobs) -> str | None:
    try:
        data = blobs.get(MODEL_KEY)
    except KeyError:
        return None
    try:
        record = json.loads(data)
        check_format(record.get(FIELD), FORMAT, "The recorded model")
        return str(record["model"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"The recorded model ({MODEL_KEY} in the blob store) cannot be read; set IMAGE_SEARCH_MODEL to "
            "the model that wrote the collections."
        ) from None


def _decide() -> str:
    try:
        resolve_model(DEFAULT_MODEL)
    except ModelUnavailable as error:
        reason, passing = error.detail, error.passing
    else:
        log.info("model chosen", model=DEFAULT_MODEL)
        return DEFAULT_MODEL
    try:
        resolve_model(STARTER)
    except ModelUnavailable:
        raise ModelUnavailable(
            f"{reason.removesuffix('.')} (`auto` tried it, and this build carries no `{STARTER}` model).",
            passing=passing,
        ) from None
    log.warning(
        f"using the {STARTER} model: good at emoji, icons and clip art, weak on photographs",
        model=STARTER,
        reason=reason,
    )
    return STARTER


def _checked(folder: Path, model: str) -> Path:
    if fault := _fault(folder):
        raise ModelUnavailable(f"The model {model} cannot be used: {fault}; {REMEDY}.")
    return folder


def _fault(folder: Path) -> str | None:
    try:
        kind = _config(folder).get("model_type")
    except (OSError, ValueError):
        return "its config.json cannot be read"
    if kind != "clip":
        return f"it is of type {kind!r}, not a CLIP model"
    return _missing(folder) or _misshapen(folder)


def _missing(folder: Path) -> str | None:
    def has(*names: str) -> bool:
        return all((folder / name).is_file() for name in names)

    weights = weight_files(folder)
    if not weights:
        return "it has no weights (model.safetensors or pytorch_model.bin)"
    shards = re.search(r"-of-0*(\d+)\.", weights[0].name)
    if shards and len(weights) != int(shards[1]):
        return f"it has only {len(weights)} of its {shards[1]} weight files"
    if not has("tokenizer.json") and not has("vocab.json", "merges.txt"):
        return "it has no tokenizer (tokenizer.json, or vocab.json and merges.txt)"
    if not has("preprocessor_config.json") and not has("processor_config.json"):
        return "it does not say how to prepare pictures (preprocessor_config.json)"
    return None


def _misshapen(folder: Path) -> str | None:
    try:
        _head(folder)
        dimension(folder)
    except ModelUnavailable as error:
        return error.detail.rstrip(".")
    except (AttributeError, TypeError, ValueError):
        return "its config.json cannot be read"
    for path in weight_files(folder):
        if path.suffix == ".safetensors" and not _whole(path):
            return f"its weights are damaged ({path.name} is not as long as it says: get it again)"
    return None


def _whole(path: Path) -> bool:
    """Return whether a safetensors file is as long as its head says: one whose copy broke off is not."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(min(length, _MAX_HEAD_BYTES)))
        ends = [tensor["data_offsets"][1] for name, tensor in head.items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0) == path.stat().st_size
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return False


def _config(folder: Path) -> JsonObject:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError("config.json is not an object")  # noqa: TRY004 - malformed data, not a wrong call
    return config


def _cached(model: str) -> Path | None:
    folder = _cache_folder(model)
    return None if folder is None or _fault(folder) is not None else folder


def _cache_folder(model: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - only a hub id needs the client

    try:
        config = try_to_load_from_cache(model, "config.json")
    except ValueError:  # no hub id: the download says so
        return None
    return Path(config).parent if isinstance(config, str) else None


def _downloaded(model: str) -> Path:
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
    if kind != "clip":
        raise ModelUnavailable(f"The model {model} is of type {kind!r}, not a CLIP model; {REMEDY}.")
    sizes: dict[str, int] = {file.rfilename: file.size or 0 for file in info.siblings or []}
    weights = next((pattern for pattern in _WEIGHTS if fnmatch.filter(sizes, pattern)), _WEIGHTS[0])
    patterns = [*_SMALL_FILES, weights]
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
    return None
