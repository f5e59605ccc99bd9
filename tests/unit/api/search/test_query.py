"""What each term of a combined query has in a score, and what negatives do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.search.requests import MIXED_NEGATIVE
from tests.unit.api.search.test_routes import crop_vector, form
from tests.unit.fakes import Api, assert_problem, axis, image_id, make_api, picture, unit

TERM = {"weight": 1, "scale": 1}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """Pictures of things on the first three axes: a car, a toy, a toy car, a garden."""
    api = make_api(tmp_path_factory.mktemp("api"))
    for number, vector in enumerate([axis(0), axis(1), unit(1, 1), axis(2), crop_vector(picture())]):
        api.add(number, vector)
    return api


def results(api: Api, query: dict[str, Any], *pictures: bytes) -> list[dict[str, Any]]:
    full = {"include": ["contributions"]} | query
    options: dict[str, Any] = {"data": form(full, *pictures)} if pictures else {"json": full}
    response = api.http.post("/v1/search", **options)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = json.loads(response.data)["results"]
    return found


def test_each_term_has_its_pointer_weight_cosine_and_share(api: Api) -> None:
    query = {"text": "axis 0", "negative": [{"text": "axis 1", "weight": 0.5}]}
    found = {int(result["id"], 16): result["contributions"] for result in results(api, query)}
    norm = float(np.sqrt(1 + 0.5**2))
    half = float(np.sqrt(0.5))
    assert found[2] == [
        pytest.approx({**TERM, "pointer": "/text", "cosine": half, "share": half / norm}),
        pytest.approx(
            {
                **TERM,
                "pointer": "/negative/0/text",
                "weight": -0.5,
                "cosine": half,
                "share": -0.5 * half / norm,
            }
        ),
    ]


def test_the_shares_add_up_to_the_score_whatever_the_terms_are(api: Api) -> None:
    api.downloads["http://x/"] = picture((0, 90, 0))
    query = {
        "text": "a red car",
        "image_id": image_id(2),
        "positive": [{"image_url": "http://x/", "weight": 3}, {"text": "axis 2", "weight": 0}],
        "negative": [{"text": "night"}, {"image_id": image_id(3), "weight": 0.25}],
    }
    found = results(api, query, picture(), picture((1, 2, 3)))
    assert len(found) == 5
    for result in found:
        terms = result["contributions"]
        assert [term["pointer"] for term in terms] == [
            "/text",
            "/image_id",
            "/image/0",
            "/image/1",
            "/positive/0/image_url",
            "/negative/0/text",
            "/negative/1/image_id",
        ]
        assert [term["weight"] for term in terms] == pytest.approx(
            [1, 1, 1, 1, 3, -7 * MIXED_NEGATIVE, -0.25]
        )
        assert [term["scale"] for term in terms] == pytest.approx([1, *[0.6] * 4, 1, 0.6])
        assert sum(term["share"] for term in terms) == pytest.approx(result["score"], abs=1e-5)
        assert all(-1 <= round(term["cosine"], 6) <= 1 for term in terms)


def test_only_the_ratios_of_weights_count_however_small_they_are(api: Api) -> None:
    def shares(weight: float) -> list[float]:
        terms = [{"text": "axis 0", "weight": weight}, {"image_id": image_id(2), "weight": weight / 2}]
        found = results(api, {"positive": terms})
        assert found[0]["score"] == pytest.approx(sum(one["share"] for one in found[0]["contributions"]))
        return [one["share"] for result in found for one in result["contributions"]]

    assert shares(1e-300) == pytest.approx(shares(1), abs=1e-6)
    assert shares(1e6) == pytest.approx(shares(1), abs=1e-6)


def test_words_and_a_picture_are_a_query_of_an_empty_collection_too(tmp_path: Path) -> None:
    api = make_api(tmp_path)
    api.http.post("/v1/collections", json={"name": "empty"})
    assert results(api, {"text": "axis 0", "collection": "empty"}, picture()) == []


def test_contributions_come_only_when_asked_for(api: Api) -> None:
    assert all("contributions" not in result for result in results(api, {"text": "x", "include": []}))
    assert "metadata" in results(api, {"text": "x", "include": ["metadata", "contributions"]})[0]


def test_a_picture_asked_for_by_its_id_has_all_of_its_score_from_there(api: Api) -> None:
    first = results(api, {"image_id": image_id(2), "limit": 1})[0]
    (term,) = first["contributions"]
    assert term == pytest.approx({**TERM, "pointer": "/image_id", "cosine": 1, "share": 1}, abs=1e-6)


def test_a_negative_pushes_down_what_it_names(api: Api) -> None:
    """Car less toy: the plain car first, then what has to do with neither, and the toy below everything."""

    def order(**query: Any) -> list[int]:
        found = results(api, {"filters": {"id": {"in": [image_id(n) for n in range(4)]}}} | query)
        return [int(result["id"], 16) for result in found]

    assert order(text="axis 0") == [0, 2, 1, 3]
    assert order(text="axis 0", negative=[{"text": "axis 1"}]) == [0, 2, 3, 1]
    assert order(text="axis 0", negative=[{"text": "axis 1", "weight": 2}]) == [0, 3, 2, 1]
    ranks = [order(text="axis 0", negative=[{"text": "axis 1", "weight": w}]).index(2) for w in (0, 0.5, 2)]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        (
            {"positive": [{"text": "a", "weight": 0}], "negative": [{"image_id": "x", "weight": 0}]},
            ["/positive/0/weight", "/negative/0/weight"],
        ),
        ({"text": "a", "negative": [{"text": "a"}]}, ["/negative/0/text"]),
        (
            {
                "text": "axis 3",
                "positive": [{"image_id": image_id(3)}],
                "negative": [{"image_id": image_id(3), "weight": 1}, {"text": "axis 3", "weight": 1}],
            },
            ["/negative/0/image_id", "/negative/1/text"],
        ),
    ],
)
def test_what_asks_for_nothing_is_pointed_at(api: Api, query: dict[str, Any], pointers: list[str]) -> None:
    response = api.http.post("/v1/search", json=query)
    document = assert_problem(response, 422, "invalid_request")
    assert [fault["pointer"] for fault in document["errors"]] == pointers


def test_an_upload_that_is_taken_away_again_cancels_out(api: Api) -> None:
    api.downloads["http://x/"] = picture()
    response = api.http.post("/v1/search", data=form({"negative": [{"image_url": "http://x/"}]}, picture()))
    document = assert_problem(response, 422, "invalid_request", "/negative/0/image_url")
    assert "cancels itself out" in document["detail"]


def test_a_weight_of_zero_in_a_form_is_pointed_at_unless_a_picture_counts(api: Api) -> None:
    query = {"positive": [{"text": "a", "weight": 0}], "include": ["contributions"]}
    response = api.http.post(
        "/v1/search", data={"query": json.dumps(query)}, content_type="multipart/form-data"
    )
    assert_problem(response, 422, "invalid_request", "/positive/0/weight")
    (term,) = results(api, query, picture())[0]["contributions"]
    assert term["pointer"] == "/image/0"


def test_unknown_pictures_and_collections_are_pointed_at(api: Api, tmp_path: Path) -> None:
    query = {"text": "a", "negative": [{"image_id": image_id(77)}]}
    response = api.http.post("/v1/search", json=query)
    assert_problem(response, 404, "image_not_found", "/negative/0/image_id")
    response = api.http.post("/v1/search", data=form({"collection": "none"}, picture()))
    assert_problem(response, 404, "collection_not_found", "/collection")
