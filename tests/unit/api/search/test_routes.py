import io
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from werkzeug.test import TestResponse

from api.search.requests import MIXED_NEGATIVE
from shared.errors import ItemError
from shared.imaging.decode import open_query_image
from shared.index import index as index_module
from shared.index.collection import Collection
from tests.unit.counted import Counted
from tests.unit.fakes import (
    INDEX_DOWN,
    LEDGER_DOWN,
    MAX_TEXT_CHARS,
    PREPROCESS,
    Api,
    StubEncoder,
    Vector,
    assert_problem,
    axis,
    image_id,
    make_api,
    make_services,
    picture,
    unit,
    wait_until,
    with_services,
)

HALF = float(np.sqrt(0.5))
SCALE = 0.6  # of pictures beside texts, where there are too few to measure it


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """Read only: `images` is empty, `axes` holds pictures on and between the first three axes."""
    api = make_api(tmp_path_factory.mktemp("api"))
    api.add(0, axis(0), "axes", width=100, metadata={"shop": "north", "price": 5})
    api.add(1, axis(1), "axes", width=200, metadata={"shop": "south", "price": 9.5})
    api.add(2, axis(2), "axes", width=300)
    api.add(3, unit(1, 1), "axes", width=400, metadata={"shop": "north", "tags_of_mine": ["a", "b"]})
    return api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def search(api: Api, **query: Any) -> TestResponse:
    return api.http.post("/v1/search", json={"collection": "axes"} | query)


def results(response: TestResponse) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = json.loads(response.data)["results"]
    return found


def ids(response: TestResponse) -> list[int]:
    """The numbers under which the results were added."""
    return [int(result["id"], 16) for result in results(response)]


def scores(response: TestResponse) -> dict[int, float]:
    return {int(result["id"], 16): result["score"] for result in results(response)}


def crop_vector(data: bytes) -> Vector:
    crop = open_query_image(data, PREPROCESS, 10_000)
    vector: Vector = StubEncoder().encode_images(crop[None])[0]
    return vector


def form(query: Any = None, *pictures: bytes) -> dict[str, Any]:
    parts: dict[str, Any] = {"image": [(io.BytesIO(data), "a.png") for data in pictures]}
    return parts if query is None else parts | {"query": json.dumps(query)}


# The answer


def test_a_text_finds_pictures_best_first_with_cosine_scores(shared: Api) -> None:
    response = search(shared, text="axis 0")
    assert ids(response) == [0, 3, 1, 2]
    assert scores(response) == pytest.approx({0: 1.0, 3: HALF, 1: 0.0, 2: 0.0}, abs=1e-6)


def test_an_answer_has_what_the_contract_lists(shared: Api) -> None:
    document = json.loads(search(shared, text="axis 0", limit=1).data)
    (result,) = document["results"]
    assert result == {
        "id": image_id(0),
        "score": pytest.approx(1.0),
        "source": "https://example.com/0.jpg",
        "thumbnail_url": f"/v1/images/{image_id(0)}/thumbnail?collection=axes",
        "width": 100,
        "height": 480,
        "metadata": {"shop": "north", "price": 5},
    }
    assert set(document) == {"results", "took_ms", "model"}
    assert set(document["took_ms"]) == {"encode", "index", "total"}
    assert all(ms >= 0 for ms in document["took_ms"].values())
    assert document["model"] == "stub/model"


def test_the_default_collection_is_empty_at_first(shared: Api) -> None:
    document = json.loads(shared.http.post("/v1/search", json={"text": "axis 0"}).data)
    assert document["results"] == []
    assert document["model"] == "stub/model"


def test_the_default_collection_needs_no_name(api: Api) -> None:
    api.add(7, axis(0))
    response = api.http.post("/v1/search", json={"text": "axis 0"})
    assert results(response)[0]["thumbnail_url"] == f"/v1/images/{image_id(7)}/thumbnail"


def test_metadata_is_left_out_where_include_does_not_name_it(shared: Api) -> None:
    assert all("metadata" not in result for result in results(search(shared, text="axis 0", include=[])))
    assert results(search(shared, text="axis 2", limit=1))[0]["metadata"] == {}


