"""GET /v1/duplicates and `image-search duplicates`."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from httpx import WSGITransport

from api.images import duplicates
from image_search import Client
from image_search.cli import common
from image_search.cli.search import duplicates as command
from tests.unit.fakes import Api, Vector, assert_problem, axis, image_id, make_api, unit

HASH = "00000000000000ff"
NEAR_HASH = "000000000000000f"  # 4 bits away
FAR_HASH = "ffffffffffffff00"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """Two groups, {1, 2, 3} and {7, 8}; 4 has another hash, 5 another vector, 6 no hash."""
    made = make_api(tmp_path)
    rows: list[tuple[int, Vector, str | None, int]] = [
        (1, axis(0), HASH, 300),
        (2, unit(1, 0.1), NEAR_HASH, 400),
        (3, unit(1, 0.2), HASH, 400),
        (4, axis(0), FAR_HASH, 900),
        (5, axis(1), HASH, 900),
        (6, axis(0), None, 900),
        (7, axis(2), FAR_HASH, 300),
        (8, axis(2), FAR_HASH, 300),
    ]
    for number, vector, phash, width in rows:
        size = {"bytes": 2000} if number == 3 else {}
        made.add(number, vector, phash=phash, width=width, height=100, created_at=1000.0 - number, **size)
    return made


def get(api: Api, **params: Any) -> dict[str, Any]:
    response = api.http.get("/v1/duplicates", query_string=params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def members(answer: dict[str, Any]) -> list[list[int]]:
    return [[int(one["id"], 16) for one in group["images"]] for group in answer["groups"]]


def test_groups_have_the_keeper_first_by_area_then_bytes_then_age(api: Api) -> None:
    answer = get(api)
    assert members(answer) == [[3, 2, 1], [8, 7]]
    assert [group["keeper"] for group in answer["groups"]] == [image_id(3), image_id(8)]
    assert [group["count"] for group in answer["groups"]] == [3, 2]
    assert (answer["total"], answer["compared"], answer["not_compared"]) == (2, 7, 1)
    keeper, near, _ = answer["groups"][0]["images"]
    assert (keeper["score"], keeper["distance"]) == (1.0, 0)
    assert near["distance"] == 4
    assert near["score"] == pytest.approx(float(unit(1, 0.1) @ unit(1, 0.2)), abs=1e-5)
    assert keeper["thumbnail_url"] == f"/v1/images/{image_id(3)}/thumbnail"
    assert keeper["created_at"] == "1970-01-01T00:16:37.000Z"


def test_the_bounds_are_parameters(api: Api) -> None:
    assert members(get(api, max_distance=3)) == [[3, 1], [8, 7]]
    assert members(get(api, threshold=0.999)) == [[8, 7]]
    assert members(get(api, threshold=0.993)) == [[3, 2, 1], [8, 7]]


def test_pages_end_and_lose_nothing(api: Api) -> None:
    first = get(api, limit=1)
    assert (members(first), first["total"]) == ([[3, 2, 1]], 2)
    second = get(api, limit=1, cursor=first["next_cursor"])
    assert (members(second), second["next_cursor"]) == ([[8, 7]], None)


def test_a_group_shows_its_first_pictures_and_counts_all(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_SHOWN", 2)
    group = get(api)["groups"][0]
    assert (group["count"], [int(one["id"], 16) for one in group["images"]]) == (3, [3, 2])


def test_a_collection_that_holds_nothing_has_no_groups(tmp_path: Path) -> None:
    empty = {"groups": [], "total": 0, "compared": 0, "not_compared": 0, "next_cursor": None}
    assert get(make_api(tmp_path)) == empty


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"threshold": 0}, "/threshold"),
        ({"threshold": 1.01}, "/threshold"),
        ({"threshold": "nan"}, "/threshold"),
        ({"max_distance": 33}, "/max_distance"),
        ({"max_distance": -1}, "/max_distance"),
        ({"limit": 0}, "/limit"),
        ({"cursor": "x"}, "/cursor"),
        ({"treshold": 0.9}, "/treshold"),
        ({"collection": "a/b"}, "/collection"),
    ],
)
def test_a_bad_parameter_is_pointed_at(api: Api, params: dict[str, Any], pointer: str) -> None:
    assert_problem(api.http.get("/v1/duplicates", query_string=params), 422, "invalid_request", pointer)


def test_an_unknown_collection_is_404(api: Api) -> None:
    assert_problem(api.http.get("/v1/duplicates?collection=dogs"), 404, "collection_not_found")


def test_more_pictures_than_can_be_compared_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_PICTURES", 7)
    assert_problem(api.http.get("/v1/duplicates"), 422, "invalid_request", "/collection")


def test_one_comparison_runs_at_a_time_and_frees_its_place(api: Api) -> None:
    with duplicates._searching:
        response = api.http.get("/v1/duplicates")
        assert_problem(response, 503, "unavailable")
        assert int(response.headers["Retry-After"]) > 0
    assert get(api)["total"] == 2
    api.http.get("/v1/duplicates?collection=dogs")
    assert get(api)["total"] == 2


def test_the_command_shows_the_groups(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "Client", partial(Client, transport=WSGITransport(app=api.app)))
    shown = CliRunner().invoke(command, ["--threshold", "0.9"])
    assert shown.exit_code == 0, shown.output
    rows = [line.split() for line in shown.output.splitlines()]
    assert ["1", "keep", "400x100", "2,000", "1.0000", image_id(3), "https://example.com/3.jpg"] in rows
    assert sum("keep" in row for row in rows) == 2
    assert "having no perceptual hash: 1 picture." in shown.output
    one = CliRunner().invoke(command, ["--limit", "1"])
    assert "1 more group:" in one.output
    printed = CliRunner().invoke(command, ["--json"])
    assert members(json.loads(printed.output)) == [[3, 2, 1], [8, 7]]


def test_the_client_follows_the_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("image_search._operations.images.MAX_GROUPS", 1)
    with Client("http://127.0.0.1", transport=WSGITransport(app=api.app)) as client:
        assert members(client.duplicates().model_dump()) == [[3, 2, 1], [8, 7]]
        assert members(client.duplicates(limit=1).model_dump()) == [[3, 2, 1]]
