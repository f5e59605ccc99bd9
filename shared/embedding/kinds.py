"""The kinds of dual encoder that are taken, by the `model_type` of their config.json, and how they differ.

Imports neither torch nor transformers. What all have in common, the features by `get_image_features` and
`get_text_features`, is in towers.py; what a checkpoint itself says is asked of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from shared.models import JsonObject


@dataclass(frozen=True, slots=True)
class Kind:
    """What a `model_type` stands for.

    `vision` is what transformers takes where a vision_config says nothing; `dimension` the length of a vector
    by config.json. `tokenizers` are the sets of files that a tokenizer can be read from. Positions of texts
    begin after the padding's number with `positions_after_padding`. With `padded`, each text is as long as
    the longest, and its padding is read like any token. Texts are lower-cased with `lowered`, unless the
    tokenizer's `do_lower_case` is false. `score` says how cosines become probabilities: by a softmax over
    texts, or by a sigmoid for each. Without `knows_english`, our own texts (of tags, nsfw, confidence) are
    noise to it. `patches` computes the features of patches, (n * patches, dimension).
    """

    name: str
    vision: JsonObject
    tokenizers: tuple[tuple[str, ...], ...]
    dimension: Callable[[JsonObject], int]
    patches: Callable[[Any, Any], Any]
    positions_after_padding: bool = False
    padded: bool = False
    lowered: bool = False
    score: Literal["softmax", "sigmoid"] = "softmax"
    knows_english: bool = True

    def max_tokens(self, text_config: Any, tokenizer: Any) -> int:
        """Return the length of the longest text in tokens, end marks included."""
        positions: int = text_config.max_position_embeddings
        if self.positions_after_padding:
            positions -= text_config.pad_token_id + 1
        return int(min(tokenizer.model_max_length, positions))


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
_BYTE_PAIRS = ("vocab.json", "merges.txt")
_XLM_ROBERTA = (("tokenizer.json",), ("sentencepiece.bpe.model",))

KINDS: dict[str, Kind] = {
    "clip": Kind(
        "CLIP", _CLIP_VISION, (("tokenizer.json",), _BYTE_PAIRS), _projection, _patches_by_projection
    ),
    "metaclip_2": Kind("MetaCLIP 2", _CLIP_VISION, _XLM_ROBERTA, _projection, _patches_by_projection),
    "siglip": Kind(
        "SigLIP or SigLIP 2",
        _SIGLIP_VISION,
        (("tokenizer.json",), ("spiece.model",), ("tokenizer.model",)),
        _width_of_vision,
        _patches_by_pooling_head,
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
        knows_english=False,
    ),
    "altclip": Kind(
        "AltCLIP",
        _CLIP_VISION,
        _XLM_ROBERTA,
        _projection_of_altclip,
        _patches_by_projection,
        positions_after_padding=True,
    ),
}