def test_a_text_that_is_cut_off_is_warned_of(shared: Api) -> None:
    long = "x" * (MAX_TEXT_CHARS + 1)
    warned = json.loads(search(shared, positive=[{"text": "axis 0"}, {"text": long}]).data)["warnings"]
    assert len(warned) == 1
    assert warned[0].startswith("/positive/1/text:")
    assert "warnings" not in json.loads(search(shared, text="short").data)


def test_metadata_that_is_not_unicode_is_answered(api: Api) -> None:
    api.add(1, axis(0), metadata={"note": "\ud800 é"})
    (result,) = results(api.http.post("/v1/search", json={"text": "axis 0"}))
    assert result["metadata"] == {"note": "\ud800 é"}


# What is asked for


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"positive": [{"text": "axis 0"}, {"text": "axis 1"}]}, (1, 1)),
        ({"positive": [{"text": "axis 0", "weight": 3}, {"text": "axis 1", "weight": 0.5}]}, (3, 0.5)),
        ({"text": "axis 0", "negative": [{"text": "axis 1"}]}, (1, -1)),
        ({"text": "axis 0", "negative": [{"text": "axis 1", "weight": 2}]}, (1, -2)),
        ({"negative": [{"text": "axis 2"}]}, (0, 0, -1)),
        ({"text": "axis 0", "positive": [{"image_id": image_id(1)}]}, (1, SCALE)),
        ({"text": "axis 0", "image_id": image_id(2)}, (1, 0, SCALE)),
        ({"text": "axis 0", "positive": [{"image_id": image_id(1), "weight": 2}]}, (1, 2 * SCALE)),
        ({"text": "axis 0", "negative": [{"image_id": image_id(1)}]}, (1, -MIXED_NEGATIVE * SCALE)),
        ({"text": "axis 0", "negative": [{"image_id": image_id(1), "weight": 1}]}, (1, -SCALE)),
        ({"image_id": image_id(0), "negative": [{"text": "axis 1"}]}, (SCALE, -MIXED_NEGATIVE)),
        (
            {"text": "axis 0", "positive": [{"text": "axis 1"}], "negative": [{"image_id": image_id(2)}]},
            (1, 1, -2 * MIXED_NEGATIVE * SCALE),
        ),
        (
            {"text": "axis 0", "negative": [{"image_id": image_id(1)}, {"text": "axis 2"}]},
            (1, -HALF * MIXED_NEGATIVE * SCALE, -HALF * MIXED_NEGATIVE),
        ),
        ({"text": "axis 0", "positive": [{"image_id": image_id(1), "weight": 0}]}, (1,)),
        ({"text": "axis 0", "positive": [{"text": "axis 1", "weight": 0}]}, (1,)),
        ({"positive": [{"text": "axis 0"}, {"text": "axis 0"}], "negative": [{"text": "axis 1"}]}, (2, -1)),
        ({"text": " ", "image_id": image_id(0)}, (1,)),
        ({"positive": [{"image_id": image_id(0)}] * 2 + [{"image_id": image_id(1)}]}, (2, 1)),
        ({"image_id": image_id(0), "negative": [{"image_id": image_id(3), "weight": 1}]}, (1 - HALF, -HALF)),
    ],
)
def test_terms_are_added_and_subtracted_by_weight(
    shared: Api, query: dict[str, Any], expected: tuple[float, ...]
) -> None:
    vector = unit(*expected)
    stored = {0: axis(0), 1: axis(1), 2: axis(2), 3: unit(1, 1)}
    wanted = {number: float(vector @ row) for number, row in stored.items()}
    assert scores(search(shared, **query)) == pytest.approx(wanted, abs=1e-6)


def test_a_query_by_id_returns_that_picture_first(shared: Api) -> None:
    response = search(shared, image_id=image_id(3))
    assert ids(response)[0] == 3
    assert results(response)[0]["score"] == 1.0
    assert ids(search(shared, positive=[{"image_id": image_id(3), "weight": 2}], limit=1)) == [3]


