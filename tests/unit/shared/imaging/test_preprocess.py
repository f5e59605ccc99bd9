"""The crop is that of the reference processor, by whatever configuration a checkpoint has."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import ModelUnavailable
from shared.imaging.decode import open_query_image
from shared.imaging.preprocess import Preprocess
from tests.image_server import make_photo
from tests.unit.shared.imaging.pictures import CLIP, difference, photo, read, save

CLASSIC_CONFIG = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}


SIZES = [(640, 480), (333, 777), (1023, 769), (225, 1001), (2049, 1537), (1536, 2048), (4001, 999), (100, 70)]


@pytest.mark.parametrize("size", SIZES)
def test_the_crop_is_the_reference_processors(size: tuple[int, int]) -> None:
    processors = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    reference = processors.CLIPImageProcessorPil(do_rescale=False, do_normalize=False)
    data = make_photo(size[0], *size)
    image = Image.open(io.BytesIO(data))
    expected = np.asarray(reference(image)["pixel_values"][0]).transpose(1, 2, 0)
    assert difference(read(data).pixels, expected) < 0.6
    assert difference(read(save(image, format="BMP")).pixels, expected) < 0.6


def test_an_exact_size_squashes_like_the_reference() -> None:
    exact = Preprocess((96, 64), None, Image.Resampling.BILINEAR, (0.5,) * 3, (0.5,) * 3, 1 / 255)
    image = photo(300, 200)
    pixels = open_query_image(save(image, format="PNG"), exact, 10**6)
    assert exact.crop_shape == (96, 64)
    assert difference(pixels, np.asarray(image.resize((64, 96), Image.Resampling.BILINEAR))) < 0.01


def write(folder: Path, config: dict[str, Any], name: str = "preprocessor_config.json") -> Path:
    (folder / name).write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "config",
    [
        CLASSIC_CONFIG,
        CLASSIC_CONFIG | {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}},
        {"image_processor_type": "CLIPImageProcessor"},
    ],
)
def test_both_spellings_of_clips_configuration_mean_the_same(config: dict[str, Any], tmp_path: Path) -> None:
    preprocess = Preprocess.from_checkpoint(write(tmp_path, config))
    assert (preprocess.size, preprocess.crop_shape, preprocess.resample) == (224, (224, 224), 3)
    assert preprocess.mean == (0.48145466, 0.4578275, 0.40821073)
    assert preprocess.std == (0.26862954, 0.26130258, 0.27577711)
    assert preprocess.rescale == pytest.approx(1 / 255)


def test_the_configuration_nested_in_processor_config_wins(tmp_path: Path) -> None:
    write(tmp_path, CLASSIC_CONFIG)
    nested = CLASSIC_CONFIG | {"size": {"shortest_edge": 336}, "crop_size": 336, "do_normalize": False}
    write(tmp_path, {"image_processor": nested, "processor_class": "CLIPProcessor"}, "processor_config.json")
    preprocess = Preprocess.from_checkpoint(tmp_path)
    assert (preprocess.crop_shape, preprocess.mean, preprocess.std) == ((336, 336), (0, 0, 0), (1, 1, 1))


def test_a_processor_without_crop_is_read(tmp_path: Path) -> None:
    config = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 256, "width": 224}}
    config |= {"resample": 2, "rescale_factor": 0.5, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    preprocess = Preprocess.from_checkpoint(write(tmp_path, config))
    assert (preprocess.size, preprocess.crop_size, preprocess.crop_shape) == ((256, 224), None, (256, 224))
    assert (preprocess.resample, preprocess.rescale) == (2, 0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"do_resize": False},
        {"do_pad": True},
        {"do_center_crop": False},
        {"size": {"shortest_edge": 224, "longest_edge": 448}},
        {"size": "large"},
        {"size": 0},
        {"size": 10**6, "crop_size": 10**6},
        {"size": 200},
        {"crop_size": {"width": 3}},
        {"resample": 99},
        {"image_mean": [0.5]},
        {"image_std": "grey"},
    ],
)
def test_preprocessing_that_is_not_supported_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="not supported"):
        Preprocess.from_checkpoint(write(tmp_path, CLASSIC_CONFIG | change))


def test_a_checkpoint_without_readable_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="preprocessor_config"):
        Preprocess.from_checkpoint(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ModelUnavailable, match="JSON"):
        Preprocess.from_checkpoint(tmp_path)


@pytest.mark.parametrize("preprocess", [CLIP, Preprocess((96, 64), None, 2, (0, 0, 0), (1, 1, 1), 1.0)])
def test_preprocessing_survives_json(preprocess: Preprocess) -> None:
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess
