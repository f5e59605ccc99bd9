"""The kinds of dual encoder that are taken, by the `model_type` of their config.json, and how they differ.

Imports neither torch nor transformers. What all have in common, the features by `get_image_features` and
`get_text_features`, is in towers.py; what a checkpoint itself says is asked of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared.models import JsonObject


@dataclass(frozen=True, slots=True)
class Kind:
    """What a `model_type` stands for; whoever adds one says all that does not hold for it as for "clip".

    transformers must have its model class, with `vision_model`, `text_model` and `logit_scale`, and its
    features be what its `get_image_features` and `get_text_features` answer as `pooler_output`. For tests and
    benchmarks it needs a shape in benchmarks/random_checkpoint.py, too.
    """

    # How its makers call it.
    name: str
    # What transformers takes where a vision_config says nothing; the fingerprint has it.
    vision: JsonObject
    # The sets of files that a tokenizer can be read from.
    tokenizers: tuple[tuple[str, ...], ...]
    # The length of a vector, by config.json.
    dimension: Callable[[JsonObject], int]
    # Computes the features of patches from the model and pixels, (n * patches, dimension).
    patches: Callable[[Any, Any], Any]
    # Whether its text tower finds the token whose state it takes: of the text_config, the tokenizer and the
    # tokens of a text.
    pools: Callable[[Any, Any, Sequence[int]], bool]
    # The image processor of a checkpoint that names none.
    processor: str = "CLIPImageProcessor"
    # Whether positions of texts begin after the padding token's number.
    positions_after_padding: bool = False
    # Whether each text is as long as the longest, and its padding is read like any token.
    padded: bool = False
    # Whether texts are lower-cased, unless the tokenizer's `do_lower_case` is false.
    lowered: bool = False
    # How cosines become probabilities: by a softmax over texts, or by a sigmoid for each.
    score: Literal["softmax", "sigmoid"] = "softmax"
    # Without it, our own texts (of tags, nsfw, confidence) are noise to it.
    knows_english: bool = True

    def max_tokens(self, text_config: Any, tokenizer: Any) -> int:
        """Return the length of the longest text in tokens, end marks included."""
        positions: int = text_config.max_position_embeddings
        if self.positions_after_padding:
            positions -= text_config.pad_token_id + 1
        return positions if self.padded else int(min(tokenizer.model_max_length, positions))


def _projection(config: JsonObject) -> int:
    return int(config.get("projection_dim", 512))


def _projection_of_altclip(config: JsonObject) -> int:
    return int(config.get("projection_dim", 768))


def _width_of_vision(config: JsonObject) -> int:
    return int((config.get("vision_config") or {}).get("hidden_size", 768))


def _patches_by_projection(model: Any, pixels: Any) -> Any:
    """Compute patches as the class token is computed, but for the last layer's attention (MaskCLIP)."""
    tower = model.vision_model
    last = tower.encoder.layers[-1]
    states = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
    values = last.self_attn.v_proj(last.layer_norm1(states))
    without_class = tower.post_layernorm(last.self_attn.out_proj(values)[:, 1:])
    return model.visual_projection(without_class.flatten(0, 1))


def _patches_by_pooling_head(model: Any, pixels: Any) -> Any:
    """Compute patches by the attention-pooling head, each as if it were the only one."""
    states = model.vision_model(pixel_values=pixels).last_hidden_state
    return model.vision_model.head(states.flatten(0, 1)[:, None])


def _pools_at_first(text_config: Any, tokenizer: Any, tokens: Sequence[int]) -> bool:
    """Not every tokenizer that puts the mark says that it is one."""
    named = tokenizer.cls_token_id
    return bool(tokens[0] == (text_config.bos_token_id if named is None else named))


def _pools_at_last(_text_config: Any, _tokenizer: Any, _tokens: Sequence[int]) -> bool:
    return True  # every text has a last token


def _pools_at_end(text_config: Any, _tokenizer: Any, tokens: Sequence[int]) -> bool:
    return text_config.eos_token_id in tokens


def _pools_at_end_or_greatest(text_config: Any, tokenizer: Any, tokens: Sequence[int]) -> bool:
    """As `_pools_at_end`, but where an older configuration says 2, at the token of the greatest number."""
    if text_config.eos_token_id == 2:
        return bool(max(tokens) == tokenizer.eos_token_id)
    return _pools_at_end(text_config, tokenizer, tokens)


_CLIP_VISION: JsonObject = {
    "hidden_act": "quick_gelu",
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-5,
}
_SIGLIP_VISION: JsonObject = {
    "hidden_act": "gelu_pytorch_tanh",
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-6,
}
# A tokenizer.json says neither which token pads nor how long a text may be.
_FAST = ("tokenizer.json", "tokenizer_config.json")

KINDS: dict[str, Kind] = {
    "clip": Kind(
        "CLIP",
        _CLIP_VISION,
        (("tokenizer.json",), ("vocab.json", "merges.txt")),
        _projection,
        _patches_by_projection,
        _pools_at_end_or_greatest,
    ),
    "metaclip_2": Kind(
        "MetaCLIP 2",
        _CLIP_VISION,
        (("tokenizer.json",), ("sentencepiece.bpe.model",)),
        _projection,
        _patches_by_projection,
        _pools_at_end,
    ),
    "siglip": Kind(
        "SigLIP or SigLIP 2",
        _SIGLIP_VISION,
        (_FAST, ("spiece.model",), ("tokenizer.model", "tokenizer_config.json")),
        _width_of_vision,
        _patches_by_pooling_head,
        _pools_at_last,
        processor="SiglipImageProcessor",
        padded=True,
        lowered=True,
        score="sigmoid",
    ),
    "chinese_clip": Kind(
        "Chinese-CLIP",
        _CLIP_VISION,
        (("tokenizer.json",), ("vocab.txt",)),
        _projection,
        _patches_by_projection,
        _pools_at_first,
        knows_english=False,
    ),
    "altclip": Kind(
        "AltCLIP",
        _CLIP_VISION,
        (_FAST, ("sentencepiece.bpe.model", "tokenizer_config.json")),
        _projection_of_altclip,
        _patches_by_projection,
        _pools_at_first,
        positions_after_padding=True,
    ),
}

# What published checkpoints read, by their ids, for people who choose one.
LANGUAGES = {
    "starter": "English, of drawings",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "English",
    "openai/clip-vit-base-patch32": "English",
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K": "English",
    "google/siglip2-base-patch32-256": "many",
    "google/siglip2-base-patch16-224": "many",
    "google/siglip2-so400m-patch14-224": "many",
    "facebook/metaclip-2-worldwide-b32": "329, by its authors",
    "OFA-Sys/chinese-clip-vit-base-patch16": "Chinese",
    "BAAI/AltCLIP": "Chinese, English",
}
