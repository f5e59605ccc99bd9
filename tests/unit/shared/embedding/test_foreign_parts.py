"""A tokenizer or weights that are not the model's are refused at the start, in one sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.random_checkpoint import Shape
from shared.embedding.encoder import Encoder
from shared.errors import ModelUnavailable
from tests.checkpoints import tiny_checkpoint
from tests.unit.shared.embedding.configurations import change_json
from tests.unit.shared.embedding.reference_models import SHAPES

Weights = dict[str, Any]


def load(folder: Path) -> Encoder:
    return Encoder.load(str(folder), device="cpu", precision="fp32")


def refusal(folder: Path) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    assert "\n" not in caught.value.detail
    assert str(folder) in caught.value.detail
    assert (
        "repair its files, or name another (IMAGE_SEARCH_MODEL sets the default one)" in caught.value.detail
    )
    return caught.value.detail


def tokenizer_of(other: Shape, folder: Path) -> None:
    made = folder.parent / "other"
    tiny_checkpoint(made, shape=other)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(made / name, folder / name)


@pytest.mark.parametrize(
    ("shape", "other", "said"),
    [
        ("tiny siglip 2", "tiny", "514 tokens, and its text tower only 512: it is another model's"),
        ("tiny metaclip_2", "tiny", "514 tokens"),
        ("tiny", "tiny altclip", "does not give the token"),
        ("tiny chinese_clip", "tiny siglip 2", "does not give the token"),
        ("tiny altclip", "tiny siglip 2", "does not give the token"),
        ("tiny metaclip_2", "tiny siglip 2", "does not give the token"),
    ],
)
def test_another_models_tokenizer_is_refused(shape: Shape, other: Shape, said: str, tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "model", shape=shape)
    tokenizer_of(other, tmp_path / "model")
    assert said in refusal(tmp_path / "model")


def test_a_tokenizer_that_cannot_pad_is_refused(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "model", shape="tiny siglip 2")
    config = tmp_path / "model/tokenizer_config.json"
    change_json(config, "tokenizer_class", value="PreTrainedTokenizerFast")
    change_json(config, "pad_token", value=None)
    assert "names no padding token" in refusal(tmp_path / "model")


def test_an_end_token_that_no_text_has_is_refused(copy: Path) -> None:
    change_json(copy / "config.json", "text_config", "eos_token_id", value=7)
    assert "does not give the token" in refusal(copy)


def change_weights(folder: Path, change: Callable[[Weights], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("shape", SHAPES)
def test_missing_surplus_and_misshapen_weights_are_named_and_counted(shape: Shape, tmp_path: Path) -> None:
    def lacking(weights: Weights) -> None:
        for name in sorted(weights)[-3:]:
            del weights[name]

    def surplus(weights: Weights) -> None:
        weights["text_model.a"] = weights["text_model.b"] = np.zeros(3, np.float32)

    def misshapen(weights: Weights) -> None:
        weights["logit_scale"] = np.zeros(3, np.float32)

    for change, said in (
        (lacking, "its weights lack vision_model"),
        (surplus, "its weights hold what its config.json says nothing of: text_model.a (and 1 more)"),
        (misshapen, "its weights are not of the shapes that its config.json says: logit_scale;"),
    ):
        folder = tmp_path / change.__name__
        tiny_checkpoint(folder, shape=shape)
        change_weights(folder, change)
        assert said in refusal(folder)


@pytest.mark.parametrize("shape", ["tiny", "tiny siglip"])
@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 200.0])
def test_a_scale_that_makes_no_finite_scores_is_refused(shape: Shape, scale: float, tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "model", shape=shape)
    change_weights(
        tmp_path / "model",
        lambda weights: weights.update(logit_scale=np.full_like(weights["logit_scale"], scale)),
    )
    assert "logit_scale or logit_bias makes no finite scores" in refusal(tmp_path / "model")


def test_more_layers_than_the_configuration_says_are_refused(copy: Path) -> None:
    change_json(copy / "config.json", "vision_config", "num_hidden_layers", value=1)
    assert "says nothing of: vision_model.encoder.layers.1." in refusal(copy)


@pytest.mark.parametrize("shape", SHAPES)
def test_position_numbers_and_poolers_that_checkpoints_still_hold_are_no_surplus(
    shape: Shape, tmp_path: Path
) -> None:
    tiny_checkpoint(tmp_path / "model", shape=shape)

    def add(weights: Weights) -> None:
        weights["vision_model.embeddings.position_ids"] = np.arange(17)[None]
        text = "text_model.roberta" if shape == "tiny altclip" else "text_model"
        weights[f"{text}.embeddings.position_ids"] = np.arange(77)[None]
        weights[f"{text}.pooler.dense.weight"] = np.zeros((32, 32), np.float32)

    change_weights(tmp_path / "model", add)
    load(tmp_path / "model")
