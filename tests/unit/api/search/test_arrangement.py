"""Lists of a search: their order, groups, diversity, and pages that fit together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.search import arrangement
from api.search.arrangement import diversified
from image_search.models.search import LIST_BOUND, MAX_GROUP_IDS
from shared.models import Image
from tests.unit.fakes import DIMENSION, Api, assert_problem, axis, image_id, make_api, unit

COUNT = 60
MISSING: dict[str, Any] = {}
# Of these, each is less like axis 0 than the one before.
VALUES: list[dict[str, Any]] = [
    {"rank": "b"}, {"rank": 2}, MISSING, {"rank": True}, {"rank": 1.0}, {"rank": 1}, {"rank": ["c", "a"]},
    {"rank": -3.5}, MISSING,
]  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """Read only: `values` has one picture each of VALUES, `scenes` 20 scenes of three shots each."""
    api = make_api(tmp_path_factory.mktemp("api"))
    for number, metadata in enumerate(VALUES):
        api.add(
            number, unit(10, number), "values", metadata=metadata, created_at=1_700_000_000.0 + number % 2
        )
    rng = np.random.default_rng(3)
    rows = np.repeat(rng.normal(size=(COUNT // 3, DIMENSION)), 3, axis=0)
    rows += 0.01 * rng.normal(size=rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    images = [
        Image(
            image_id(number),
            f"{number}.jpg",
            [],
            "jpeg",
            640,
            480,
            1234,
            metadata={"scene": number // 3, "price": number % 11},
        )
        for number in range(COUNT)
    ]
    model = {"model": api.encoder.name, "fingerprint": api.encoder.fingerprint}
    scenes = api.services.index.ensure("scenes", **model, dimension=DIMENSION)
    scenes.upsert(images, rows.astype(np.float32), ["job:0"] * COUNT)
    return api


def search(api: Api, collection: str = "values", **query: Any) -> dict[str, Any]:
    response = api.http.post("/v1/search", json={"text": "axis 0", "collection": collection} | query)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = json.loads(response.data)
    return document


def numbers(document: dict[str, Any]) -> list[int]:
    return [int(result["id"], 16) for result in document["results"]]


def groups(document: dict[str, Any]) -> list[tuple[Any, list[int]]]:
    found = [result["group"] for result in document["results"]]
    return [(group.get("value"), [int(one, 16) for one in group["ids"]]) for group in found]


# --- order_by ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("rank", [7, 3, 4, 5, 1, 6, 0, 2, 8]),
        ("-rank", [1, 3, 4, 5, 7, 6, 0, 2, 8]),
        ("-created_at", [1, 3, 5, 7, 0, 2, 4, 6, 8]),
        ("id", list(range(9))),
        ("-id", list(reversed(range(9)))),
        ("format", list(range(9))),
    ],
)
def test_numbers_come_before_texts_what_lacks_them_last_and_ties_by_score(
    api: Api, order_by: str, expected: list[int]
) -> None:
    assert numbers(search(api, order_by=order_by, among=100)) == expected


def test_only_what_is_near_enough_is_ordered(api: Api) -> None:
    nearest = search(api, order_by="-id", among=4)
    assert numbers(nearest) == [3, 2, 1, 0]
    assert nearest["list_scope"] == {"by": "among", "pictures": 4, "complete": False, "bound": LIST_BOUND}
    floor = float(unit(10, 2)[0]) - 1e-4
    above = search(api, order_by="-id", min_score=floor)
    assert numbers(above) == [2, 1, 0]
    assert above["list_scope"] == {"by": "min_score", "pictures": 3, "complete": True, "bound": LIST_BOUND}
    both = search(api, order_by="-id", min_score=floor, among=2)
    assert (numbers(both), both["list_scope"]["by"]) == ([1, 0], "among")


def test_an_order_without_a_bound_is_refused(api: Api) -> None:
    body = {"text": "axis 0", "collection": "values", "order_by": "rank"}
    problem = assert_problem(api.http.post("/v1/search", json=body), 422, "invalid_request", "/order_by")
    assert all(name in problem["detail"] for name in ("min_score", "min_confidence", "among"))
    assert_problem(api.http.get("/v1/search", query_string=body), 422, "invalid_request", "/order_by")


def test_where_there_is_no_confidence_all_is_ordered(api: Api) -> None:
    found = search(api, order_by="-id", min_confidence=0.5)
    assert numbers(found) == list(reversed(range(9)))
    assert found["list_scope"]["by"] == "bound"
    assert found["warnings"][0].startswith("/min_confidence: ")


def test_among_alone_ends_the_list(api: Api) -> None:
    assert numbers(search(api, among=4, limit=3)) == [0, 1, 2]
    assert numbers(search(api, among=4, limit=3, offset=3)) == [3]
    assert numbers(search(api, among=4, limit=3, offset=6)) == []
    assert "list_scope" not in search(api, among=4)


def test_a_text_alone_is_ordered_and_grouped_too(api: Api) -> None:
    query = {"text": "axis 0", "collection": "values", "order_by": "-rank", "among": 9, "group_by": "rank"}
    response = api.http.get("/v1/search", query_string=query)
    assert numbers(json.loads(response.data)) == [1, 3, 4, 7, 6, 0, 2, 8]


# --- group_by ------------------------------------------------------------------------------------------


def test_each_value_has_its_best_and_what_lacks_it_is_alone(api: Api) -> None:
    document = search(api, group_by="rank")
    assert groups(document) == [
        ("b", [0]), (2, [1]), (None, [2]), (True, [3]), (1.0, [4, 5]), ("c", [6]), (-3.5, [7]), (None, [8]),
    ]  # fmt: skip
    assert [result["group"]["size"] for result in document["results"]] == [1, 1, 1, 1, 2, 1, 1, 1]
    assert document["list_scope"] == {"by": "bound", "pictures": 9, "complete": True, "bound": LIST_BOUND}


def test_the_members_of_a_group_are_found_by_its_value(api: Api) -> None:
    of_one = search(api, "scenes", group_by="scene", limit=1)["results"][0]
    again = search(api, "scenes", filters={"scene": of_one["group"]["value"]})
    assert [result["id"] for result in again["results"]] == of_one["group"]["ids"]


def test_times_are_shown_as_everywhere(api: Api) -> None:
    assert groups(search(api, group_by="created_at")) == [
        ("2023-11-14T22:13:20.000Z", [0, 2, 4, 6, 8]),
        ("2023-11-14T22:13:21.000Z", [1, 3, 5, 7]),
    ]


def test_near_duplicates_are_one_result(api: Api) -> None:
    plain = numbers(search(api, "scenes", limit=COUNT))
    found = groups(search(api, "scenes", group_by="near_duplicates", limit=COUNT))
    assert [(value, members[0]) for value, members in found] == [
        (None, one) for at, one in enumerate(plain) if one // 3 not in {former // 3 for former in plain[:at]}
    ]
    assert all(sorted(members) == [3 * (members[0] // 3) + shot for shot in range(3)] for _, members in found)


def test_as_many_groups_as_were_asked_for_are_looked_for_in_all_that_there_is(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrangement, "POOL", 4)
    first = search(api, "scenes", group_by="scene", limit=2)
    assert (len(groups(first)), first["list_scope"]["complete"]) == (2, False)
    every = search(api, "scenes", group_by="scene", limit=COUNT)
    assert len(groups(every)) == COUNT // 3
    assert every["list_scope"] == {"by": "bound", "pictures": COUNT, "complete": True, "bound": LIST_BOUND}
    few = search(api, "scenes", group_by="scene", limit=COUNT, among=5)
    assert sum(len(members) for _, members in groups(few)) == 5


def test_a_large_group_shows_its_first_and_its_size(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrangement, "MAX_GROUP_IDS", 3)
    (only,) = search(api, group_by="format")["results"]
    assert only["group"]["size"] == 9
    assert only["group"]["ids"] == [image_id(number) for number in range(3)]
    assert MAX_GROUP_IDS == 100


# --- diversity -----------------------------------------------------------------------------------------


def test_diversity_brings_other_scenes_forward(api: Api) -> None:
    plain = numbers(search(api, "scenes", limit=10))
    diverse = numbers(search(api, "scenes", limit=10, diversity=0.5))
    assert diverse[0] == plain[0]
    assert len({one // 3 for one in diverse}) > len({one // 3 for one in plain})
    none = search(api, "scenes", limit=10, diversity=0)
    assert (numbers(none), none["list_scope"]["pictures"]) == (plain, 11)


def test_diversity_and_an_order_exclude_each_other(api: Api) -> None:
    body = {"text": "axis 0", "collection": "values", "order_by": "id", "among": 9, "diversity": 0.5}
    assert_problem(api.http.post("/v1/search", json=body), 422, "invalid_request", "/diversity")


@pytest.mark.parametrize("diversity", [0.0, 0.3, 1.0])
def test_the_next_is_the_best_by_its_score_less_its_likeness_to_the_nearest_taken(diversity: float) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(12, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores = np.sort(rng.normal(size=12))[::-1]
    cosines = rows @ rows.T
    pairs = cosines[~np.eye(12, dtype=bool)]
    relevance = (scores - scores.min()) / np.ptp(scores)
    alike = (cosines - pairs.min()) / np.ptp(pairs)
    taken = [0]
    while len(taken) < 12:
        left = [one for one in range(12) if one not in taken]
        taken.append(
            max(left, key=lambda one: (1 - diversity) * relevance[one] - diversity * alike[one, taken].max())
        )
    assert diversified(scores, rows.astype(np.float32), diversity) == (
        taken if diversity else list(range(12))
    )


def test_equal_pictures_are_diversified_in_their_order() -> None:
    assert diversified(np.ones(3), np.ones((3, 1), np.float32), 0.5) == [0, 1, 2]
    assert diversified(np.ones(1), np.ones((1, 1), np.float32), 0.5) == [0]


# --- pages, and what else goes with lists --------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        {"order_by": "-price", "among": 50},
        {"group_by": "price"},
        {"group_by": "near_duplicates"},
        {"diversity": 0.4},
        {"group_by": "scene", "order_by": "price", "min_score": -0.5},
        {"group_by": "near_duplicates", "diversity": 0.7, "filters": {"price": {"lt": 9}}},
        {"diversity": 0.4, "image_id": image_id(30), "text": None},
    ],
    ids=str,
)
def test_pages_neither_repeat_nor_miss(
    api: Api, query: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrangement, "POOL", 16)
    whole = numbers(search(api, "scenes", limit=COUNT, **query))
    assert len(whole) == len(set(whole)) > 10
    pages = [numbers(search(api, "scenes", limit=7, offset=at, **query)) for at in range(0, COUNT, 7)]
    assert [one for page in pages for one in page] == whole


def test_the_picture_that_was_asked_for_leads_unless_an_order_was(api: Api) -> None:
    asked = {"text": None, "image_id": image_id(4), "collection": "scenes"}
    for query in ({"group_by": "scene"}, {"group_by": "near_duplicates"}, {"diversity": 1.0}):
        assert numbers(search(api, **asked, **query))[0] == 4
    assert 4 not in numbers(search(api, **asked, filters={"scene": 7}, group_by="scene"))
    assert numbers(search(api, **asked, order_by="id", among=3))[0] == 3


@pytest.mark.parametrize("query", [{"order_by": "-colour", "among": 9}, {"group_by": "colour"}], ids=str)
def test_a_name_that_no_picture_has_is_warned_of(api: Api, query: dict[str, Any]) -> None:
    document = search(api, **query)
    assert numbers(document) == list(range(9))
    (pointer,) = (f"/{name}" for name in query if name != "among")
    assert document["warnings"] == [
        f"{pointer}: no picture of this collection has colour; did you mean colors?"
    ]


def test_an_empty_collection_has_empty_lists(tmp_path: Path) -> None:
    api = make_api(tmp_path)
    document = search(api, "images", order_by="id", among=5, group_by="near_duplicates")
    assert document["results"] == []
    assert document["list_scope"] == {"by": "among", "pictures": 0, "complete": True, "bound": LIST_BOUND}
    api.add(0, axis(1))
    assert numbers(search(api, "images", group_by="near_duplicates", diversity=1.0)) == [0]
    assert numbers(search(api, "images", min_score=0.5, group_by="near_duplicates", diversity=1.0)) == []
