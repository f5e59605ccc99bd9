"""Checkpoints of every kind with random weights, where no trained model may be downloaded."""

from pathlib import Path
from typing import Any, Literal

from benchmarks import random_tokenizers
from shared.models import JsonObject

Shape = Literal[
    "ViT-B/32",
    "ViT-L/14",
    "laion ViT-B/32",
    "laion ViT-L/14",
    "SigLIP B/16",
    "SigLIP 2 B/32",
    "SigLIP 2 B/16",
    "SigLIP 2 SO400M/14",
    "MetaCLIP 2 B/32",
    "Chinese-CLIP B/16",
    "AltCLIP",
    "tiny",
    "tiny metaclip_2",
    "tiny siglip",
    "tiny siglip 2",
    "tiny chinese_clip",
    "tiny altclip",
]

_L_14 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
_L_14_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
}
_GELU = {"hidden_act": "gelu"}  # laion's; openai's is quick_gelu
_SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_TINY_VISION = {**_TINY, "image_size": 32, "patch_size": 8}


def _shape(kind: str, text: JsonObject, vision: JsonObject, **config: Any) -> tuple[str, JsonObject]:
    return kind, {**config, "text_config": text, "vision_config": vision}


_SHAPES: dict[Shape, tuple[str, JsonObject]] = {
    "ViT-B/32": _shape("clip", {"vocab_size": 49408}, {}, projection_dim=512),
    "ViT-L/14": _shape("clip", _L_14_TEXT, _L_14, projection_dim=768),
    "laion ViT-B/32": _shape("clip", {"vocab_size": 49408, **_GELU}, _GELU, projection_dim=512),
    "laion ViT-L/14": _shape("clip", {**_L_14_TEXT, **_GELU}, {**_L_14, **_GELU}, projection_dim=768),
    "SigLIP B/16": _shape("siglip", {}, {}),
    "SigLIP 2 B/32": _shape("siglip", {"vocab_size": 256_000}, {"image_size": 256, "patch_size": 32}),
    "SigLIP 2 B/16": _shape("siglip", {"vocab_size": 256_000}, {"image_size": 224, "patch_size": 16}),
    "SigLIP 2 SO400M/14": _shape(
        "siglip", {**_SO400M, "vocab_size": 256_000}, {**_SO400M, "image_size": 224, "patch_size": 14}
    ),
    "MetaCLIP 2 B/32": _shape("metaclip_2", {"vocab_size": 901_629}, {}, projection_dim=512),
    "Chinese-CLIP B/16": _shape(
        "chinese_clip", {"vocab_size": 21_128}, {"patch_size": 16}, projection_dim=512
    ),
    "AltCLIP": _shape("altclip", {"vocab_size": 250_002, "project_dim": 768}, _L_14, projection_dim=768),
    "tiny": _shape("clip", {**_TINY, "vocab_size": 514}, _TINY_VISION, projection_dim=32),
    "tiny metaclip_2": _shape("metaclip_2", {**_TINY, "vocab_size": 512}, _TINY_VISION, projection_dim=32),
    "tiny siglip": _shape("siglip", {**_TINY, "vocab_size": 512}, _TINY_VISION),
    "tiny siglip 2": _shape(
        "siglip",
        {**_TINY, "vocab_size": 512, "hidden_size": 48},
        {**_TINY, "hidden_size": 48, "image_size": 48, "patch_size": 16},
    ),
    "tiny chinese_clip": _shape(
        "chinese_clip", {**_TINY, "vocab_size": 512}, _TINY_VISION, projection_dim=32
    ),
    "tiny altclip": _shape(
        "altclip", {**_TINY, "vocab_size": 512, "project_dim": 32}, _TINY_VISION, projection_dim=32
    ),
}


def make_random_checkpoint(
    folder: Path, *, seed: int = 0, shape: Shape = "ViT-B/32", spread: float = 1.0
) -> None:
    """Writes a standard checkpoint, model, tokenizer and image processor, into `folder`, which is created.

    In fp32 ViT-B/32 (512 dimensions, 224 px) takes 605 MB, ViT-L/14 (768 dimensions, 224 px) 1.7 GB, the
    tiny ones (32 dimensions, 32 px; of SigLIP 2 48 and 48) 0.3 MB, which load in milliseconds. The same seed
    gives the same weights. Speed and plumbing are those of a trained model; what it finds means nothing. A
    transformer's weights give nearly the same vector for all texts: `spread` multiplies its matrices, but for
    those of positions, so that vectors differ.
    """
    import torch  # noqa: PLC0415 - seconds to import, and only this function needs it
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    from transformers import AutoConfig, AutoModel  # noqa: PLC0415

    kind, sizes = _SHAPES[shape]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, images, processor = _processing(kind, folder, gemma="siglip 2" in shape.lower())
    special = {
        name: number
        for name in ("bos_token_id", "eos_token_id", "pad_token_id")
        if (number := getattr(tokenizer, name)) is not None
    }
    config = AutoConfig.for_model(kind, **{**sizes, "text_config": {**sizes["text_config"], **special}})
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = AutoModel.from_config(config)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "position" not in name and "token_type" not in name:
                parameter.mul_(spread)
    model.save_pretrained(folder)
    side = config.vision_config.image_size
    exact = {"height": side, "width": side}
    size = {"size": exact} if kind == "siglip" else {"size": {"shortest_edge": side}, "crop_size": exact}
    processor(images(**size), tokenizer).save_pretrained(folder)


def _processing(kind: str, folder: Path, *, gemma: bool) -> tuple[Any, Any, Any]:
    """The tokenizer of a kind, and the classes of its image processor and of its processor."""
    # Only after transformers' logging is set: importing an image processor warns of a missing torchvision.
    import transformers  # noqa: PLC0415

    if kind == "siglip":
        tokenizer = (
            random_tokenizers.gemma_tokenizer()
            if gemma
            else random_tokenizers.sentencepiece_tokenizer(64, folder)
        )
        return tokenizer, transformers.SiglipImageProcessor, transformers.SiglipProcessor
    if kind == "chinese_clip":
        tokenizer = random_tokenizers.bert_tokenizer(512)
        return tokenizer, transformers.ChineseCLIPImageProcessor, transformers.ChineseCLIPProcessor
    if kind == "clip":
        tokenizer = random_tokenizers.clip_tokenizer(77)
    else:
        tokenizer = random_tokenizers.xlm_roberta_tokenizer(77 if kind == "metaclip_2" else 512)
    processor = transformers.AltCLIPProcessor if kind == "altclip" else transformers.CLIPProcessor
    return tokenizer, transformers.CLIPImageProcessor, processor