def test_a_query_by_id_reads_no_record_that_the_page_brings(
    shared: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collection, "get", lambda *_: pytest.fail("the record was read once more"))
    assert ids(search(shared, image_id=image_id(3)))[0] == 3


def test_a_query_by_id_comes_before_pictures_of_the_same_vector(api: Api) -> None:
    for number in range(5):
        api.add(number, unit(0.3, 0.7))
    api.add(5, axis(2))
    pages = [
        api.http.post("/v1/search", json={"image_id": image_id(3), "offset": offset, "limit": 2})
        for offset in (0, 2, 4, 6)
    ]
    assert [ids(page) for page in pages] == [[3, 0], [1, 2], [4, 5], []]


def test_a_query_by_id_leaves_that_picture_out_when_the_filter_does(shared: Api) -> None:
    assert ids(search(shared, image_id=image_id(1), filters={"shop": "north"})) == [3, 0]


def test_a_picture_is_uploaded(api: Api) -> None:
    data = picture()
    api.add(1, crop_vector(data))
    api.add(2, axis(0))
    response = api.http.post("/v1/search", data=form(None, data))
    assert scores(response)[1] == pytest.approx(1.0)
    assert ids(response)[0] == 1


def test_pictures_and_a_query_part_are_one_query(api: Api) -> None:
    red, blue = picture((255, 0, 0)), picture((0, 0, 255))
    api.add(1, axis(0), width=10)
    api.add(2, axis(1), width=20)
    query = {"text": "axis 0", "negative": [{"text": "axis 1"}], "filters": {"width": 10}}
    response = api.http.post("/v1/search", data=form(query, red, blue))
    vector = SCALE * (crop_vector(red) + crop_vector(blue)) + axis(0) - 3 * MIXED_NEGATIVE * axis(1)
    wanted = {1: float(vector[0] / np.linalg.norm(vector))}
    assert scores(response) == pytest.approx(wanted, abs=1e-6)


def test_the_query_part_may_be_a_file(shared: Api) -> None:
    part = (io.BytesIO(b'{"text": "axis 2", "collection": "axes", "limit": 1}'), "q.json")
    assert ids(shared.http.post("/v1/search", data={"query": part})) == [2]


def test_a_picture_is_fetched(api: Api) -> None:
    data = picture()
    api.add(1, crop_vector(data))
    api.downloads["https://example.com/x.png"] = data
    for query in (
        {"image_url": "https://example.com/x.png"},
        {"positive": [{"image_url": "https://example.com/x.png"}]},
    ):
        assert scores(api.http.post("/v1/search", json=query)) == pytest.approx({1: 1.0}, abs=1e-6)


def test_the_simple_case_is_a_query_string(shared: Api) -> None:
    parameters = {"text": "axis 0", "collection": "axes", "limit": 2, "offset": 1, "min_score": 0.5}
    assert ids(shared.http.get("/v1/search", query_string=parameters)) == [3]


# Which of what is found


def test_pages_follow_each_other(api: Api) -> None:
    for number in range(20):
        api.add(number, unit(1, number // 4))  # four of each score
    everything = ids(api.http.post("/v1/search", json={"text": "axis 0", "limit": 500}))
    assert everything == list(range(20))
    pages = [
        ids(api.http.post("/v1/search", json={"text": "axis 0", "limit": 3, "offset": offset}))
        for offset in range(0, 24, 3)
    ]
    assert [number for page in pages for number in page] == everything


def test_min_score_leaves_out_what_scores_less(shared: Api) -> None:
    assert ids(search(shared, text="axis 0", min_score=0.7)) == [0, 3]
    assert len(ids(search(shared, text="axis 0", min_score=-1))) == 4


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, [0, 3, 1, 2]),
        ({"shop": "north"}, [0, 3]),
        ({"shop": {"ne": "north"}}, [1, 2]),
        ({"shop": {"nin": ["north", "south"]}}, [2]),
        ({"not": {"shop": "south"}}, [0, 3, 2]),
        ({"width": {"gte": 200, "lt": 400}}, [1, 2]),
        ({"price": {"gt": 5}}, [1]),
        ({"or": [{"price": 5}, {"width": 300}]}, [0, 2]),
        ({"tags_of_mine": {"in": ["b", "z"]}}, [3]),
        ({"nobody_has_this": "x"}, []),
        ({"near": {"lat": 47.4, "lon": 8.5, "radius_km": 5}}, []),
    ],
)
def test_filters_choose(shared: Api, filters: dict[str, Any], found: list[int]) -> None:
    assert ids(search(shared, text="axis 0", filters=filters)) == found


