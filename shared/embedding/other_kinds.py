"""What people name as a model and cannot be used here: what it is, and the nearest that works.

Data for `unusable`, which judges a folder and a repository on the hub alike, by small files and names alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Any

from shared.embedding.kinds import KINDS
from shared.models import JsonObject

# Files in which a checkpoint can name code of its own.
CODE_FILES = {"config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"}

_CLIP = "take a CLIP, such as openai/clip-vit-base-patch32"
_SIGLIP_2 = "take a SigLIP 2 of fixed resolution, such as google/siglip2-base-patch16-256"
_WHOLE = f"take a checkpoint with both towers: {_CLIP.removeprefix('take ')}"
_FOR_TRANSFORMERS = (
    "take a checkpoint saved for transformers, such as laion/CLIP-ViT-B-32-laion2B-s34B-b79K, which has a "
    "config.json with a model_type"
)
_PLAIN_WEIGHTS = "save it as model.safetensors, or take one that has it, such as openai/clip-vit-base-patch32"

# By patterns of `model_type`, the first that fits: what it is, and the nearest that works.
_TYPES: dict[str, tuple[str, str]] = {
    "siglip2": ("a NaFlex SigLIP 2, which takes each picture in a shape of its own", _SIGLIP_2),
    "siglip*_vision_model": ("only the picture tower of a SigLIP", _SIGLIP_2),
    "siglip*_text_model": ("only the text tower of a SigLIP", _SIGLIP_2),
    "*clip*_vision_model": ("only the picture tower of a model", _WHOLE),
    "*clip*_text_model": ("only the text tower of a model", _WHOLE),
    "clip_text_*": ("only the text tower of a model", _WHOLE),
    "jina_clip": ("a Jina CLIP, which needs code of its own", _SIGLIP_2),
    "nomic_bert": ("a Nomic Embed model, which needs code of its own", _SIGLIP_2),
    "align": ("an ALIGN model, whose picture tower is none that is taken", _SIGLIP_2),
    "vision-text-dual-encoder": ("a pair of towers of any two models", _SIGLIP_2),
    "mobileclip*": ("a MobileCLIP, which transformers does not read", _CLIP),
    "flava": ("a FLAVA model, which compares pictures and texts otherwise", _CLIP),
    "blip*": ("a BLIP, which writes about pictures", _CLIP),
    "instructblip*": ("a BLIP, which writes about pictures", _CLIP),
    "vilt": ("a ViLT, which answers questions about pictures", _CLIP),
    "bridgetower": ("a BridgeTower, which reads a picture with each text anew", _CLIP),
    "*llava*": ("a chat model that sees", _SIGLIP_2),
    "*_vl*": ("a chat model that sees", _SIGLIP_2),
    "paligemma": ("a chat model that sees", _SIGLIP_2),
    "owlv*": ("an OWL, which finds objects in pictures", _CLIP),
    "grounding-dino": ("a Grounding DINO, which finds objects in pictures", _CLIP),
    "clipseg": ("a CLIPSeg, which cuts objects out of pictures", _CLIP),
    "groupvit": ("a GroupViT, which cuts pictures into objects", _CLIP),
    "xclip": ("an X-CLIP, which is for videos", _CLIP),
    "clap": ("a CLAP, which is for sounds", _CLIP),
    "clvp": ("a CLVP, which is for speech", _CLIP),
    **dict.fromkeys(
        ("*bert", "*bert-v2", "*bert*-*", "xlm-roberta*", "mpnet", "t5", "gpt2", "llama", "gemma*", "qwen?"),
        ("a model of texts alone", _SIGLIP_2),
    ),
    **dict.fromkeys(
        ("vit", "vit_*", "deit", "beit", "dino*", "swin*", "convnext*", "resnet", "timm_wrapper", "ijepa"),
        ("a model of pictures alone", _CLIP),
    ),
}

# By patterns of names at the top, the first that fits, where there is no config.json that says more.
_LAYOUTS: dict[str, tuple[str, str]] = {
    "open_clip_*": ("it was saved for open_clip alone", _FOR_TRANSFORMERS),
    "0_CLIPModel": (
        "it is a folder of sentence-transformers, whose CLIP is in the folder 0_CLIPModel",
        "take that, or openai/clip-vit-base-patch32",
    ),
    "modules.json": ("it is a model of sentence-transformers", _SIGLIP_2),
    "model_index.json": ("it is a pipeline that makes pictures", _CLIP),
    "config.json": ("its config.json says no model_type", _FOR_TRANSFORMERS),
}

# By patterns of names at the top, the first that fits, where there are no weights that are read.
_WEIGHTS: dict[str, tuple[str, str]] = {
    "model-*-of-*.safetensors": (
        "it has no model.safetensors.index.json, which says what is in its weight files",
        "get it again, whole",
    ),
    "pytorch_model-*-of-*.bin": (
        "it has no pytorch_model.bin.index.json, which says what is in its weight files",
        "get it again, whole",
    ),
    "open_clip_*": ("its weights are for open_clip alone", _FOR_TRANSFORMERS),
    "model.*.safetensors": ("its weights are there only as a variant (model.….safetensors)", _PLAIN_WEIGHTS),
    "pytorch_model.*.bin": ("its weights are there only as a variant (pytorch_model.….bin)", _PLAIN_WEIGHTS),
    "*.gguf": ("its weights are for llama.cpp (GGUF)", _PLAIN_WEIGHTS),
    "*.onnx": ("its weights are for ONNX", _PLAIN_WEIGHTS),
    "onnx": ("its weights are for ONNX", _PLAIN_WEIGHTS),
    "tf_model*": ("its weights are for TensorFlow", _PLAIN_WEIGHTS),
    "saved_model*": ("its weights are for TensorFlow", _PLAIN_WEIGHTS),
    "flax_model*": ("its weights are for Flax", _PLAIN_WEIGHTS),
    "openvino_model*": ("its weights are for OpenVINO", _PLAIN_WEIGHTS),
    "*.mlpackage": ("its weights are for Core ML", _PLAIN_WEIGHTS),
    **dict.fromkeys(
        ("*.pt", "*.pth", "*.ckpt", "*.pkl"),
        ("its weights are in a pickle, of which only pytorch_model.bin is read", _PLAIN_WEIGHTS),
    ),
}

# By keys of config.json: what they would make transformers do.
_KEYS: dict[str, tuple[str, str]] = {
    "quantization_config": ("its weights are quantized", "take it in fp32, fp16 or bf16"),
    "transformers_weights": (
        "its config.json has the weights in a file of another name (transformers_weights)",
        "rename that to model.safetensors and take the line out",
    ),
}


def unusable(config: JsonObject | None, names: Collection[str]) -> str | None:
    """Return what a checkpoint is that is of no kind taken, and what to take instead; None where it is one.

    `config` is its config.json, None without one; `names` are of the files and folders at its top.
    """
    if "adapter_config.json" in names:
        return f"it is an adapter (adapter_config.json), or holds one; merge it into its model, or {_CLIP}"
    kind = (config or {}).get("model_type")
    if kind is None or kind == "":
        return _first(_LAYOUTS, names)
    if not isinstance(kind, str):
        return f"the model_type in its config.json is no text; {_FOR_TRANSFORMERS}"
    for pattern, (what, nearest) in _TYPES.items():
        if fnmatchcase(kind, pattern):
            return f"it is {what} (type {_quoted(kind)}); {nearest}"
    if kind not in KINDS:
        return f"it is of type {_quoted(kind)}, and the types taken are {', '.join(KINDS)}; {_SIGLIP_2}"
    return next((_sentence(*_KEYS[key]) for key in _KEYS if (config or {}).get(key)), None)


def without_weights(names: Iterable[str]) -> str | None:
    """Return what the weights are of a checkpoint that has none that are read, and what to do."""
    return _first(_WEIGHTS, names)


def names_code(document: Any) -> bool:
    """Return whether a configuration, however deep, names code of its own to be run."""
    parts = [document]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if part.get("auto_map"):
                return True
            parts += part.values()
    return False


def needs_code(file: str) -> str:
    return f"it needs code of its own ({file} has an auto_map), and none is run here; {_SIGLIP_2}"


def _first(table: dict[str, tuple[str, str]], names: Iterable[str]) -> str | None:
    found = (
        _sentence(*table[pattern]) for pattern in table if any(fnmatchcase(name, pattern) for name in names)
    )
    return next(found, None)


def _sentence(what: str, nearest: str) -> str:
    return f"{what}; {nearest}"


def _quoted(kind: str) -> str:
    return repr(kind) if len(kind) <= 60 else f"{kind[:60]!r}…"
