import json
import threading
from pathlib import Path
from typing import Any

import pytest

from api.search import unknown_names
from shared.index.collection import Collection
from shared.index.survey import Survey
from tests.unit.fakes import INDEX_DOWN, Api, assert_problem, axis, make_api, make_services, unit


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Api:
    api = make_api(tmp_path_factory.mktemp("api"))
    api.add(0, axis(0), metadata={"price": 5, "shop": "north", "sold": True, "labels": ["new"]})
    api.add(1, unit(1, 1), metadata={"price": 9.5, "shop": "south", "size": "m"})
    api.add(2, unit(1, 2), metadata={"shop": "south", "size": 38})
    return api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def search(api: Api, **query: Any) -> tuple[int, list[str]]:
    """The number of results, and the warnings."""
    response = api.http.post("/v1/search", json={"text": "axis 0"} | query)
    assert response.status_code == 200, response.text
    document = json.loads(response.data)
    return len(document["results"]), document.get("warnings", [])


def listed(api: Api, filters: Any, **parameters: Any) -> dict[str, Any]:
    query = {"filters": json.dumps(filters)} | parameters
    response = api.http.get("/v1/images", query_string=query)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = json.loads(response.data)
    return document


UNKNOWN = "/filters: no picture of this collection has"


@pytest.mark.parametrize(
    ("filters", "count", "warnings"),
    [
        ({"prise": 3}, 0, [f"{UNKNOWN} prise; did you mean price?"]),
        ({"Price": {"gt": 3}}, 0, [f"{UNKNOWN} Price; did you mean price?"]),
        ({"colour": "red"}, 0, [f"{UNKNOWN} colour; did you mean colors?"]),
        ({"zzz": {"in": []}}, 0, [f"{UNKNOWN} zzz; its metadata has shop, price, size, labels and 1 more."]),
        ({"prise": {"ne": 3}}, 3, [f"{UNKNOWN} prise; did you mean price?"]),
        ({"not": {"prise": {"gte": 3, "lt": 9}}}, 3, [f"{UNKNOWN} prise; did you mean price?"]),
        ({"or": [{"prise": 3}, {"price": 5}]}, 1, [f"{UNKNOWN} prise; did you mean price?"]),
        ({"price": {"lt": 9}, "shop": {"nin": ["north", "west"]}}, 0, []),
        ({"price": 77}, 0, []),
        ({"labels": "new", "width": {"gt": 1}}, 1, []),
        ({"shop": {"ne": "south"}}, 1, []),
        ({"size": {"in": ["m", 38]}}, 2, []),
        ({"price": {"in": ["5", 5]}}, 1, []),
        (
            {"price": "3"},
            0,
            ['/filters: price is a number in this collection; "3" is a text, so they never match.'],
        ),
        (
            {"price": {"ne": "5"}},
            3,
            ['/filters: price is a number in this collection; "5" is a text, so they never match.'],
        ),
        (
            {"size": True},
            0,
            ["/filters: size is a text or a number in this collection; true is a truth value, "
             "so they never match."],
        ),
        (
            {"sold": {"in": ["true", "yes"]}},
            0,
            ['/filters: sold is true or false in this collection; "true" is a text, so they never match.'],
        ),
        (
            {"labels": {"gt": 3}},
            0,
            ["/filters: labels is a list of texts in this collection; 3 is a number, so they never match."],
        ),
        ({"tags": "cat", "format": "png", "key": "k", "taken_at": {"gt": "2024-01-01"}}, 0, []),
        ({"near": {"lat": 1, "lon": 1, "radius_km": 1}}, 0, []),
        ({"job": "unknown"}, 0, ["/filters: no picture of this collection came with job unknown."]),
        ({"jobs": "x"}, 0, [f"{UNKNOWN} jobs; did you mean job?"]),
        ({}, 3, []),
    ],
)  # fmt: skip
def test_a_condition_that_nothing_can_match_is_said(
    shared: Api, filters: Any, count: int, warnings: list[str]
) -> None:
    assert search(shared, filters=filters) == (count, warnings)
    page = listed(shared, filters)
    assert (len(page["images"]), page.get("warnings", [])) == (count, warnings)
    assert ("warnings" in page) == bool(warnings)


def test_a_facet_that_counts_nothing_is_said_where_the_name_is_unknown(shared: Api) -> None:
    _, warnings = search(shared, facets=["prise", "price", "tags", "shop"])
    assert warnings == ["/facets: no picture of this collection has prise; did you mean price?"]
    assert search(shared, facets=["shop"], filters={"price": 77}) == (0, [])


def test_it_is_said_once_with_the_first_page(shared: Api) -> None:
    assert search(shared, filters={"prise": {"ne": 3}}, limit=2, offset=2) == (1, [])
    first = listed(shared, {"prise": {"ne": 3}}, limit=2)
    assert len(first["warnings"]) == 1
    assert "warnings" not in listed(shared, {"prise": {"ne": 3}}, limit=2, cursor=first["next_cursor"])


def test_many_unknown_names_are_a_few_sentences(shared: Api) -> None:
    _, warnings = search(shared, filters={f"unknown{n}": 1 for n in range(90)})
    assert len(warnings) == unknown_names.MAX_WARNINGS


def test_an_empty_collection_says_nothing(api: Api) -> None:
    assert search(api, filters={"prise": 3}) == (0, [])
    api.services.index.create("empty", model="stub/model", fingerprint="5" * 16, dimension=8)
    assert search(api, filters={"prise": 3}, collection="empty") == (0, [])