# What is refused


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"texts": "x"}, "/texts"),
        ({"text": 5}, "/text"),
        ({"text": "x" * 2001}, "/text"),
        ({"text": "\ud800"}, "/text"),
        ({"text": "x", "limit": 0}, "/limit"),
        ({"text": "x", "limit": 501}, "/limit"),
        ({"text": "x", "limit": "20"}, "/limit"),
        ({"text": "x", "limit": True}, "/limit"),
        ({"text": "x", "offset": -1}, "/offset"),
        ({"text": "x", "offset": 10_001}, "/offset"),
        ({"text": "x", "min_score": 1.01}, "/min_score"),
        ({"text": "x", "min_score": -1.01}, "/min_score"),
        ({"text": "x", "min_score": "0"}, "/min_score"),
        ({"text": "x", "include": ["vector"]}, "/include/0"),
        ({"text": "x", "collection": "a/b"}, "/collection"),
        ({"text": "x", "collection": "a\n"}, "/collection"),
        ({"text": "x", "collection": None}, "/collection"),
        ({"text": "x", "filters": []}, "/filters"),
        ({"text": "x", "filters": {"width": {"most": 3}}}, "/filters/width/most"),
        (
            {"text": "x", "filters": {"or": [{"width": 1}, {"height": {"gt": "a"}}]}},
            "/filters/or/1/height/gt",
        ),
        ({"positive": [{}]}, "/positive/0"),
        ({"positive": [{"text": "a", "image_id": "b"}]}, "/positive/0"),
        ({"positive": [{"text": "a"}, {"text": " "}]}, "/positive/1/text"),
        ({"negative": [{"text": "a", "weight": -1}]}, "/negative/0/weight"),
        ({"negative": [{"text": "a", "weight": 10**400}]}, "/negative/0/weight"),
        ({"positive": [{"text": "a", "wieght": 1}]}, "/positive/0/wieght"),
        ({"positive": [{"text": "a"}] * 33}, "/positive"),
        ({"positive": [{"image_url": "http://x/"}] * 9}, "/positive/8/image_url"),
    ],
)
def test_bad_input_is_pointed_at(shared: Api, query: dict[str, Any], pointer: str) -> None:
    assert_problem(search(shared, **query), 422, "invalid_request", pointer)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({}, "empty"),
        ({"text": ""}, "empty"),
        ({"text": "   "}, "empty"),
        ({"positive": [], "negative": []}, "empty"),
        ({"text": None, "image_url": None, "image_id": None}, "empty"),
        ({"positive": [{"text": "a", "weight": 0}]}, "weight"),
        ({"text": "a", "negative": [{"text": "a"}]}, "cancels itself out"),
        ({"image_id": image_id(0), "negative": [{"text": "axis 0", "weight": 0.6}]}, "cancels itself out"),
    ],
)
def test_a_query_that_asks_for_nothing_is_refused(shared: Api, query: dict[str, Any], says: str) -> None:
    assert says in assert_problem(search(shared, **query), 422, "invalid_request")["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"text": NaN}', b'{"text": "x", "min_score": Infinity}']
)
def test_what_is_not_json_is_refused(shared: Api, body: bytes) -> None:
    response = shared.http.post("/v1/search", data=body, content_type="application/json")
    assert_problem(response, 400, "bad_request")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"3"])
def test_a_body_that_is_no_object_is_refused(shared: Api, body: bytes) -> None:
    response = shared.http.post("/v1/search", data=body, content_type="application/json")
    assert "must be a JSON object" in assert_problem(response, 422, "invalid_request")["detail"]


