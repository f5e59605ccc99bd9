"""What is no checkpoint of a kind that is taken: one sentence says what it is and what to take instead."""

import json
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from shared.embedding import other_kinds
from shared.embedding.checkpoint_files import fault
from shared.embedding.checkpoints import resolve_model
from shared.embedding.kinds import KINDS
from shared.errors import ModelUnavailable
from tests.unit.shared.embedding.configurations import change_json


def refusal(folder: Path) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        resolve_model(str(folder))
    assert not caught.value.passing
    detail = caught.value.detail
    assert "\n" not in detail
    assert detail.endswith(".")
    assert len(detail) < 500
    return detail


@pytest.mark.parametrize(
    ("kind", "what", "nearest"),
    [
        ("siglip2", "NaFlex", "google/siglip2-base-patch16-256"),
        ("siglip_vision_model", "only the picture tower", "google/siglip2"),
        ("siglip2_text_model", "only the text tower", "google/siglip2"),
        ("clip_vision_model", "only the picture tower", "openai/clip"),
        ("clip_text_model", "only the text tower", "openai/clip"),
        ("chinese_clip_vision_model", "only the picture tower", "both towers"),
        ("altclip_text_model", "only the text tower", "both towers"),
        ("jina_clip", "code of its own", "google/siglip2"),
        ("nomic_bert", "code of its own", "google/siglip2"),
        ("align", "ALIGN", "google/siglip2"),
        ("vision-text-dual-encoder", "two models", "google/siglip2"),
        ("blip", "writes about pictures", "openai/clip"),
        ("blip-2", "writes about pictures", "openai/clip"),
        ("flava", "FLAVA", "openai/clip"),
        ("owlvit", "finds objects", "openai/clip"),
        ("clipseg", "cuts objects", "openai/clip"),
        ("groupvit", "cuts pictures", "openai/clip"),
        ("xclip", "videos", "openai/clip"),
        ("clap", "sounds", "openai/clip"),
        ("clvp", "speech", "openai/clip"),
        ("bert", "texts alone", "google/siglip2"),
        ("distilbert", "texts alone", "google/siglip2"),
        ("xlm-roberta", "texts alone", "google/siglip2"),
        ("vit", "pictures alone", "openai/clip"),
        ("dinov2", "pictures alone", "openai/clip"),
        ("qwen2_vl", "chat", "google/siglip2"),
        ("llava", "chat", "google/siglip2"),
        ("CLIP", "the types taken are clip,", "google/siglip2"),
        ("x" * 10_000, "the types taken are clip,", "google/siglip2"),
        ("evil\n\x1b[31m", "the types taken are clip,", "google/siglip2"),
    ],
)
def test_a_model_of_another_kind_is_told_what_it_is_and_what_works(
    copy: Path, kind: str, what: str, nearest: str
) -> None:
    change_json(copy / "config.json", "model_type", value=kind)
    detail = refusal(copy)
    assert what in detail
    assert nearest in detail


def test_no_kind_that_is_taken_is_another_kind() -> None:
    assert not [kind for kind in KINDS for one in other_kinds._TYPES if fnmatchcase(kind, one)]


def empty(folder: Path, *files: str) -> Path:
    """Leaves of a checkpoint the `files`, and makes those of them that it has not."""
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        if not (folder / file).exists():
            (folder / file).write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("files", "what", "nearest"),
    [
        (["open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"], "open_clip", "laion/"),
        (["open_clip_pytorch_model.bin"], "open_clip", "laion/"),
        (["modules.json", "0_CLIPModel/config.json"], "0_CLIPModel", "openai/clip"),
        (["modules.json", "1_Pooling/config.json"], "sentence-transformers", "google/siglip2"),
        (["model_index.json", "text_encoder/config.json"], "pipeline", "openai/clip"),
        (["adapter_config.json", "adapter_model.safetensors"], "adapter", "merge"),
        (["ViT-B-32.pt"], "pickle", "openai/clip"),
        (["model.gguf"], "GGUF", "openai/clip"),
        ([], "config.json", "IMAGE_SEARCH_MODEL"),
    ],
)
def test_a_folder_without_a_configuration_is_told_what_it_is(
    copy: Path, files: list[str], what: str, nearest: str
) -> None:
    detail = refusal(empty(copy, *files))
    assert what in detail
    assert nearest in detail


def test_an_open_clip_checkpoint_with_a_configuration_that_says_no_type_is_told_so(copy: Path) -> None:
    (copy / "config.json").write_text("{}")
    assert "config.json says no model_type" in refusal(copy)
    (copy / "open_clip_config.json").write_text("{}")
    assert "open_clip alone" in refusal(copy)


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("model.fp16.safetensors", "variant"),
        ("model.onnx", "ONNX"),
        ("onnx/model.onnx", "ONNX"),
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
        ("open_clip_model.safetensors", "open_clip"),
        ("model-00001-of-00002.safetensors", "index"),
        ("weights.pt", "pickle"),
        ("pytorch_model.pkl", "pickle"),
    ],
)
def test_weights_of_another_framework_are_named(copy: Path, file: str, what: str) -> None:
    (copy / "model.safetensors").unlink()
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).write_bytes(b"")
    assert what in refusal(copy)


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("config.json", ["auto_map"]),
        ("config.json", ["vision_config", "auto_map"]),
        ("tokenizer_config.json", ["auto_map"]),
        ("processor_config.json", ["auto_map"]),
        ("processor_config.json", ["image_processor", "auto_map"]),
    ],
)
@pytest.mark.parametrize(
    "code", [{"AutoModel": "modeling_evil.Evil"}, ["evil.Slow", "evil.Fast"], "evil.Evil"]
)
def test_a_checkpoint_that_names_code_of_its_own_is_refused(
    copy: Path, file: str, keys: list[str], code: Any
) -> None:
    change_json(copy / file, *keys, value=code)
    detail = refusal(copy)
    assert f"{file} has an auto_map" in detail
    assert "none is run here" in detail


def test_an_empty_auto_map_names_no_code(copy: Path) -> None:
    change_json(copy / "config.json", "auto_map", value={})
    assert fault(copy) is None


def test_a_preprocessor_that_names_code_is_refused_as_well(copy: Path) -> None:
    processor = json.loads((copy / "processor_config.json").read_text())["image_processor"]
    (copy / "processor_config.json").unlink()
    (copy / "preprocessor_config.json").write_text(json.dumps(processor))
    assert fault(copy) is None
    change_json(copy / "preprocessor_config.json", "auto_map", value={"AutoImageProcessor": "evil.Evil"})
    assert "preprocessor_config.json has an auto_map" in refusal(copy)


def test_an_adapter_beside_a_whole_model_is_refused(copy: Path) -> None:
    # Where peft is installed, transformers would load it, or the model that it names.
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    assert "adapter_config.json" in refusal(copy)


def test_quantized_weights_are_refused(copy: Path) -> None:
    change_json(copy / "config.json", "quantization_config", value={"quant_method": "bitsandbytes"})
    assert "quantized" in refusal(copy)


def test_a_file_is_told_to_be_one(copy: Path) -> None:
    assert "name the folder it is in" in refusal(copy / "model.safetensors")


@pytest.mark.parametrize("name", ["x" * 5000, "~no-such-user-here/model", "a\0b", "", " "])
def test_a_name_that_can_be_no_models_is_one_sentence(name: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        resolve_model(name)
    assert len(caught.value.detail) < 500


def test_a_clip_in_a_folder_of_sentence_transformers_is_taken_by_its_own_folder(
    copy: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "clip-ViT-B-32"
    shutil.copytree(copy, whole / "0_CLIPModel")
    (whole / "modules.json").write_text("[]")
    assert "0_CLIPModel" in refusal(whole)
    assert resolve_model(str(whole / "0_CLIPModel"))
