import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.random_checkpoint import make_random_checkpoint
from shared.embedding.checkpoint_files import fingerprint, weight_files
from shared.embedding.checkpoints import resolve_model
from shared.errors import ModelUnavailable
from tests.unit.shared.embedding.configurations import change_json


def write_index(folder: Path, weight_map: dict[str, str], name: str = "model.safetensors") -> None:
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{name}.index.json").write_text(json.dumps(index))


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
    with pytest.raises(ModelUnavailable, match=r"no model\.safetensors\.index\.json"):
        resolve_model(str(copy))
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write_index(copy, shards)
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
        ("config.json", ["model_type"], ["clip"]),
        ("config.json", ["model_type"], 5),
        ("config.json", ["projection_dim"], float("nan")),
        ("config.json", ["projection_dim"], float("inf")),
        ("config.json", ["projection_dim"], -3),
        ("config.json", ["vision_config"], ["x"]),
        ("processor_config.json", ["image_processor", "crop_size"], float("inf")),
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


@pytest.mark.parametrize(
    "config", ["[]", "null", "5", '"clip"', "[" * 100_000, "\xff", '{"model_type": NaN}']
)
def test_a_configuration_that_is_no_object_is_one_sentence(copy: Path, config: str) -> None:
    (copy / "config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(ModelUnavailable, match=r"cannot be used: [^\n]*\.$"):
        resolve_model(str(copy))


def split(folder: Path, torch: Any) -> None:
    """Saves the weights as two shards."""
    from transformers import AutoModel  # noqa: PLC0415

    AutoModel.from_pretrained(folder).save_pretrained(folder / "shards", max_shard_size="100KB")
    (folder / "model.safetensors").unlink()
    for path in (folder / "shards").glob("model*"):
        path.rename(folder / path.name)
    shutil.rmtree(folder / "shards")


def test_what_is_fingerprinted_is_what_is_loaded(copy: Path, tiny: Path, torch: Any) -> None:
    from shared.embedding.towers import read_checkpoint  # noqa: PLC0415

    def loaded() -> Any:
        return read_checkpoint(copy)[0].visual_projection.weight.detach().numpy().tobytes()

    whole = loaded()
    split(copy, torch)
    shards = weight_files(copy)
    assert len(shards) > 1
    assert resolve_model(str(copy)) == copy
    assert loaded() == whole
    sharded = fingerprint(copy)
    # Shards that the index does not name, variants and pickles are neither loaded nor counted.
    (copy / "model-00009-of-00009.safetensors").write_bytes(b"another save's")
    (copy / "model.fp16.safetensors").write_bytes(b"a variant")
    os.mkfifo(copy / "pytorch_model.bin")  # whose reader would wait for ever
    assert (fingerprint(copy), loaded()) == (sharded, whole)
    # One file goes before shards.
    shutil.copy(tiny / "model.safetensors", copy)
    assert fingerprint(copy) == fingerprint(tiny)
    for shard in shards:
        shard.write_bytes(b"spoilt")
    assert loaded() == whole


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "/tmp/outside.safetensors",
        "sub/model.safetensors",
        "sub\\model.safetensors",
        "pytorch_model.bin",
        "",
        "a\nb.safetensors",
    ],
)
def test_an_index_that_names_files_elsewhere_is_refused(copy: Path, shard: str) -> None:
    (copy / "model.safetensors").rename(copy.parent / "outside.safetensors")
    write_index(copy, {"logit_scale": shard})
    with pytest.raises(ModelUnavailable, match=r"which is no \.safetensors file beside it"):
        resolve_model(str(copy))


@pytest.mark.parametrize(
    "index", ["[]", "{", "{}", '{"weight_map": {}, "metadata": {}}', '{"weight_map": {"a": "b"}}']
)
def test_an_index_that_cannot_be_read_is_refused(copy: Path, index: str) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelUnavailable, match=r"index\.json cannot be read; get it again"):
        resolve_model(str(copy))


def test_a_weight_file_under_another_name_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "other.safetensors")
    shutil.copy(copy / "other.safetensors", copy / "model.safetensors")
    change_json(copy / "config.json", "transformers_weights", value="other.safetensors")
    with pytest.raises(ModelUnavailable, match="transformers_weights"):
        resolve_model(str(copy))
