"""CLIP checkpoints with random weights, for tests and benchmarks where no trained model may be downloaded."""

from pathlib import Path
from typing import Any, Literal

from shared.models import JsonObject

_START = "<|startoftext|>"
_END = "<|endoftext|>"

Shape = Literal["ViT-B/32", "ViT-L/14", "tiny"]
_SHAPES: dict[Shape, JsonObject] = {
    "ViT-B/32": {
        "projection_dim": 512,
        "text_config": {"vocab_size": 49408},
        "vision_config": {},
    },
    "ViT-L/14": {
        "projection_dim": 768,
        "text_config": {
            "vocab_size": 49408,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
        },
    },
    "tiny": {
        "projection_dim": 32,
        "text_config": {
            "vocab_size": 514,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
    },
}


def make_random_checkpoint(folder: Path, *, seed: int = 0, shape: Shape = "ViT-B/32") -> None:
    """Writes a standard `CLIPModel` and `CLIPProcessor` checkpoint into `folder`, which is created.

    In fp32 ViT-B/32 (512 dimensions, 224 px) takes 605 MB, ViT-L/14 (768 dimensions, 224 px) 1.7 GB, `tiny`
    (32 dimensions, 32 px) 0.3 MB, which load in milliseconds. The same seed gives the same weights. Speed and
    plumbing are those of a trained model; what it finds means nothing. Its tokenizer has no merges: a token a
    byte.
    """
    import torch  # noqa: PLC0415 - seconds to import, and only this function needs it
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # Only now: importing the image processor warns where there is no torchvision.
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor  # noqa: PLC0415

    tokenizer = _byte_tokenizer()
    sizes = _SHAPES[shape]
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(**{**sizes, "text_config": {**sizes["text_config"], **special}})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
    side = config.vision_config.image_size
    images = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    CLIPProcessor(images, tokenizer).save_pretrained(folder)


def _byte_tokenizer() -> Any:
    from tokenizers.pre_tokenizers import ByteLevel  # noqa: PLC0415
    from transformers import CLIPTokenizer  # noqa: PLC0415

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{character}</w>" for character in alphabet), _START, _END]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77)
