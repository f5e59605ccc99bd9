"""Checkpoints made to run code, or to have something read that is not theirs, loaded for real."""

import json
import os
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from shared.embedding import encoder as encoder_module
from shared.embedding.checkpoint_files import fault, fingerprint
from shared.embedding.encoder import Encoder
from shared.errors import ModelUnavailable
from tests.checkpoints import tiny_checkpoint
from tests.unit.shared.embedding.configurations import change_json


class Evil:
    """Whose pickle makes a file when it is read."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.made)!r}, 'w').close()",)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What code of the checkpoint would make."""
    return tmp_path / "made"


def code(folder: Path, made: Path, name: str = "evil.py") -> None:
    (folder / name).write_text(f"open({str(made)!r}, 'w').close()\n\nclass Evil: pass\n")


def load(folder: Path) -> Encoder:
    return Encoder.load(str(folder), device="cpu", precision="fp32")


def vector(encoder: Encoder) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = encoder.encode_texts(["a photo"])[0]
    return found


def refused(folder: Path, made: Path, match: str) -> None:
    with pytest.raises(ModelUnavailable, match=match) as caught:
        load(folder)
    assert "\n" not in caught.value.detail
    assert not made.exists()


def in_torchs_format(evil: Evil, path: Path, torch: Any) -> None:
    torch.save({"logit_scale": evil}, path)


