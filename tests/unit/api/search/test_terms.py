"""Terms beside texts and whole pictures: base64, parts of pictures, vectors, and vectors given back."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from werkzeug.test import TestResponse

from api.search import requests
from api.search.requests import MAX_PICTURES
from shared.storage.blobs import FileKind, file_key
from tests.unit.api.search.test_routes import SCALE, crop_vector, form, results
from tests.unit.fakes import (
    Api,
    Vector,
    assert_problem,
    axis,
    halves,
    image_id,
    make_api,
    make_services,
    picture,
    unit,
)

URL = "https://example.com/a.png"
RIGHT = [0.5, 0.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """Six pictures; the halves of 4 are kept as an original, of 5 as a rendition, of the others nothing."""
    api = make_api(tmp_path_factory.mktemp("api"))
    for number, vector in enumerate([axis(0), axis(1), unit(1, 1), axis(2), vector_of(right()), axis(3)]):
        api.add(number, vector)
    api.downloads[URL] = png(halves(64, 32))
    keep(api, 4, "original", png(halves(64, 32)))
    keep(api, 5, "rendition", png(halves(64, 32)))
    return api


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def right() -> bytes:
    return png(halves(64, 32).crop((32, 0, 64, 32)))


def vector_of(data: bytes) -> Vector:
    return crop_vector(data)


def keep(api: Api, number: int, kind: FileKind, data: bytes) -> None:
    api.services.blobs.put(file_key("images", image_id(number), kind), data)


def search(api: Api, query: dict[str, Any], *pictures: bytes) -> TestResponse:
    if pictures:
        return api.http.post("/v1/search", data=form(query, *pictures))
    return api.http.post("/v1/search", json=query)


def scores(response: TestResponse) -> dict[str, float]:
    return {result["id"]: result["score"] for result in results(response)}


def given_back(response: TestResponse) -> dict[str, list[float]]:
    document = json.loads(response.data)
    return {one["pointer"]: one["vector"] for one in document["vectors"]}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "text",
    [
        encoded(picture()),
        f"data:image/png;base64,{encoded(picture())}",
        base64.encodebytes(picture()).decode(),
        base64.urlsafe_b64encode(picture()).decode(),
    ],
    ids=["plain", "data-url", "in-lines", "url-safe"],
)
def test_a_file_in_base64_is_the_uploaded_file(api: Api, text: str) -> None:
    assert scores(search(api, {"image_base64": text})) == scores(search(api, {}, picture()))
    assert scores(search(api, {"positive": [{"image_base64": text}]})) == scores(search(api, {}, picture()))


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("?", "invalid_request", "is not base64"),
        ("é", "invalid_request", "is not base64"),
        ("abcde", "invalid_request", "is not base64"),
        (7, "invalid_request", "must be a text"),
        ("data:image/png,abc", "invalid_request", "a data: URL that is not in base64"),
        ("", "not_an_image", "content"),
        (encoded(b"%PDF-1.7\n%\xe2\xe3\n"), "not_an_image", "content"),
        (encoded(picture()[:40]), "corrupt_image", ""),
    ],
)
def test_what_is_no_picture_in_base64_is_pointed_at(api: Api, text: object, code: str, said: str) -> None:
    for query, pointer in (
        ({"image_base64": text}, "/image_base64"),
        ({"negative": [{"image_base64": text}]}, "/negative/0/image_base64"),
    ):
        assert said in assert_problem(search(api, query), 422, code, pointer)["detail"]


def test_a_picture_in_base64_has_room_and_one_too_long_is_pointed_at(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = picture() + bytes(2 * 2**20)
    assert search(api, {"image_base64": encoded(large)}).status_code == 200
    compared = {"a": {"image_base64": encoded(large)}, "b": {"text": "axis 0"}}
    assert api.http.post("/v1/compare", json=compared).status_code == 200
    monkeypatch.setattr(requests, "MAX_BASE64", 2 * 2**20)
    document = assert_problem(search(api, {"image_base64": encoded(large)}), 422, "invalid_request")
    assert "as a part of a multipart search" in document["detail"]


def test_a_file_in_base64_is_no_larger_than_another_may_be(tmp_path: Path) -> None:
    api = make_api(tmp_path, make_services(tmp_path, max_image_bytes=len(picture())))
    assert search(api, {"image_base64": encoded(picture())}).status_code == 200
    assert_problem(
        search(api, {"image_base64": encoded(picture() + b"0")}), 422, "too_large", "/image_base64"
    )


@pytest.mark.parametrize("number", [4, 5], ids=["original", "rendition"])
def test_a_part_has_the_vector_of_the_file_that_it_would_be(api: Api, number: int) -> None:
    whole = png(halves(64, 32))
    expected = scores(search(api, {}, right()))
    for query, uploads in (
        ({"image_id": image_id(number)}, []),
        ({"image_url": URL}, []),
        ({"image_base64": encoded(whole)}, []),
        ({}, [whole]),
    ):
        found = search(api, query | {"box": RIGHT, "include": ["vectors"]}, *uploads)
        assert scores(found) == expected
        (vector,) = given_back(found).values()
        assert np.dot(vector, vector_of(right())) > 0.999
    found = search(api, {"positive": [{"image_id": image_id(number), "box": RIGHT}]})
    assert scores(found) == expected
    compared = {"a": {"image_id": image_id(number), "box": RIGHT}, "b": {"image_base64": encoded(right())}}
    assert json.loads(api.http.post("/v1/compare", json=compared).data)["score"] == pytest.approx(1)


def test_a_stored_picture_leads_only_when_all_of_it_is_asked_for(api: Api) -> None:
    assert results(search(api, {"image_id": image_id(5)}))[0]["id"] == image_id(5)
    assert results(search(api, {"image_id": image_id(5), "box": RIGHT}))[0]["id"] == image_id(4)


def test_a_part_of_a_picture_whose_pixels_are_gone_is_pointed_at(api: Api) -> None:
    term = {"image_id": image_id(1), "box": RIGHT}
    assert_problem(search(api, term), 409, "pixels_not_kept", "/image_id")
    assert_problem(search(api, {"negative": [term]}), 409, "pixels_not_kept", "/negative/0/image_id")
    assert_problem(search(api, term | {"image_id": image_id(99)}), 404, "image_not_found", "/image_id")


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1.1], [-0.1, 0, 1, 1], [0.5, 0, 0.5, 1], [1, 0, 0, 1], 
        [0, 0, 1, None], [0, 0, 0.004, 1], "0,0,1,1",
    ],
)  # fmt: skip
def test_a_box_outside_or_of_no_area_is_pointed_at(api: Api, box: Any) -> None:
    for query, pointer in (
        ({"image_id": image_id(4), "box": box}, "/box"),
        ({"positive": [{"image_id": image_id(4), "box": box}]}, "/positive/0/box"),
    ):
        document = assert_problem(search(api, query), 422, "invalid_request")
        assert document["errors"][0]["pointer"].startswith(pointer)


@pytest.mark.parametrize(
    ("query", "uploads"),
    [
        ({"text": "axis 0"}, 0),
        ({"vector": [1.0] * 8}, 0),
        ({"positive": [{"image_id": image_id(4)}]}, 0),
        ({"image_url": URL, "image_id": image_id(4)}, 0),
        ({"image_id": image_id(4)}, 1),
        ({}, 2),
    ],
)
def test_a_box_beside_none_or_several_pictures_is_pointed_at(
    api: Api, query: dict[str, Any], uploads: int
) -> None:
    response = search(api, query | {"box": RIGHT}, *[picture()] * uploads)
    assert "exactly one picture" in assert_problem(response, 422, "invalid_request", "/box")["detail"]


def test_parts_of_stored_pictures_count_as_pictures_that_are_read(api: Api) -> None:
    part = {"image_id": image_id(4), "box": RIGHT}
    many = {"positive": [part] * (MAX_PICTURES + 1)}
    pointer = f"/positive/{MAX_PICTURES}/image_id"
    assert "one too many" in assert_problem(search(api, many), 422, "invalid_request", pointer)["detail"]
    assert search(api, {"positive": [{"image_id": image_id(4)}] * (MAX_PICTURES + 1)}).status_code == 200


def test_a_vector_of_any_length_is_a_picture(api: Api) -> None:
    vector = [3.0, 0, 4, 0, 0, 0, 0, 0]
    expected = {image_id(0): 0.6, image_id(1): 0, image_id(2): pytest.approx(0.6 * 0.5**0.5)}
    for factor in (1, 1e-300, 1e300):
        found = scores(search(api, {"vector": [factor * number for number in vector]}))
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    mixed = {"text": "axis 0", "negative": [{"vector": vector}], "include": ["contributions"]}
    shares = results(search(api, mixed))[0]["contributions"]
    assert [(one["pointer"], one["scale"]) for one in shares] == [
        ("/text", 1),
        ("/negative/0/vector", pytest.approx(SCALE)),
    ]


@pytest.mark.parametrize("collection", ["images", "none yet"])
@pytest.mark.parametrize(
    ("vector", "said"),
    [([1.0] * 7, "7 numbers, and one of stub/model has 8"), ([1.0], "1 numbers"), ([0.0] * 8, "all zeros")],
)
def test_a_vector_of_another_model_or_of_no_direction_is_pointed_at(
    api: Api, tmp_path: Path, collection: str, vector: list[float], said: str
) -> None:
    api = api if collection == "images" else make_api(tmp_path)
    for query, pointer in (
        ({"vector": vector}, "/vector"),
        ({"text": "axis 0", "negative": [{"vector": vector}]}, "/negative/0/vector"),
    ):
        assert said in assert_problem(search(api, query), 422, "invalid_request", pointer)["detail"]


@pytest.mark.parametrize("vector", ["[1e400, 1, 1, 1, 1, 1, 1, 1]", '[1, "a"]', "[]", "{}"])
def test_numbers_that_are_none_are_pointed_at(api: Api, vector: str) -> None:
    response = api.http.post("/v1/search", data=f'{{"vector": {vector}}}', content_type="application/json")
    document = assert_problem(response, 422, "invalid_request")
    assert document["errors"][0]["pointer"].startswith("/vector")


def test_vectors_are_given_back_and_find_the_same_to_the_last_bit(api: Api) -> None:
    """Of what was read alone, so that the next page needs no picture again."""
    asked = {"positive": [{"image_id": image_id(5), "box": RIGHT}, {"image_id": image_id(3)}]}
    found = search(api, asked | {"include": ["vectors"]}, picture())
    vectors = given_back(found)
    assert list(vectors) == ["/image/0", "/positive/0/image_id"]
    assert np.array_equal(np.float32(vectors["/image/0"]), vector_of(picture()))
    again = {"vector": vectors["/image/0"], "positive": [{"vector": vectors["/positive/0/image_id"]}]}
    again["positive"].append({"image_id": image_id(3)})
    assert scores(search(api, again)) == scores(found)
    assert given_back(search(api, again | {"include": ["vectors"]})) == {}
    assert "vectors" not in json.loads(search(api, again).data)


def test_two_vectors_are_compared_without_a_model(api: Api) -> None:
    body = {"a": {"vector": axis(0).tolist()}, "b": {"vector": unit(1, 1).tolist()}}
    assert json.loads(api.http.post("/v1/compare", json=body).data)["score"] == pytest.approx(0.5**0.5)
    body["b"] = {"vector": [0.0] * 8}
    assert_problem(api.http.post("/v1/compare", json=body), 422, "invalid_request", "/b/vector")