def test_deep_nesting_is_refused(shared: Api) -> None:
    for body in (b"[" * 200_000, b'{"filters":' + b'{"not":' * 50_000 + b"1" + b"}" * 50_001):
        response = shared.http.post("/v1/search", data=body, content_type="application/json")
        assert_problem(response, 400, "bad_request")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_media_type_is_refused(shared: Api, content_type: str | None) -> None:
    response = shared.http.post("/v1/search", data=b'{"text": "x"}', content_type=content_type)
    assert_problem(response, 415, "unsupported_media_type")


def test_an_unknown_collection_is_named(shared: Api) -> None:
    document = assert_problem(search(shared, text="x", collection="nowhere"), 404, "collection_not_found")
    assert "nowhere" in document["detail"]


@pytest.mark.parametrize("unknown", [image_id(99), "", "x", "\x00"])
def test_an_unknown_picture_is_named(shared: Api, unknown: str) -> None:
    document = assert_problem(search(shared, image_id=unknown), 404, "image_not_found")
    assert document["detail"].startswith("/image_id:")
    response = search(shared, text="x", negative=[{"text": "y"}, {"image_id": unknown}])
    assert assert_problem(response, 404, "image_not_found")["detail"].startswith("/negative/1/image_id:")


def test_a_picture_of_the_empty_default_collection_is_unknown(shared: Api) -> None:
    response = shared.http.post("/v1/search", json={"image_id": image_id(0)})
    assert_problem(response, 404, "image_not_found")


@pytest.mark.parametrize("code", ["invalid_url", "blocked_address", "timeout", "http_status", "too_large"])
def test_a_picture_that_cannot_be_fetched_says_why(api: Api, code: str) -> None:
    api.downloads["http://x/"] = ItemError(code, "so it is")
    document = assert_problem(
        api.http.post("/v1/search", json={"image_url": "http://x/"}), 422, code, "/image_url"
    )
    assert "so it is" in document["detail"]
    query = {"text": "a", "positive": [{"image_url": "http://x/"}]}
    assert_problem(api.http.post("/v1/search", json=query), 422, code, "/positive/0/image_url")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_an_image"),
        (b"<html>", "not_an_image"),
        (picture(size=90)[:-40], "corrupt_image"),
        (picture(size=200), "too_many_pixels"),
        (picture() + b"\0" * 20_000, "too_large"),
    ],
    ids=["empty", "html", "cut", "wide", "long"],
)
def test_a_picture_that_cannot_be_used_says_why(tmp_path: Path, data: bytes, code: str) -> None:
    api = make_api(tmp_path, make_services(tmp_path, max_image_bytes=10_000, max_image_pixels=10_000))
    response = api.http.post("/v1/search", data=form({"text": "x"}, picture(), data))
    assert_problem(response, 422, code, "/image/1")


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        ({"query": '{"text": "x"}', "pictures": (io.BytesIO(b"x"), "a.png")}, "/pictures"),
        ({"query": '{"text": "x"}', "limit": "3"}, "/limit"),
        ({"query": '{"text": "x", "limit": 0}'}, "/limit"),
        ({"query": '{"text": "x"}', "image": "no file name"}, "/image"),
    ],
)
def test_bad_parts_are_pointed_at(shared: Api, parts: dict[str, Any], pointer: str) -> None:
    response = shared.http.post("/v1/search", data=parts, content_type="multipart/form-data")
    assert_problem(response, 422, "invalid_request", pointer)


def test_a_part_without_a_name_is_refused(shared: Api) -> None:
    body = b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\n1\r\n--x--\r\n'
    response = shared.http.post("/v1/search", data=body, content_type="multipart/form-data; boundary=x")
    assert_problem(response, 422, "invalid_request", "/")


def test_a_form_without_anything_is_empty(shared: Api) -> None:
    response = shared.http.post("/v1/search", data={}, content_type="multipart/form-data; boundary=x")
    assert "empty" in assert_problem(response, 422, "invalid_request")["detail"]


@pytest.mark.parametrize("parts", [["{"], ["{}", "{}"]])
def test_a_query_part_that_cannot_be_read_is_refused(shared: Api, parts: list[str]) -> None:
    response = shared.http.post("/v1/search", data={"query": parts}, content_type="multipart/form-data")
    assert_problem(response, 400, "bad_request")


