"""The heat map: on colours, and through a tiny random model of every kind."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.random_checkpoint import Shape
from shared.embedding.encoder import Encoder
from shared.embedding.heatmap import Heat, heat, overlay
from shared.imaging.preprocess import Preprocess
from tests.checkpoints import tiny_checkpoint
from tests.unit.fakes import BLUE, PREPROCESS, RED, Vector, halves

WITH_CLASS_TOKEN: list[Shape] = ["tiny", "tiny metaclip_2", "tiny chinese_clip", "tiny altclip"]
SHAPES: list[Shape] = [*WITH_CLASS_TOKEN, "tiny siglip"]


@dataclass
class ColourEncoder:
    """Two patches by two a crop of 4 pixels; the first axes are red, green and blue."""

    preprocess: Preprocess = PREPROCESS
    logit_scale: float = 100.0
    modality: float = 0.0  # what all vectors have in common, that no text has

    def encode_patches(self, crops: NDArray[np.uint8]) -> Vector:
        return self._unit(crops.reshape(len(crops), 2, 2, 2, 2, 3).mean(axis=(2, 4)))

    def encode_images(self, crops: NDArray[np.uint8]) -> Vector:
        return self._unit(crops.mean(axis=(1, 2)))

    def _unit(self, colours: NDArray[np.float64]) -> Vector:
        vectors = np.insert(colours / 255, 3, self.modality, axis=-1)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        return vectors.astype(np.float32)


def found_by(encoder: ColourEncoder, image: Image.Image, axis_number: int) -> Heat:
    return heat(image, cast(Encoder, encoder), np.eye(4, dtype=np.float32)[axis_number])


def colour_heat(image: Image.Image, axis_number: int) -> Vector:
    return found_by(ColourEncoder(), image, axis_number).places


@pytest.mark.parametrize("size", [(96, 48), (48, 96), (50, 50), (33, 200), (3, 2), (1, 900), (900, 1)])
def test_a_map_has_the_pictures_shape(size: tuple[int, int]) -> None:
    found = colour_heat(halves(*size), 0)
    assert found.shape == size[::-1]
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 2.0001
    assert Image.open(io.BytesIO(overlay(halves(*size), found))).size == size


def test_each_word_lights_the_half_that_it_names() -> None:
    red, blue = colour_heat(halves(), 0), colour_heat(halves(), 2)
    assert red[:, :40].min() > red[:, 56:].max()
    assert blue[:, 56:].min() > blue[:, :40].max()


def test_what_a_centre_crop_leaves_out_is_seen_too() -> None:
    image = Image.new("RGB", (400, 60), BLUE)
    image.paste(RED, (0, 0, 40, 60))
    found = colour_heat(image, 0)
    assert np.unravel_index(found.argmax(), found.shape)[1] < 40


def test_the_overlay_is_brightest_where_the_heat_is_and_always_the_same() -> None:
    image = Image.new("RGB", (40, 20), (90, 90, 90))
    ramp = np.tile(np.linspace(-0.1, 0.4, 40, dtype=np.float32), (20, 1))
    data = overlay(image, ramp)
    assert data == overlay(image, ramp)
    light = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float).mean(axis=0)
    assert (np.diff(light) >= 0).all()
    assert light[-1] - light[0] > 50


def test_an_even_map_is_one_colour() -> None:
    data = overlay(Image.new("RGB", (8, 8), RED), np.zeros((8, 8), np.float32))
    assert len(Image.open(io.BytesIO(data)).getcolors() or ()) == 1


def test_a_map_is_even_by_what_its_model_makes_of_a_cosine() -> None:
    """A SigLIP's published logits of 2 cats and of 2 dogs on a picture of cats are cosines 0.08 apart."""
    image = halves()
    siglip = ColourEncoder(logit_scale=117.33, modality=24.0)
    narrow = found_by(siglip, image, 0)
    assert np.ptp(narrow.places) == pytest.approx(0.08, abs=0.01)
    assert not narrow.is_even
    assert found_by(ColourEncoder(logit_scale=10.0, modality=24.0), image, 0).is_even
    assert not found_by(ColourEncoder(logit_scale=10.0), image, 0).is_even
    assert found_by(siglip, Image.new("RGB", (80, 80), RED), 0).is_even


# The models


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    loaded = {}
    for shape in SHAPES:
        folder = tmp_path_factory.mktemp("checkpoints") / "one"
        tiny_checkpoint(folder, shape=shape)
        loaded[shape] = Encoder.load(str(folder), device="cpu", precision="fp32", batch_size=3)
    return loaded


