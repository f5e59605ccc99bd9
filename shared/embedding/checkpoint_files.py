"""The files of a checkpoint's folder: what must be there, and the fingerprint that binds collections to them.

Imports neither torch nor transformers: it is done at every start, by processes that encode nothing, too.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.embedding.kinds import KINDS, Kind
from shared.embedding.other_kinds import CODE_FILES, names_code, needs_code, unusable, without_weights
from shared.errors import ModelUnavailable
from shared.imaging.preprocess import Preprocess
from shared.models import JsonObject

STARTER = "starter"
REMEDY = (  # whether a setting or a request named the model
    "name another (IMAGE_SEARCH_MODEL sets the default one): a checkpoint's folder, a Hugging Face id, or "
    f"`{STARTER}`"
)
# One file, or the index of shards.
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
SMALL_FILES = ("*.json", "*.txt", "*.model")

_FINGERPRINT_DIGITS = 16
_SHARD = re.compile(r"[\w.-]+", re.ASCII)  # a name without a path
_MAX_HEAD_BYTES = 100 * 2**20  # safetensors reads no longer one


def fingerprint(folder: Path) -> str:
    """Return the first 16 hex digits of a SHA-256 over what decides a checkpoint's vectors.

    That is the dimension, the preprocessing, the vision settings that leave no trace in the weights, and the
    bytes of the weight files in name order. Moving the folder keeps it; saving the same weights in another
    format changes it.
    """
    return fingerprint_by(folder, map(_sha256, weight_files(folder)))


def fingerprint_by(folder: Path, digests: Iterable[bytes]) -> str:
    """Return the fingerprint of a checkpoint by the SHA-256 of each weight file, in name order.

    The folder need hold the small files alone.
    """
    digest = hashlib.sha256(json.dumps(_head(folder), sort_keys=True).encode())
    for of_file in digests:
        digest.update(of_file)
    return digest.hexdigest()[:_FINGERPRINT_DIGITS]


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


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


def model_type(folder: Path) -> str:
    """Return the checkpoint's `model_type`, a key of KINDS."""
    return str(_config(folder)["model_type"])


def weight_files(folder: Path) -> list[Path]:
    """List the weights that transformers would load, in name order. Raises ModelUnavailable."""
    return [folder / name for name in weight_names(folder, names_in(folder))]


def weight_names(folder: Path, names: Collection[str]) -> list[str]:
    """Choose the weight files among the `names` that a checkpoint has; only an index of shards is read.

    The order is that of transformers: safetensors before pickles, one file before shards, and of shards those
    that the index names. Raises ModelUnavailable for an index that names anything but files beside it.
    """
    for whole, index in WEIGHTS:
        if whole in names:
            return [whole]
        if index in names:
            return _shards(folder / index, Path(whole).suffix)
    return []


def names_in(folder: Path) -> set[str]:
    """Return the names of the files and folders at the top of a folder; none where it cannot be listed.

    Of what else has a name, such as a pipe, a reader would wait for ever.
    """
    with suppress(OSError):
        return {entry.name for entry in folder.iterdir() if entry.is_file() or entry.is_dir()}
    return set()


def fault(folder: Path) -> str | None:
    """Return why the folder holds no checkpoint that can be used, and what to do; None where it does.

    Nothing is loaded.
    """
    names = names_in(folder)
    if reason := unfit(folder, names):
        return reason
    try:
        weights = weight_files(folder)
    except ModelUnavailable as error:
        return error.detail
    return _incomplete(folder, names, weights) or _damaged(weights)


def unfit(folder: Path, names: Collection[str]) -> str | None:
    """Return why a checkpoint of these `names` cannot be used, by the small files in the folder alone."""
    config = None
    if "config.json" in names:
        try:
            config = _config(folder)
        except (OSError, ValueError, RecursionError):
            return f"its config.json cannot be read; {REMEDY}"
    if reason := unusable(config, names) or (without_weights(names) if config is None else None):
        return reason
    if config is None:
        return f"it has no config.json; {REMEDY}"
    for file in sorted(CODE_FILES & set(names)):
        document = _json(folder / file)
        if not isinstance(document, dict):
            return f"its {file} cannot be read; get it again"
        if names_code(document):
            return needs_code(file)
    reason = _without_parts(names, KINDS[config["model_type"]]) or _misshapen(folder)
    return reason and f"{reason}; {REMEDY}"


def _without_parts(names: Collection[str], kind: Kind) -> str | None:
    if not any(set(files) <= set(names) for files in kind.tokenizers):
        files = ", or ".join(" and ".join(files) for files in kind.tokenizers)
        return f"it has no tokenizer ({files})"
    if not {"preprocessor_config.json", "processor_config.json"} & set(names):
        return "it does not say how to prepare pictures (preprocessor_config.json)"
    return None


def _misshapen(folder: Path) -> str | None:
    try:
        _head(folder)
        if dimension(folder) < 1:
            return "its vectors have no numbers, by its config.json"
    except ModelUnavailable as error:
        return error.detail.rstrip(".")
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        return "its config.json cannot be read"
    return None


def _incomplete(folder: Path, names: Collection[str], weights: list[Path]) -> str | None:
    if not weights:
        return (
            without_weights(names) or f"it has no weights (model.safetensors or pytorch_model.bin); {REMEDY}"
        )
    there = [path for path in weights if path.is_file()]
    if len(there) < len(weights):
        return f"it has only {len(there)} of its {len(weights)} weight files; get it again, whole"
    return None


def _damaged(weights: list[Path]) -> str | None:
    for path in weights:
        if path.suffix == ".safetensors" and not _whole(path):
            return f"its weights are damaged ({path.name} is not as long as it says); get it again"
    return None


def _shards(index: Path, suffix: str) -> list[str]:
    document = _json(index)
    try:
        shards = {str(name) for name in document["weight_map"].values()}
        is_whole = isinstance(document["metadata"], dict) and bool(shards)
    except (AttributeError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise ModelUnavailable(f"its {index.name} cannot be read; get it again")
    for name in sorted(shards):
        if not _SHARD.fullmatch(name) or not name.endswith(suffix):
            raise ModelUnavailable(
                f"its {index.name} names {name[:100]!r}, which is no {suffix} file beside it; get it again"
            )
    return sorted(shards)


def _tensors(weights: Path) -> JsonObject:
    """Return what the head of a safetensors file says of each tensor. Raises OSError, ValueError."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(min(length, _MAX_HEAD_BYTES)))
    ends = [tensor["data_offsets"][1] for name, tensor in head.items() if name != "__metadata__"]
    if 8 + length + max(ends, default=0) != weights.stat().st_size:
        raise ValueError("it is not as long as its head says")
    return {name: tensor for name, tensor in head.items() if name != "__metadata__"}


def fp32_bytes(folder: Path) -> int:
    """Estimate the weights' bytes in fp32; those of pickles by the length and the dtype in config.json."""
    total = 0
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            total += sum(4 * math.prod(one["shape"]) for one in _tensors(path).values())
        else:
            config = _config(folder)
            is_half = str(config.get("dtype") or config.get("torch_dtype")) in ("float16", "bfloat16")
            total += path.stat().st_size * (2 if is_half else 1)
    return total


def amount(size: int) -> str:
    """Return a number of bytes for people: 1.7 GB, 43 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{-(-size // 10**6)} MB"


def _whole(path: Path) -> bool:
    """Return whether a safetensors file is as long as its head says: one whose copy broke off is not."""
    try:
        _tensors(path)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return False
    return True


def _config(folder: Path) -> JsonObject:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError("config.json is not an object")  # noqa: TRY004 - malformed data, not a wrong call
    return config


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # what reads it says so
