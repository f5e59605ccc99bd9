"""CLIP checkpoints with random weights, for tests and benchmarks where no trained model may be downloaded."""

from pathlib import Path
from typing import Any

from shared.models import JsonObject

_START = "<|startoftext|>"
_END = "<|endoftext|>"

_VIT_B_32: JsonObject = {
    "projection_dim": 512,
    "text_config": {"vocab_size": 49408},
    "vision_config": {},
}
_TINY: JsonObject = {
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
}


def make_random_checkpoint(folder: Path, *, seed: int = 0, tiny: bool = False) -> None:
    """Writes a standard `CLIPModel` and `CLIPProcessor` checkpoint into `folder`, which is created.

    The shape is ViT-B/32 (512 dimensions, 224 px, 605 MB in fp32), or with `tiny` 32 dimensions and 32 px
    (0.3 MB, loads in milliseconds). The same seed gives the same weights. Speed and plumbing are those of
    a trained model; what it finds means nothing. Its tokenizer has no merges: a token a byte.
    """
    import torch  # noqa: PLC0415 - seconds to import, and only this function needs it
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # Only now: importing the image processor warns where there is no torchvision.
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor  # noqa: PLC0415

    tokenizer = _byte_tokenizer()
    shape = _TINY if tiny else _VIT_B_32
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(**{**shape, "text_config": {**shape["text_config"], **special}})
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