@pytest.fixture(params=SHAPES)
def encoder(encoders: dict[str, Encoder], request: pytest.FixtureRequest) -> Encoder:
    return encoders[request.param]


def test_patches_are_unit_vectors_in_the_pictures_order(encoder: Encoder) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    patches = encoder.encode_patches(crops)
    assert patches.shape == (5, 4, 4, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-6)
    changed = crops[:1].copy()
    changed[0, 8:16, 24:32] = 255 - changed[0, 8:16, 24:32]
    moved = np.linalg.norm(encoder.encode_patches(changed)[0] - patches[0], axis=-1)
    assert np.unravel_index(moved.argmax(), moved.shape) == (1, 3)


@pytest.mark.parametrize("encoder", WITH_CLASS_TOKEN, indirect=True)
def test_patches_are_those_of_the_last_layers_value_path(encoder: Encoder, torch: Any) -> None:
    """By hand: every layer but the last, then its value path for each patch, and the picture's projection."""
    crops = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model = encoder.towers.model
    seen: list[Any] = []
    last = model.vision_model.encoder.layers[-1]
    hook = last.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder.encode_images(crops)
    hook.remove()
    with torch.inference_mode():
        values = last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(seen[0])))
        expected = model.visual_projection(model.vision_model.post_layernorm(values[:, 1:]))
        expected /= expected.norm(dim=-1, keepdim=True)
    found = encoder.encode_patches(crops).reshape(2, 16, -1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("encoder", ["tiny siglip"], indirect=True)
def test_patches_of_a_siglip_are_what_its_head_makes_of_each_alone(encoder: Encoder, torch: Any) -> None:
    """By hand: of one value the attention is 1, so the head is its value path and the residual MLP."""
    crops = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    tower = encoder.towers.model.vision_model
    attention, width = tower.head.attention, encoder.dimension
    with torch.inference_mode():
        states = tower(pixel_values=encoder.towers._pixels(crops)).last_hidden_state
        weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
        pooled = attention.out_proj(states @ weight.T + bias)
        expected = pooled + tower.head.mlp(tower.head.layernorm(pooled))
        expected /= expected.norm(dim=-1, keepdim=True)
    found = encoder.encode_patches(crops).reshape(2, 16, -1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_where_a_siglip_looks_everywhere_alike_its_picture_is_the_mean_of_its_patches(
    tmp_path: Path, torch: Any
) -> None:
    """Without queries the attention is even; without the MLP what it pools is the picture's vector."""
    tiny_checkpoint(tmp_path / "siglip", shape="tiny siglip")
    encoder = Encoder.load(str(tmp_path / "siglip"), device="cpu", precision="fp32")
    head = encoder.towers.model.vision_model.head
    with torch.no_grad():
        head.attention.in_proj_weight[: encoder.dimension] = 0
        head.attention.in_proj_bias[: encoder.dimension] = 0
        head.mlp.fc2.weight[:] = 0
        head.mlp.fc2.bias[:] = 0
    crops = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        mean = encoder.towers.patch_features(crops).mean(dim=(1, 2))
        mean /= mean.norm(dim=-1, keepdim=True)
    np.testing.assert_allclose(encoder.encode_images(crops), mean.numpy(), atol=1e-5)


def test_what_a_text_is_the_vector_of_is_the_hottest_place(encoder: Encoder) -> None:
    """A red square on blue, and a text that is to red pictures what it is not to blue ones."""
    red, blue = encoder.encode_images(np.array([[[colour] * 32] * 32 for colour in (RED, BLUE)], np.uint8))
    image = Image.new("RGB", (160, 64), BLUE)
    image.paste(RED, (112, 16, 144, 48))
    for text in (red, (red - blue) / np.linalg.norm(red - blue)):
        found = heat(image, encoder, text).places
        assert found[16:48, 112:144].mean() > found[:, :80].mean() + 0.1
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert (x, y) == (pytest.approx(128, abs=8), pytest.approx(32, abs=8))


def test_patches_of_crops_that_do_not_fit_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="crops are"):
        encoder.encode_patches(np.zeros((1, 31, 32, 3), np.uint8))


def test_maps_of_different_texts_differ(encoder: Encoder) -> None:
    cat, dog = encoder.encode_texts(["a cat", "something else entirely"])
    first, second = (heat(halves(), encoder, text).places for text in (cat, dog))
    assert first.shape == second.shape == (48, 96)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(heat(halves(), encoder, cat).places, first)
    assert overlay(halves(), first) != overlay(halves(), second)
