"""NSFW_MAX, tags in answers, and filters on the fields that ingestion computes."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakes import Api, assert_problem, axis, image_id, make_api, make_services, unit


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """With NSFW_MAX 0.5, and pictures of nsfw 0.1, 0.5, 0.9 and none."""
    made = make_api(tmp_path, make_services(tmp_path, nsfw_max=0.5))
    made.add(1, axis(0), nsfw=0.1, tags=["cat", "sofa"], colors=["red"])
    made.add(2, unit(1, 0.1), nsfw=0.5, tags=["dog"], colors=["blue", "white"])
    made.add(3, unit(1, 0.2), nsfw=0.9, tags=["cat"], colors=["white"])
    made.add(4, unit(1, 0.3))
    return made


def found(api: Api, **query: Any) -> list[int]:
    response = api.http.post("/v1/search", json={"text": "axis 0", **query})
    assert response.status_code == 200, response.text
    return [int(hit["id"], 16) for hit in response.get_json()["results"]]


def test_a_search_leaves_out_what_is_over_the_limit_and_not_what_is_at_it_or_unknown(api: Api) -> None:
    assert found(api) == [1, 2, 4]
    assert found(api, filters={"tags": "cat"}) == [1]
    assert found(api, image_id=image_id(1), text=None) == [1, 2, 4]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"nsfw": {"gt": 0.4}}, [2, 3]),
        ({"nsfw": {"gte": 0}}, [1, 2, 3]),
        ({"or": [{"tags": "dog"}, {"not": {"nsfw": {"lt": 0.8}}}]}, [2, 3, 4]),
        ({"and": [{"nsfw": {"in": [0.9, 0.1]}}, {"tags": {"in": ["cat"]}}]}, [1, 3]),
    ],
)
def test_a_filter_on_nsfw_asks_for_all(api: Api, filters: dict[str, Any], expected: list[int]) -> None:
    assert found(api, filters=filters) == expected


def test_facets_count_only_what_is_within_the_limit(api: Api) -> None:
    query = {"text": "axis 0", "facets": ["tags", "colors"]}
    answer = api.http.post("/v1/search", json=query).get_json()
    assert answer["facet_scope"]["pictures"] == 3
    assert answer["facets"]["tags"] == [{"value": one, "count": 1} for one in ("cat", "dog", "sofa")]
    assert answer["facets"]["colors"] == [{"value": one, "count": 1} for one in ("blue", "red", "white")]
    asked = api.http.post("/v1/search", json={**query, "filters": {"nsfw": {"gte": 0}}}).get_json()
    assert {"value": "cat", "count": 2} in asked["facets"]["tags"]


def test_similar_pictures_are_within_the_limit(api: Api) -> None:
    results = api.http.get(f"/v1/images/{image_id(1)}/similar").get_json()["results"]
    assert [int(hit["id"], 16) for hit in results] == [2, 4]


def test_lists_are_within_the_limit_unless_they_ask(api: Api) -> None:
    def listed(query: str) -> list[int]:
        return [int(one["id"], 16) for one in api.http.get(f"/v1/images?{query}").get_json()["images"]]

    assert listed("") == [1, 2, 4]
    assert listed('filters={"nsfw": {"gt": 0.4}}') == [2, 3]


def test_a_picture_over_the_limit_is_there_for_who_names_it(api: Api) -> None:
    assert api.http.get(f"/v1/images/{image_id(3)}").get_json()["nsfw"] == 0.9


def test_without_the_setting_nothing_is_left_out(tmp_path: Path) -> None:
    api = make_api(tmp_path)
    api.add(1, axis(0), nsfw=1.0)
    assert found(api) == [1]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"tags": {"in": ["dog", "sofa"]}}, [1, 2]),
        ({"tags": {"nin": ["cat"]}}, [2, 4]),
        ({"colors": {"in": ["red"]}}, [1]),
        ({"colors": "white", "tags": "dog"}, [2]),
    ],
)
def test_tags_and_colours_are_filtered_on(api: Api, filters: dict[str, Any], expected: list[int]) -> None:
    assert found(api, filters=filters) == expected


def test_a_result_has_its_tags_where_they_are_asked_for(api: Api) -> None:
    body = {"text": "axis 0", "limit": 1}
    (bare,) = api.http.post("/v1/search", json=body).get_json()["results"]
    assert "tags" not in bare
    (hit,) = api.http.post("/v1/search", json={**body, "include": ["tags"]}).get_json()["results"]
    assert hit["tags"] == ["cat", "sofa"]
    assert "metadata" not in hit
    assert_problem(
        api.http.post("/v1/search", json={**body, "include": ["color"]}), 422, "invalid_request", "/include/0"
    )


@pytest.mark.parametrize(
    ("filters", "pointer"),
    [
        ({"nsfw": {"gt": "much"}}, "/filters/nsfw/gt"),
        ({"tags": {"gt": "cat"}}, "/filters/tags/gt"),
        ({"colors": {"in": [3]}}, "/filters/colors/in/0"),
    ],
)
def test_a_value_of_the_wrong_kind_is_pointed_at(api: Api, filters: dict[str, Any], pointer: str) -> None:
    response = api.http.post("/v1/search", json={"text": "axis 0", "filters": filters})
    assert_problem(response, 422, "invalid_request", pointer)
