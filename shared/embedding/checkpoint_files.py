"""The files of a checkpoint's folder: what must be there, and the fingerprint that binds collections to them.

Imports neither torch nor transformers: it is done at every start, by processes that encode nothing, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from shared.embedding.kinds import KINDS, Kind
from shared.errors import ModelUnavailable
from shared.imaging.preprocess import Preprocess
from shared.models import JsonObject

STARTER = "starter"
REMEDY = f"set IMAGE_SEARCH_MODEL to a checkpoint's folder or Hugging Face id, or to `{STARTER}`"
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "pytorch_model.bin", "pytorch_model-*-of-*.bin")
SMALL_FILES = ("*.json", "*.txt", "*.model")

_FINGERPRINT_DIGITS = 16
_MAX_HEAD_BYTES = 100 * 2**20  # safetensors reads no longer one


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
    kind = KINDS[config["model_type"]]
    vision: JsonObject = kind.vision | (config.get("vision_config") or {})
    head = {
        "dimension": kind.dimension(config),
        "preprocess": preprocessing(folder).to_json(),
        "hidden_act": vision["hidden_act"],
        "heads": vision["num_attention_heads"],
        "layer_norm_eps": vision["layer_norm_eps"],
    }
    # Of "clip" it says nothing, since collections are bound to fingerprints without it.
    return head if config["model_type"] == "clip" else head | {"model_type": config["model_type"]}


def preprocessing(folder: Path) -> Preprocess:
    """Read how the checkpoint prepares pictures. Raises as Preprocess.from_checkpoint does."""
    return Preprocess.from_checkpoint(folder, KINDS[_config(folder)["model_type"]].processor)


def dimension(folder: Path) -> int:
    """Return how many numbers a vector of the checkpoint has."""
    config = _config(folder)
    return KINDS[config["model_type"]].dimension(config)


def weight_files(folder: Path) -> list[Path]:
    """List the weights that transformers would load, in name order; safetensors before pickles."""
    for pattern in WEIGHTS:
        if found := sorted(folder.glob(pattern)):
            return found
    return []


def fault(folder: Path) -> str | None:
    """Return why the folder holds no checkpoint that can be used, without loading it; None where it does."""
    try:
        kind = _config(folder).get("model_type")
    except (OSError, ValueError):
        return "its config.json cannot be read"
    if kind not in KINDS:
        return f"it is of type {kind!r}, and the types taken are {', '.join(KINDS)}"
    return _missing(folder, KINDS[kind]) or _misshapen(folder)


def _missing(folder: Path, kind: Kind) -> str | None:
    def has(*names: str) -> bool:
        return all((folder / name).is_file() for name in names)

    weights = weight_files(folder)
    if not weights:
        return "it has no weights (model.safetensors or pytorch_model.bin)"
    shards = re.search(r"-of-0*(\d+)\.", weights[0].name)
    if shards and len(weights) != int(shards[1]):
        return f"it has only {len(weights)} of its {shards[1]} weight files"
    if not any(has(*names) for names in kind.tokenizers):
        files = ", or ".join(" and ".join(names) for names in kind.tokenizers)
        return f"it has no tokenizer ({files})"
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
