"""The heat map over HTTP."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from werkzeug.test import TestResponse

from shared.storage.blobs import file_key
from tests.unit.fakes import (
    RED,
    Api,
    StubEncoder,
    Vector,
    assert_problem,
    axis,
    halves,
    image_id,
    make_api,
    unit,
)


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
    assert_problem(explain(other), 503, "model_not_ready")
