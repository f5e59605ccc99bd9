from pathlib import Path

import pytest

from benchmarks.random_checkpoint import make_random_checkpoint
from shared.embedding.checkpoint_files import fingerprint
from shared.embedding.checkpoints import resolve_model
from shared.errors import ModelUnavailable
from tests.unit.shared.embedding.configurations import change_json


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("model.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
        ("processor_config.json", "prepare pictures"),
    ],
)
def test_an_incomplete_checkpoint_says_what_it_lacks(copy: Path, lost: str, named: str) -> None:
    (copy / lost).unlink()
    with pytest.raises(ModelUnavailable, match=named):
        resolve_model(str(copy))


def test_a_missing_shard_makes_a_checkpoint_incomplete(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelUnavailable, match="only 1 of its 2 weight files"):
        resolve_model(str(copy))


@pytest.mark.parametrize(("config", "named"), [('{"model_type": "bert"}', "'bert'"), ("[", "config.json")])
def test_a_checkpoint_of_another_kind_is_refused(copy: Path, config: str, named: str) -> None:
    (copy / "config.json").write_text(config)
    with pytest.raises(ModelUnavailable, match=named):
        resolve_model(str(copy))


def test_weights_whose_copy_broke_off_are_refused_before_anything_is_loaded(copy: Path) -> None:
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    for data in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole + b"\0",
        whole[:4],
        b"",
        b"\xff" * 64,
        b"{}" * 9,
    ):
        weights.write_bytes(data)
        with pytest.raises(ModelUnavailable, match=r"damaged \(model\.safetensors") as caught:
            resolve_model(str(copy))
        assert not caught.value.passing
    weights.write_bytes(whole)
    assert resolve_model(str(copy)) == copy


@pytest.mark.parametrize(
    ("file", "keys", "value"),
    [
        ("config.json", ["projection_dim"], "wide"),
        ("config.json", ["vision_config"], "none"),
        ("processor_config.json", ["image_processor", "resample"], "cubic"),
    ],
)
def test_a_checkpoint_whose_configuration_makes_no_sense_is_refused(
    copy: Path, file: str, keys: list[str], value: object
) -> None:
    change_json(copy / file, *keys, value=value)
    with pytest.raises(ModelUnavailable, match="cannot be used"):
        resolve_model(str(copy))


def test_the_fingerprint_survives_a_move(tiny: Path, copy: Path) -> None:
    assert fingerprint(copy) == fingerprint(tiny)
    assert len(fingerprint(tiny)) == 16
    assert set(fingerprint(tiny)) <= set("0123456789abcdef")


def test_the_fingerprint_follows_weights_preprocessing_and_dimension(tiny: Path, copy: Path) -> None:
    seen = {fingerprint(copy)}
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    seen.add(fingerprint(copy))
    change_json(copy / "processor_config.json", "image_processor", "image_mean", value=[0.5, 0.5, 0.5])
    seen.add(fingerprint(copy))
    change_json(copy / "config.json", "projection_dim", value=64)
    seen.add(fingerprint(copy))
    change_json(copy / "config.json", "vision_config", "hidden_act", value="gelu")
    seen.add(fingerprint(copy))
    assert len(seen) == 5


def test_another_seed_is_another_model(tiny: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_random_checkpoint(tmp_path / str(seed), seed=seed, shape="tiny")
    assert fingerprint(tmp_path / "0") == fingerprint(tiny)
    assert fingerprint(tmp_path / "1") != fingerprint(tiny)