def test_pictures_without_metadata_are_said_to_have_none(api: Api) -> None:
    api.add(0, axis(0))
    wanted = f"{UNKNOWN} quantity, nor any other metadata."
    assert search(api, filters={"quantity": 3}) == (0, [wanted])


def test_of_a_large_collection_it_says_how_many_were_looked_at(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.index.survey.MOST", 4)
    monkeypatch.setattr("shared.index.survey._PAGE", 2)
    for number in range(8):
        api.add(number, unit(1, number), metadata={"price": number, "rare": "x"} if number == 5 else {"n": 1})
    _, warnings = search(api, filters={"rare": "y"})
    assert warnings == ["/filters: none of the 4 pictures looked at, of 8, has rare; its metadata has n."]
    # What was found shows that the name is known.
    assert search(api, filters={"rare": "x"}) == (1, [])
    _, warnings = search(api, filters={"n": "1"})
    assert warnings == [
        '/filters: n is a number in the 4 pictures looked at; "1" is a text, so they never match.'
    ]


def test_pictures_that_nobody_is_shown_are_not_looked_at(tmp_path: Path) -> None:
    api = make_api(tmp_path, make_services(tmp_path, nsfw_max=0.5))
    api.add(0, axis(0), nsfw=0.9, metadata={"secret": 1})
    api.add(1, axis(0), nsfw=0.1, metadata={"price": 1})
    assert search(api, filters={"secret": 2})[1] == [f"{UNKNOWN} secret; its metadata has price."]
    assert search(api, filters={"secret": 2, "nsfw": {"gte": 0}}) == (0, [])
    assert names(api) == ["price"]


def test_a_search_that_found_enough_does_not_look(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        api.add(number, unit(1, number), metadata={"price": number})
    looks: list[bool] = []
    monkeypatch.setattr(Collection, "survey", lambda *args: looks.append(True))
    assert search(api, filters={"price": {"gte": 0}}, limit=2) == (2, [])
    assert search(api, limit=2) == (2, [])
    assert search(api, filters={"price": {"gte": 2}}) == (1, [])
    assert looks == []


def test_a_look_that_takes_long_holds_nobody_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.add(0, axis(0), metadata={"price": 1})
    gate, survey = threading.Event(), Collection.survey

    def slow(*args: Any) -> Survey:
        gate.wait(20)
        return survey(*args)

    monkeypatch.setattr(Collection, "survey", slow)
    monkeypatch.setattr(unknown_names, "WAIT_SECONDS", 0.05)
    assert search(api, filters={"prise": 1}) == (0, [])
    gate.set()
    monkeypatch.setattr(unknown_names, "WAIT_SECONDS", 10)
    assert len(search(api, filters={"prise": 1})[1]) == 1


def test_a_look_that_fails_takes_nothing_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.add(0, axis(0), metadata={"price": 1})
    monkeypatch.setattr(Collection, "survey", INDEX_DOWN.count)  # type: ignore[attr-defined]
    assert search(api, filters={"prise": {"ne": 1}}) == (1, [])
    response = api.http.get("/v1/collections/images/metadata")
    assert_problem(response, 503, "index_unavailable")


def names(api: Api, collection: str = "images") -> list[str]:
    response = api.http.get(f"/v1/collections/{collection}/metadata")
    assert response.status_code == 200, response.text
    return [one["name"] for one in json.loads(response.data)["names"]]


def test_a_collections_metadata_are_listed(shared: Api) -> None:
    document = json.loads(shared.http.get("/v1/collections/images/metadata").data)
    assert (document["collection"], document["pictures"], document["complete"]) == ("images", 3, True)
    assert [one["name"] for one in document["names"]] == ["shop", "price", "size", "labels", "sold"]
    assert document["names"][0] == {
        "name": "shop",
        "pictures": 3,
        "types": {"text": 3},
        "values": [{"value": "south", "count": 2}, {"value": "north", "count": 1}],
        "more_values": False,
    }
    assert document["names"][2]["types"] == {"text": 1, "number": 1}
    assert document["more_names"] is False
    assert [one["name"] for one in document["fields"]] == ["format"]


def test_a_collection_that_is_unknown_or_empty(api: Api) -> None:
    assert_problem(api.http.get("/v1/collections/nowhere/metadata"), 404, "collection_not_found")
    assert names(api) == []


def test_of_very_many_names_the_most_frequent_are_listed(api: Api) -> None:
    for number in range(8):
        api.add(
            number, unit(1, number), metadata={f"n{number}_{n}": "\ud800" for n in range(31)} | {"all": 1}
        )
    document = json.loads(api.http.get("/v1/collections/images/metadata").data)
    assert (len(document["names"]), document["more_names"]) == (200, True)
    assert document["names"][0]["name"] == "all"
    assert document["names"][1]["values"] == [{"value": "\ud800", "count": 1}]


def test_a_job_that_brought_nothing_here_is_said_to_have(api: Api) -> None:
    api.add(0, axis(0), jobs=["a1"], nsfw=0.9, metadata={"price": 1})
    unknown = "/filters: no picture of this collection came with job {}."
    assert search(api, filters={"job": "a1"}) == (1, [])
    assert search(api, filters={"job": "a1", "price": 2}) == (0, [])
    assert search(api, filters={"job": "zz"}) == (0, [unknown.format("zz")])
    assert search(api, filters={"job": {"in": ["zz", "yy"]}}) == (0, [unknown.format("zz, yy")])
    assert listed(api, {"job": "zz"})["warnings"] == [unknown.format("zz")]
