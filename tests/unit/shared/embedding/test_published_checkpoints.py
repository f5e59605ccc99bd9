"""Checkpoints are read as transformers reads them, with the configurations that published ones have."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.random_checkpoint import Shape
from shared.embedding.checkpoint_files import preprocessing
from shared.errors import ModelUnavailable
from tests.unit.shared.embedding.configurations import change_json
from tests.unit.shared.embedding.reference_models import SAME, SHAPES, TEXTS, Model, least

OF_CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
OF_SIGLIP = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
DONE = {"do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 1 / 255}
SQUARE = {"height": 224, "width": 224}
NULLS = dict.fromkeys(
    ("data_format", "device", "do_convert_rgb", "do_pad", "input_data_format", "return_tensors")
)

PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai/clip-vit-base-patch32": (
        "clip",
        OF_CLIP
        | {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3}
        | {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224},
    ),
    "laion's ViT-H-14": (
        "clip",
        OF_CLIP
        | DONE
        | {"crop_size": SQUARE, "do_center_crop": True, "do_convert_rgb": True, "resample": 3}
        | {"feature_extractor_type": "CLIPFeatureExtractor", "size": {"shortest_edge": 224}},
    ),
    "facebook/metaclip-2-worldwide-huge": (
        "metaclip_2",
        OF_CLIP
        | DONE
        | NULLS
        | {"crop_size": SQUARE, "default_to_square": False, "do_center_crop": True, "resample": 3}
        | {"image_processor_type": "CLIPImageProcessorFast", "size": {"shortest_edge": 224}},
    ),
    "google/siglip-base-patch16-224": (
        "siglip",
        OF_SIGLIP
        | DONE
        | {"image_processor_type": "SiglipImageProcessor", "processor_class": "SiglipProcessor"}
        | {"resample": 3, "size": SQUARE},
    ),
    "google/siglip2-so400m-patch14-384": (
        "siglip",
        OF_SIGLIP
        | DONE
        | {"do_convert_rgb": None, "image_processor_type": "SiglipImageProcessor", "resample": 2}
        | {"processor_class": "SiglipProcessor", "size": {"height": 384, "width": 384}},
    ),
    "a SigLIP saved with every null": (
        "siglip",
        OF_SIGLIP
        | DONE
        | NULLS
        | {"crop_size": None, "do_center_crop": None, "image_processor_type": "SiglipImageProcessorFast"}
        | {"size": SQUARE},
    ),
    "OFA-Sys/chinese-clip-vit-base-patch16": (
        "chinese_clip",
        OF_CLIP
        | {"do_center_crop": False, "do_normalize": True, "do_resize": True, "resample": 3, "crop_size": 224}
        | {"feature_extractor_type": "ChineseCLIPFeatureExtractor", "size": SQUARE},
    ),
    "BAAI/AltCLIP": (
        "altclip",
        OF_CLIP
        | {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3}
        | {"image_processor_type": "CLIPImageProcessor", "size": 224, "processor_class": "AltCLIPProcessor"},
    ),
    "another processor that says all": (
        "siglip",
        OF_SIGLIP | DONE | {"image_processor_type": "ViTImageProcessor", "resample": 2, "size": 96},
    ),
    "grey numbers": ("siglip", {"image_mean": 0.5, "image_std": 0.25, "size": [96, 64]}),
    "Pillow's by its name": (
        "clip",
        {"image_processor_type": "CLIPImageProcessorPil", "size": 96, "crop_size": 80},
    ),
} | {
    f"{kind}, the processor's class only": (kind, {"processor_class": "AnyProcessor"})
    for kind in ("clip", "metaclip_2", "siglip", "chinese_clip", "altclip")
}


def write(folder: Path, kind: str, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", PROCESSORS)
def test_pictures_are_prepared_as_transformers_prepares_them(name: str, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor  # noqa: PLC0415 - seconds to import

    kind, config = PROCESSORS[name]
    preprocess = preprocessing(write(tmp_path, kind, config))
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8)).resize((500, 260))
    expected = AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="np")["pixel_values"][0]
    crop = preprocess.crop(image, 1, *image.size).astype(np.float32)
    grey = preprocess.rescale / min(preprocess.std)  # Pillow rounds a few pixels another way
    ours = (crop * preprocess.rescale - preprocess.mean) / preprocess.std
    np.testing.assert_allclose(ours.transpose(2, 0, 1), expected, atol=2.1 * grey)
    assert np.abs(ours.transpose(2, 0, 1) - expected).mean() < 0.01 * grey


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"size": 224}, "keeps the shape"),
        ({"do_center_crop": True}, "does not say crop_size"),
        (
            {"image_processor_type": "ViTImageProcessor"},
            "ViTImageProcessor.* does not say size, resample, image_mean",
        ),
        (
            {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 16},
            "Siglip2ImageProcessor is not known",
        ),
    ],
)
def test_what_a_processor_does_not_say_and_is_not_known_is_named(
    config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnavailable, match=said):
        preprocessing(write(tmp_path, "siglip", config))


def without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def told(**values: Any) -> Callable[[Path], None]:
    """Say so in tokenizer_config.json."""

    def change(folder: Path) -> None:
        for name, value in values.items():
            change_json(folder / "tokenizer_config.json", name, value=value)

    return change


def word_pieces_alone(folder: Path) -> None:
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in sorted(vocab, key=vocab.get)))
    without("tokenizer.json", "tokenizer_config.json")(folder)


TOKENIZERS: dict[str, tuple[Shape, Callable[[Path], object]]] = {
    "spiece.model alone": ("tiny siglip", without("tokenizer_config.json")),
    "vocab.txt alone": ("tiny chinese_clip", word_pieces_alone),
    "CLIP's tokenizer.json alone": ("tiny", without("tokenizer_config.json")),
    "BERT's tokenizer.json alone": ("tiny chinese_clip", without("tokenizer_config.json")),
    "MetaCLIP 2's tokenizer.json alone": ("tiny metaclip_2", without("tokenizer_config.json")),
    "Gemma's by its old name": ("tiny siglip 2", told(tokenizer_class="GemmaTokenizerFast")),
    "Gemma's with a longest text": ("tiny siglip 2", told(model_max_length=64)),
    "Gemma's that is said to read more": ("tiny siglip 2", told(model_max_length=10**30)),
    "SigLIP's that is said to read less": ("tiny siglip", told(model_max_length=16)),
    "XLM-R's by its old name": ("tiny altclip", told(tokenizer_class="XLMRobertaTokenizerFast")),
    "XLM-R's that is said to read more": ("tiny altclip", told(model_max_length=10**30)),
    "BERT's by its old name": ("tiny chinese_clip", told(tokenizer_class="BertTokenizerFast")),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_are_read_as_transformers_reads_them(name: str, tmp_path: Path) -> None:
    shape, change = TOKENIZERS[name]
    model = Model(shape, tmp_path / "model", change)
    assert model.encoder.max_tokens == SHAPES[shape].longest
    assert least(model.encoder.encode_texts(TEXTS), model.texts(TEXTS)) >= SAME


@pytest.mark.parametrize("shape", ["tiny", "tiny metaclip_2", "tiny chinese_clip", "tiny altclip"])
def test_padding_that_is_said_to_come_first_moves_no_text(shape: Shape, tmp_path: Path) -> None:
    model = Model(shape, tmp_path / "model", told(padding_side="left"))
    assert least(model.encoder.encode_texts(TEXTS), model.texts(TEXTS)) >= SAME


def without_class_token(folder: Path) -> None:
    """As a tokenizer of `tokenizers` is saved whose maker names none."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    kept = {name: config[name] for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(kept | {"tokenizer_class": "PreTrainedTokenizerFast"})
    )


def test_a_first_token_need_not_be_named(tmp_path: Path) -> None:
    model = Model("tiny altclip", tmp_path / "model", without_class_token)
    assert least(model.encoder.encode_texts(TEXTS), model.texts(TEXTS)) >= SAME


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_is_cut_where_the_kind_reads_no_further(shape: Shape, tmp_path: Path) -> None:
    model = Model(shape, tmp_path / "model")
    # One token a letter in every tokenizer, but for the marks around it.
    texts = [" ".join("z" * count) for count in range(1, SHAPES[shape].longest + 2, 3)]
    cut = [model.encoder.truncated(text) for text in texts]
    assert cut == sorted(cut)
    assert set(cut) == {False, True}
    first = cut.index(True)
    vectors = model.encoder.encode_texts([texts[first - 1], f"{texts[-1]} a", f"{texts[-1]} b"])
    assert least(vectors[1:2], vectors[2:]) >= SAME
    assert least(vectors[:1], vectors[1:2]) < 1