def as_a_bare_pickle(evil: Evil, path: Path, _torch: Any) -> None:
    path.write_bytes(pickle.dumps({"logit_scale": evil}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_that_are_overwritten_under_a_loaded_model_change_nothing(
    copy: Path, tmp_path: Path, precision: str
) -> None:
    tiny_checkpoint(tmp_path / "other", seed=1)
    encoder = Encoder.load(str(copy), device="cpu", precision=precision)
    before = vector(encoder)
    with (copy / "model.safetensors").open("r+b") as file:
        file.write((tmp_path / "other" / "model.safetensors").read_bytes())
    np.testing.assert_array_equal(vector(encoder), before)
    (copy / "model.safetensors").write_bytes(b"")  # of pages of a file, the next look would kill the process
    np.testing.assert_array_equal(vector(encoder), before)


def test_weights_that_change_while_they_are_read_are_read_again(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_checkpoint(tmp_path / "other", seed=1)
    real: Any = encoder_module.read_checkpoint

    def read(folder: Path, *most: object) -> Any:
        found = real(folder, *most)
        shutil.copy(tmp_path / "other" / "model.safetensors", folder)
        return found

    with monkeypatch.context() as during:
        during.setattr(encoder_module, "read_checkpoint", read)
        with pytest.raises(ModelUnavailable, match="changed while it was loaded") as caught:
            load(copy)
    assert caught.value.passing
    assert load(copy).fingerprint == fingerprint(tmp_path / "other")


@pytest.mark.parametrize("write", [in_torchs_format, as_a_bare_pickle])
def test_a_pickle_that_would_run_code_is_refused(copy: Path, made: Path, write: Any, torch: Any) -> None:
    (copy / "model.safetensors").unlink()
    write(Evil(made), copy / "pytorch_model.bin", torch)
    refused(copy, made, "cannot be loaded")


def test_a_pickle_among_shards_runs_no_code(copy: Path, made: Path, torch: Any) -> None:
    arrays = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    state = {name: torch.from_numpy(array) for name, array in arrays.items() if name != "logit_scale"}
    torch.save(state, copy / "a.bin")
    torch.save({"logit_scale": Evil(made)}, copy / "b.bin")
    weight_map = dict.fromkeys(state, "a.bin") | {"logit_scale": "b.bin"}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (copy / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    refused(copy, made, "cannot be loaded")


def test_a_pickle_beside_safetensors_is_not_touched(copy: Path, tiny: Path, made: Path, torch: Any) -> None:
    torch.save({"logit_scale": Evil(made)}, copy / "pytorch_model.bin")
    os.mkfifo(copy / "training_args.bin")  # whose reader would wait for ever
    np.testing.assert_array_equal(vector(load(copy)), vector(load(tiny)))
    assert fingerprint(copy) == fingerprint(tiny)
    assert not made.exists()


def test_code_beside_a_configuration_that_names_it_is_not_run(copy: Path, made: Path) -> None:
    code(copy, made)
    change_json(copy / "config.json", "auto_map", value={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    refused(copy, made, "auto_map")


def test_code_of_a_tokenizer_is_not_run(copy: Path, made: Path) -> None:
    code(copy, made)
    change_json(
        copy / "tokenizer_config.json", "auto_map", value={"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    )
    refused(copy, made, "auto_map")


@pytest.mark.parametrize("name", ["evil.Evil", "Evil", "../evil.Evil", "os.system", "subprocess.Popen"])
def test_a_class_of_a_tokenizer_that_is_none_of_transformers_is_not_looked_for(
    copy: Path, made: Path, name: str
) -> None:
    for file in ("evil.py", "tokenization_evil.py", "__init__.py"):
        code(copy, made, file)
    change_json(copy / "tokenizer_config.json", "tokenizer_class", value=name)
    try:
        vector(load(copy))
    except ModelUnavailable as error:
        assert "\n" not in error.detail
    assert not made.exists()


@pytest.mark.parametrize(
    "key", ["_attn_implementation", "attn_implementation", "_attn_implementation_internal"]
)
@pytest.mark.parametrize("part", [[], ["vision_config"], ["text_config"]])
def test_an_attention_from_the_hub_is_not_fetched(
    copy: Path, tiny: Path, key: str, part: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    for fetch in ("snapshot_download", "hf_hub_download"):
        monkeypatch.setattr(f"huggingface_hub.{fetch}", lambda *a, **_: asked.append(a))
    change_json(copy / "config.json", *part, key, value="someone/evil-attention")
    try:
        np.testing.assert_array_equal(vector(load(copy)), vector(load(tiny)))
    except ModelUnavailable as error:
        assert "\n" not in error.detail
    assert not asked


def test_an_adapter_that_points_elsewhere_is_not_followed(copy: Path, tmp_path: Path, made: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(copy, elsewhere)
    (copy / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(elsewhere)})
    )
    (copy / "adapter_model.bin").write_bytes(pickle.dumps(Evil(made)))
    refused(copy, made, "adapter")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["vision_config", "image_size"], float("nan")),
        (["vision_config", "image_size"], -1),
        (["vision_config", "patch_size"], 0),
        (["vision_config", "num_attention_heads"], "many"),
        (["vision_config", "num_attention_heads"], 0),
        (["vision_config", "hidden_size"], 10**15),
        (["vision_config", "hidden_act"], "os.system"),
        (["vision_config", "layer_norm_eps"], float("inf")),
        (["text_config", "max_position_embeddings"], None),
        (["text_config", "vocab_size"], 10**12),
        (["text_config", "num_hidden_layers"], 10**7),
        (["vision_config", "num_hidden_layers"], 10**7),
        (["vision_config", "num_hidden_layers"], "many"),
        (["text_config"], []),
        (["vision_config"], None),
        (["dtype"], "float7"),
        (["architectures"], 5),
        (["model_type"], {"a": 1}),
        (["vision_config", "model_type"], "bert"),
    ],
)
def test_sizes_that_make_no_sense_are_one_sentence(
    copy: Path, made: Path, keys: list[str], value: object
) -> None:
    change_json(copy / "config.json", *keys, value=value)
    try:
        load(copy).warm()
    except ModelUnavailable as error:
        assert not error.passing
        assert "\n" not in error.detail
        assert len(error.detail) < 600


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_a_pipe_among_the_files_is_not_waited_for(copy: Path, file: str) -> None:
    (copy / file).unlink(missing_ok=True)
    os.mkfifo(copy / file)
    found: list[object] = []
    reader = threading.Thread(target=lambda: found.append(fault(copy)), daemon=True)
    reader.start()
    reader.join(timeout=10)
    assert len(found) == 1
    assert (found[0] is None) == (file != "config.json")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_a_deep_file_is_looked_through_for_code(copy: Path, file: str) -> None:
    document = json.loads((copy / file).read_text())
    node = document
    for _ in range(500):
        node["a"] = {}
        node = node["a"]
    (copy / file).write_text(json.dumps(document))
    assert fault(copy) is None
    node["auto_map"] = {"AutoModel": "evil.Evil"}
    (copy / file).write_text(json.dumps(document))
    assert "auto_map" in str(fault(copy))


@pytest.mark.parametrize(
    "file", ["tokenizer.json", "tokenizer_config.json", "processor_config.json", "special_tokens_map.json"]
)
@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"5", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
def test_a_small_file_of_another_shape_is_one_sentence(copy: Path, file: str, content: bytes) -> None:
    (copy / file).write_bytes(content)
    try:
        load(copy).warm()
    except ModelUnavailable as error:
        assert "\n" not in error.detail
        assert len(error.detail) < 600
