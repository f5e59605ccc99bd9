"""The heat map: through a tiny random CLIP, and over HTTP with it."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from werkzeug.test import TestResponse

from shared.embedding.encoder import Encoder
from shared.embedding.heatmap import heat, overlay
from shared.imaging.preprocess import Preprocess
from shared.storage.blobs import file_key
from tests.unit.fakes import (
    PREPROCESS,
    Api,
    StubEncoder,
    Vector,
    assert_problem,
    axis,
    image_id,
    make_api,
    unit,
)

RED, BLUE = (250, 10, 10), (10, 10, 250)


def halves(width: int = 96, height: int = 48) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


@dataclass
class ColourEncoder:
    """Two patches by two a crop of 4 pixels; the first axes are red, green and blue."""

    preprocess: Preprocess = PREPROCESS
    logit_scale: float = 100.0

    def encode_patches(self, crops: NDArray[np.uint8]) -> Vector:
        return self._unit(crops.reshape(len(crops), 2, 2, 2, 2, 3).mean(axis=(2, 4)))

    def encode_images(self, crops: NDArray[np.uint8]) -> Vector:
        return self._unit(crops.mean(axis=(1, 2)))

    def _unit(self, colours: NDArray[np.float64]) -> Vector:
        vectors: Vector = (colours / np.linalg.norm(colours, axis=-1, keepdims=True)).astype(np.float32)
        return vectors


def colour_heat(image: Image.Image, axis_number: int) -> Vector:
    return heat(image, cast(Encoder, ColourEncoder()), np.eye(3, dtype=np.float32)[axis_number]).places


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


# The model


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> Encoder:
    return Encoder.load(str(tiny), device="cpu", precision="fp32", batch_size=3)


def test_patches_are_unit_vectors_in_the_pictures_order(encoder: Encoder) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    patches = encoder.encode_patches(crops)
    assert patches.shape == (5, 4, 4, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-6)
    changed = crops[:1].copy()
    changed[0, 8:16, 24:32] = 255 - changed[0, 8:16, 24:32]
    moved = np.linalg.norm(encoder.encode_patches(changed)[0] - patches[0], axis=-1)
    assert np.unravel_index(moved.argmax(), moved.shape) == (1, 3)


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


# Over HTTP


class TextsAndColours(StubEncoder):
    """The stub's texts, and patches that are all alike but for the first, which is text `axis 1`'s."""

    def encode_patches(self, crops: NDArray[np.uint8]) -> Vector:
        patches = np.tile(axis(0), (len(crops), 2, 2, 1))
        patches[crops.mean(axis=(1, 2, 3)) > 128] = axis(1)
        return patches


@pytest.fixture
def api(tmp_path: Path) -> Api:
    api = make_api(tmp_path, encoder=TextsAndColours())
    api.add(1, axis(0))
    api.add(2, axis(0), "other")
    return api


def keep(api: Api, kind: str, image: Image.Image, file_format: str, collection: str = "images") -> None:
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    number = 1 if collection == "images" else 2
    api.services.blobs.put(file_key(collection, image_id(number), kind), buffer.getvalue())  # type: ignore[arg-type]


def explain(api: Api, **parameters: str) -> TestResponse:
    return api.http.get("/v1/explain", query_string={"image_id": image_id(1), "text": "axis 1"} | parameters)


def shown(response: TestResponse) -> Image.Image:
    assert response.status_code == 200, response.text
    assert response.mimetype == "image/png"
    return Image.open(io.BytesIO(response.data))


def test_a_map_lies_over_the_rendition(api: Api) -> None:
    keep(api, "rendition", halves(120, 40), "WEBP")
    response = explain(api)
    assert shown(response).size == (120, 40)
    assert explain(api).data == response.data
    assert explain(api, text="axis 0").data != response.data


def test_an_original_serves_as_well_and_is_made_smaller(api: Api) -> None:
    keep(api, "original", halves(2000, 1000), "PNG")
    assert shown(explain(api)).size == (768, 384)


def test_a_header_says_whether_there_is_a_clear_spot(api: Api) -> None:
    """The stub's windows have random vectors; here they are all text `axis 1`'s, or what no text asks for."""
    rng = np.random.default_rng(0)
    for number in range(3, 60):
        api.add(number, unit(1, *rng.normal(scale=0.2, size=6)))
    picture = Image.new("RGB", (120, 40))
    picture.paste("white", (60, 0, 120, 40))
    keep(api, "rendition", picture, "WEBP")
    api.encoder.encode_images = lambda crops: np.tile(axis(1), (len(crops), 1))  # type: ignore[method-assign]
    clear = explain(api)
    assert clear.headers["Heat-Spot"] == "clear"
    assert float(clear.headers["Heat-Confidence"]) > 0.9
    api.encoder.encode_images = lambda crops: np.tile(axis(7), (len(crops), 1))  # type: ignore[method-assign]
    unclear = explain(api)
    assert unclear.headers["Heat-Spot"] == "unclear"
    assert float(unclear.headers["Heat-Confidence"]) < 0.9


def test_an_even_map_has_no_clear_spot_and_a_few_pictures_do_not_tell(api: Api) -> None:
    keep(api, "rendition", halves(120, 40), "WEBP")
    assert not {"Heat-Spot", "Heat-Confidence"} & set(explain(api).headers.keys())
    keep(api, "rendition", Image.new("RGB", (80, 80), RED), "WEBP")
    assert explain(api).headers["Heat-Spot"] == "unclear"


def test_a_picture_is_explained_in_its_collection(api: Api) -> None:
    keep(api, "rendition", halves(), "WEBP", "other")
    assert shown(explain(api, image_id=image_id(2), collection="other")).size == (96, 48)
    assert_problem(explain(api, image_id=image_id(2)), 404, "image_not_found", "/image_id")


def test_without_pixels_it_says_what_to_do(api: Api) -> None:
    document = assert_problem(explain(api), 409, "pixels_not_kept", "/image_id")
    assert "IMAGE_SEARCH_KEEP" in document["detail"]


@pytest.mark.parametrize(
    ("parameters", "status", "code", "pointer"),
    [
        ({"image_id": image_id(9)}, 404, "image_not_found", "/image_id"),
        ({"image_id": "../../etc"}, 404, "image_not_found", "/image_id"),
        ({"collection": "none"}, 404, "collection_not_found", "/collection"),
        ({"collection": "a/b"}, 422, "invalid_request", "/collection"),
        ({"text": " "}, 422, "invalid_request", "/text"),
        ({"text": "x" * 2001}, 422, "invalid_request", "/text"),
        ({"image": "x"}, 422, "invalid_request", "/image"),
    ],
)
def test_bad_input_is_pointed_at(
    api: Api, parameters: dict[str, str], status: int, code: str, pointer: str
) -> None:
    assert_problem(explain(api, **parameters), status, code, pointer)


def test_text_and_picture_are_needed(api: Api) -> None:
    assert_problem(api.http.get("/v1/explain?text=a"), 422, "invalid_request", "/image_id")
    assert_problem(api.http.get(f"/v1/explain?image_id={image_id(1)}"), 422, "invalid_request", "/text")


def test_the_empty_default_collection_has_no_picture(tmp_path: Path) -> None:
    assert_problem(explain(make_api(tmp_path)), 404, "image_not_found", "/image_id")


def test_another_model_explains_nothing(api: Api, tmp_path: Path) -> None:
    keep(api, "rendition", halves(), "WEBP")
    other = make_api(tmp_path, api.services, StubEncoder("other/model", "6" * 16))
    assert_problem(explain(other), 409, "model_mismatch")