def test_too_many_pictures_are_refused(shared: Api) -> None:
    response = shared.http.post("/v1/search", data=form(None, *[picture()] * 9))
    assert_problem(response, 422, "invalid_request", "/image/8")


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({}, "/text"),
        ({"text": "x", "limit": "ten"}, "/limit"),
        ({"text": "x", "limit": "0"}, "/limit"),
        ({"text": "x", "min_score": "nan"}, "/min_score"),
        ({"text": "x", "offset": "-1"}, "/offset"),
        ({"text": "x", "image_id": "y"}, "/image_id"),
        ({"text": "x", "collection": "/"}, "/collection"),
    ],
)
def test_bad_parameters_are_pointed_at(shared: Api, parameters: dict[str, str], pointer: str) -> None:
    response = shared.http.get("/v1/search", query_string=parameters)
    assert_problem(response, 422, "invalid_request", pointer)


def test_a_blank_text_parameter_is_refused(shared: Api) -> None:
    assert_problem(shared.http.get("/v1/search?text="), 422, "invalid_request")


# Who is needed


def test_search_needs_no_ledger(tmp_path: Path, shared: Api) -> None:
    alone = with_services(shared, tmp_path, ledger=LEDGER_DOWN, dispatcher=None)
    assert ids(search(alone, text="axis 0", limit=2)) == [0, 3]
    assert ids(search(alone, image_id=image_id(2), limit=1)) == [2]
    assert alone.http.get("/v1/search?text=x").status_code == 200


def test_without_the_index_search_can_be_tried_again(tmp_path: Path, shared: Api) -> None:
    response = search(with_services(shared, tmp_path, index=INDEX_DOWN), text="axis 0")
    assert_problem(response, 503, "index_unavailable")
    assert int(response.headers["Retry-After"]) > 0


def test_a_query_is_encoded_by_its_collection_s_model(tmp_path: Path, shared: Api) -> None:
    other = make_api(tmp_path, shared.services, StubEncoder("other/model", "6" * 16), StubEncoder())
    assert ids(search(other, image_id=image_id(0), limit=1)) == [0], "which needs no model"
    assert_problem(search(other, text="axis 0"), 503, "model_not_ready")
    wait_until(lambda: search(other, text="axis 0").status_code == 200)
    assert ids(search(other, text="axis 0")) == ids(search(shared, text="axis 0"))


def test_other_weights_under_a_collection_s_model_s_name_are_refused(tmp_path: Path, shared: Api) -> None:
    same_name = StubEncoder(fingerprint="7" * 16)
    other = make_api(tmp_path, shared.services, StubEncoder("other/model", "6" * 16), same_name)
    wait_until(lambda: search(other, text="axis 0").status_code != 503)
    assert "reindex" in assert_problem(search(other, text="axis 0"), 409, "model_mismatch")["detail"]


# Comparing


def compare(api: Api, a: Any, b: Any, **options: Any) -> TestResponse:
    return api.http.post("/v1/compare", json={"a": a, "b": b, "collection": "axes"} | options)


def test_any_two_are_compared(shared: Api) -> None:
    data = picture()
    shared.downloads["http://x/"] = data
    seen = {
        "text": ({"text": "axis 0"}, axis(0)),
        "id": ({"image_id": image_id(3)}, unit(1, 1)),
        "url": ({"image_url": "http://x/"}, crop_vector(data)),
    }
    for a, first in seen.values():
        for b, second in seen.values():
            score = json.loads(compare(shared, a, b).data)["score"]
            assert score == pytest.approx(float(first @ second), abs=1e-6)
            assert -1 <= score <= 1


