import json
from pathlib import Path
from typing import Any

import pytest

from api.search.facets import count_values
from api.search.requests import SearchRequest
from image_search.models.search import FACET_BOUND, MAX_FACET_VALUES, SearchResult
from shared.models import Image
from tests.unit.fakes import Api, assert_problem, axis, image_id, make_api, unit


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    api = make_api(tmp_path_factory.mktemp("api"))
    api.add(0, axis(0), metadata={"shop": "north", "sizes": ["s", "m"], "price": 5})
    api.add(1, unit(1, 1), metadata={"shop": "south", "sizes": ["m"], "price": 5.0})
    api.add(2, unit(1, 2), metadata={"shop": "south", "price": 9.5, "new": True}, taken_at=1_704_067_200.0)
    api.add(3, axis(1), format="png", metadata={"shop": "north", "price": 1, "new": 1})
    return api


def search(api: Api, **query: Any) -> dict[str, Any]:
    response = api.http.post("/v1/search", json={"text": "axis 0", "limit": 1} | query)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = json.loads(response.data)
    return document


def facet(api: Api, name: str, **query: Any) -> list[tuple[Any, int]]:
    return [(one["value"], one["count"]) for one in search(api, facets=[name], **query)["facets"][name]]


def test_values_are_counted_over_all_that_is_found_not_the_page(api: Api) -> None:
    assert facet(api, "shop") == [("north", 2), ("south", 2)]
    assert facet(api, "format") == [("jpeg", 3), ("png", 1)]
    document = search(api, facets=["shop", "format"], offset=3, limit=1)
    assert document["facet_scope"] == {
        "pictures": 4,
        "complete": True,
        "bound": FACET_BOUND,
        "cut_off": [],
    }
    assert list(document["facets"]) == ["shop", "format"]


def test_lists_count_each_member_and_sources_are_fields(api: Api) -> None:
    assert facet(api, "sizes") == [("m", 2), ("s", 1)]
    assert facet(api, "source")[0] == ("https://example.com/0.jpg", 1)


def test_equal_numbers_are_one_value_and_true_is_none_of_them(api: Api) -> None:
    assert facet(api, "price") == [(5, 2), (1, 1), (9.5, 1)]
    values = facet(api, "new")
    assert [type(value) for value, _ in values] == [bool, int]
    assert [count for _, count in values] == [1, 1]


def test_times_are_shown_as_times(api: Api) -> None:
    assert facet(api, "taken_at") == [("2024-01-01T00:00:00.000Z", 1)]
    assert facet(api, "created_at") == [("2023-11-14T22:13:20.250Z", 4)]


def test_filters_and_bounds_narrow_what_is_counted(api: Api) -> None:
    assert facet(api, "shop", filters={"shop": "south"}) == [("south", 2)]
    assert facet(api, "shop", min_score=0.6) == [("north", 1), ("south", 1)]
    assert facet(api, "shop", min_score=0.6, filters={"not": {"shop": "north"}}) == [("south", 1)]
    assert facet(api, "shop", image_id=image_id(0), text=None, min_score=0.99) == [("north", 1)]


def test_a_name_that_nothing_has_counts_nothing(api: Api) -> None:
    assert facet(api, "nobody_has_this") == []
    assert facet(api, "tags") == []


def test_a_value_that_is_not_unicode_is_counted(tmp_path: Path) -> None:
    api = make_api(tmp_path)
    api.add(0, axis(0), metadata={"note": "\ud800 é"})
    assert facet(api, "note") == [("\ud800 é", 1)]


def test_an_empty_collection_has_empty_facets(tmp_path: Path) -> None:
    document = search(make_api(tmp_path), facets=["shop"])
    assert document["facets"] == {"shop": []}
    assert document["facet_scope"]["pictures"] == 0
    assert document["facet_scope"]["complete"]


def test_without_facets_there_are_none(api: Api) -> None:
    assert not {"facets", "facet_scope"} & search(api).keys()


@pytest.mark.parametrize(
    ("facets", "pointer"),
    [
        (["shop", "a b"], "/facets/1"),
        (["shop\n"], "/facets/0"),
        ([""], "/facets/0"),
        (["_owner"], "/facets/0"),
        (["near"], "/facets/0"),
        (["and"], "/facets/0"),
        (["x" * 64], "/facets/0"),
        ([5], "/facets/0"),
        ("shop", "/facets"),
        (["shop"] * 17, "/facets"),
    ],
)
def test_a_bad_name_is_pointed_at(api: Api, facets: Any, pointer: str) -> None:
    response = api.http.post("/v1/search", json={"text": "x", "facets": facets})
    assert_problem(response, 422, "invalid_request", pointer)


def test_past_the_bound_the_nearest_are_counted_and_the_answer_says_so(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.search.routes.FACET_BOUND", 2)
    document = search(api, facets=["shop"])
    assert document["facets"]["shop"] == [{"value": "north", "count": 1}, {"value": "south", "count": 1}]
    assert document["facet_scope"] == {"pictures": 2, "complete": False, "bound": 2, "cut_off": []}
    # The first that scores less than the bound was seen, so all that score more were, too.
    assert search(api, facets=["shop"], min_score=0.9)["facet_scope"] == {
        "pictures": 1,
        "complete": True,
        "bound": 2,
        "cut_off": [],
    }


def test_what_hnsw_does_not_find_is_counted_all_the_same(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"ids": [[]], "distances": [[]], "metadatas": [[]]}
    monkeypatch.setattr("shared.index.search._answer", lambda *args: nothing)
    assert facet(api, "shop") == [("north", 2), ("south", 2)]
    assert facet(api, "shop", min_score=0.6) == [("north", 1), ("south", 1)]


def test_only_the_most_frequent_values_are_given() -> None:
    images = [
        Image(image_id(n), "s", [], "jpeg", 1, 1, 1, 1.0, metadata={"n": n // 2, "same": "x"})
        for n in range(2 * MAX_FACET_VALUES + 1)
    ]
    facets, cut_off = count_values(images, ["n", "same"])
    assert [(one.value, one.count) for one in facets["n"]] == [(n, 2) for n in range(MAX_FACET_VALUES)]
    assert cut_off == ["n"]


def test_the_documented_queries_and_answer_are_valid(api: Api) -> None:
    document: dict[str, Any] = json.loads(api.http.get("/openapi.json").data)
    operation = document["paths"]["/v1/search"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert "or nothing, with counts" in examples
    for example in examples.values():
        SearchRequest.model_validate(example["value"])
    (answer,) = document["components"]["schemas"]["SearchResult"]["examples"]
    assert SearchResult.model_validate(answer).model_dump(exclude_none=True) == answer