@pytest.mark.parametrize(
    ("a", "status", "code", "pointer"),
    [
        ({}, 422, "invalid_request", "/a"),
        ({"text": "x", "image_id": "y"}, 422, "invalid_request", "/a"),
        ({"text": " "}, 422, "invalid_request", "/a/text"),
        ({"text": "x", "weight": 1}, 422, "invalid_request", "/a/weight"),
        (None, 422, "invalid_request", "/a"),
        ({"image_id": image_id(99)}, 404, "image_not_found", None),
        ({"image_url": "http://nowhere/"}, 422, "dns_error", "/a/image_url"),
    ],
)
def test_what_cannot_be_compared_is_pointed_at(
    shared: Api, a: Any, status: int, code: str, pointer: str | None
) -> None:
    assert_problem(compare(shared, a, {"text": "x"}), status, code, pointer)


def test_comparing_in_an_unknown_collection_is_refused(shared: Api) -> None:
    response = compare(shared, {"text": "x"}, {"image_id": image_id(0)}, collection="nowhere")
    assert_problem(response, 404, "collection_not_found")


# --- keywords ------------------------------------------------------------------------------------------


def test_keywords_are_a_condition_beside_filters_and_say_what_matched(api: Api) -> None:
    api.add(0, axis(0), "axes", metadata={"title": "The North Face", "shop": "a"})
    api.add(1, axis(1), "axes", metadata={"title": "face of the north", "brand": "NORTH-FACE", "shop": "a"})
    api.add(2, axis(2), "axes", metadata={"title": "north face", "shop": "b"})
    asked = {"text": "a", "filters": {"shop": "a"}, "keywords": {"any": ["north face", "hat"]}}
    found = {one["id"]: one["matched"] for one in results(search(api, **asked))}
    assert found == {image_id(0): {"north face": ["title"]}, image_id(1): {"north face": ["brand"]}}
    narrower = asked | {"keywords": {"all": ["north face", "face of"], "in": ["title", "brand"]}}
    (only,) = results(search(api, **narrower))
    assert only["matched"] == {"north face": ["brand"], "face of": ["title"]}
    assert all("matched" not in one for one in results(search(api, text="a")))
    facets = json.loads(search(api, **asked, facets=["shop"]).data)["facets"]
    assert facets == {"shop": [{"value": "a", "count": 2}]}


def test_keywords_without_a_word_or_in_a_field_are_refused_and_unknown_names_warned_of(api: Api) -> None:
    api.add(0, axis(0), "axes", metadata={"title": "boot"})
    wrong = search(api, text="a", keywords={"any": ["boot", "!!!"], "in": ["title", "tags"]})
    assert_problem(wrong, 422, "invalid_request")
    assert [one["pointer"] for one in wrong.json["errors"]] == ["/keywords/any/1", "/keywords/in/1"]
    empty = json.loads(search(api, text="a", keywords={"any": ["boot"], "in": ["titel"]}).data)
    assert empty["results"] == []
    assert empty["warnings"] == ["/keywords/in: no picture of this collection has titel; did you mean title?"]


def test_keywords_in_a_collection_whose_texts_are_being_prepared_are_a_409_and_all_else_works(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(index_module, "FORMAT", index_module.PLAIN)
        api.add(0, axis(0), "axes", metadata={"title": "boot"})
    assert_problem(search(api, text="a", keywords={"any": ["boot"]}), 409, "keywords_not_ready")
    assert len(results(search(api, text="a"))) == 1


@pytest.mark.parametrize(
    ("query", "kind", "cached"),
    [
        ({"text": "never asked before"}, "text", [False, True]),
        ({"positive": [{"text": "nor was"}], "negative": [{"text": "this"}]}, "text", [False, True]),
        ({"image_id": image_id(0)}, "image", [True]),
        ({"vector": [1.0] + [0.0] * (len(axis(0)) - 1)}, "image", [True]),
        ({"image_base64": b64encode(picture()).decode()}, "image", [False, False]),
        ({"text": "and a picture", "image_id": image_id(0)}, "combined", [False, True]),
    ],
)
def test_searches_are_counted_by_what_they_ask_with_and_whether_that_was_known(
    shared: Api, query: dict[str, Any], kind: str, cached: list[bool]
) -> None:
    for known in cached:
        counted = Counted()
        results(search(shared, **query))
        assert counted("searches_total", kind=kind, cached=str(known).lower()) == 1
        assert counted("searches_total", kind=kind, cached=str(not known).lower()) == 0
