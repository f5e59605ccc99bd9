"""What a query can ask, through HTTP on the real stack, with a tiny random CLIP."""

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.stack import Stack, eventually, finished

COUNT = 45
WHERE = {"collection": "asked"}


def png(seed: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """Blocks of random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    """COUNT pictures, numbered by their metadata, two thirds of shop north."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        metadata = [{"n": n, "shop": "south" if n % 3 == 0 else "north"} for n in range(COUNT)]
        files = [("files", (f"{n}.png", png(n))) for n in range(COUNT)]
        job = client.post("/v1/jobs", files=files, data={"metadata": json.dumps(metadata), **WHERE})
        assert job.status_code == 202, job.text
        eventually(lambda: client.get(job.headers["Location"]).json()["status"] == "succeeded", 90)
        yield client


def search(http: httpx.Client, **query: Any) -> dict[str, Any]:
    response = http.post("/v1/search", json={"text": "a red car", **WHERE} | query)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def test_each_result_of_a_combined_query_says_what_its_score_is_made_of(http: httpx.Client) -> None:
    known = search(http, limit=1)["results"][0]["id"]
    query = {
        **WHERE,
        "text": "a red car",
        "positive": [{"image_id": known, "weight": 0.5}],
        "negative": [{"text": "a toy", "weight": 0.25}],
        "include": ["contributions"],
    }
    response = http.post("/v1/search", files={"image": ("a.png", png(7))}, data={"query": json.dumps(query)})
    assert response.status_code == 200, response.text
    for result in response.json()["results"]:
        terms = result["contributions"]
        assert [(term["pointer"], term["weight"]) for term in terms] == [
            ("/text", 1),
            ("/image/0", 1),
            ("/positive/0/image_id", 0.5),
            ("/negative/0/text", -0.25),
        ]
        assert [term["scale"] == 1 for term in terms] == [True, False, False, True]
        assert len({term["scale"] for term in terms}) == 2
        assert sum(term["share"] for term in terms) == pytest.approx(result["score"], abs=1e-4)


def test_the_filter_job_finds_what_each_job_brought(http: httpx.Client) -> None:
    files = [("files", (f"again {n}.png", png(n))) for n in (1, 2, COUNT)]
    status = finished(http, http.post("/v1/jobs", files=files, data=WHERE))
    assert (status["counts"]["indexed"], status["counts"]["duplicate"]) == (1, 2)
    first = http.get("/v1/jobs", params={"limit": 100}).json()["jobs"]
    before = next(one for one in first if one["collection"] == "asked" and one["total"] == COUNT)
    for filters, expected in (
        ({"job": status["job_id"]}, 3),
        ({"job": before["job_id"]}, COUNT),
        ({"job": {"in": [status["job_id"], before["job_id"]]}}, COUNT + 1),
        ({"job": {"ne": status["job_id"]}}, COUNT - 2),
        ({"job": "nonesuch"}, 0),
    ):
        assert len(search(http, filters=filters, limit=100)["results"]) == expected
        listed = http.get("/v1/images", params={**WHERE, "filters": json.dumps(filters), "limit": 100})
        assert len(listed.json()["images"]) == expected
    new = search(http, filters={"and": [{"job": status["job_id"]}, {"job": {"ne": before["job_id"]}}]})
    assert [one["source"] for one in new["results"]] == [f"again {COUNT}.png"]
    http.delete(f"/v1/images/{new['results'][0]['id']}", params=WHERE).raise_for_status()


def test_a_repeated_text_gives_the_same_answer(http: httpx.Client) -> None:
    first, again, among_others = (
        search(http, **query)["results"]
        for query in ({}, {}, {"positive": [{"text": "something much longer", "weight": 0}]})
    )
    assert first == again == among_others


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"text": None, "positive": [{"text": "a", "weight": 0}]}, "/positive/0/weight"),
        ({"negative": [{"text": "a red car"}]}, "/negative/0/text"),
        ({"facets": ["shop", "no name"]}, "/facets/1"),
        ({"min_confidence": 2}, "/min_confidence"),
        ({"offset": 10_001}, "/offset"),
    ],
)
def test_bad_queries_are_pointed_at(http: httpx.Client, query: dict[str, Any], pointer: str) -> None:
    response = http.post("/v1/search", json={"text": "a red car", **WHERE} | query)
    assert response.status_code == 422
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["errors"][0]["pointer"] == pointer


def test_facets_count_all_that_is_found(http: httpx.Client) -> None:
    document = search(http, facets=["shop", "format", "nothing"], limit=3)
    assert document["facets"] == {
        "shop": [{"value": "north", "count": 30}, {"value": "south", "count": 15}],
        "format": [{"value": "png", "count": COUNT}],
        "nothing": [],
    }
    assert document["facet_scope"] == {
        "pictures": COUNT,
        "complete": True,
        "bound": 10_000,
        "cut_off": [],
    }
    narrowed = search(http, facets=["shop"], filters={"n": {"lt": 3}})
    assert narrowed["facets"]["shop"] == [{"value": "north", "count": 2}, {"value": "south", "count": 1}]


@pytest.mark.parametrize("filters", [None, {"shop": "north"}])
def test_pages_are_the_whole_list_in_order(http: httpx.Client, filters: dict[str, str] | None) -> None:
    whole = search(http, limit=500, filters=filters)["results"]
    pages = [search(http, limit=7, offset=at, filters=filters)["results"] for at in range(0, 49, 7)]
    assert [one for page in pages for one in page] == whole
    assert len({one["id"] for one in whole}) == (30 if filters else COUNT)


def test_confidence_orders_and_bounds_results(http: httpx.Client) -> None:
    everything = search(http, include=["confidence"], limit=500)["results"]
    values = [one["confidence"] for one in everything]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] <= values[0] <= 1
    floor = values[4] * (1 - 1e-9)
    assert search(http, include=["confidence"], min_confidence=floor)["results"] == everything[:5]
    least = search(http, limit=500)["results"][-1]["id"]
    unlike = {
        "text": None,
        "negative": [{"image_id": least}],
        "positive": [{"text": "a red car", "weight": 0}],
    }
    assert search(http, **unlike, min_confidence=1)["results"] == []


def test_a_heat_map_lies_over_the_picture_and_differs_by_text(http: httpx.Client) -> None:
    image_id = search(http, limit=1)["results"][0]["id"]
    maps = [
        http.get("/v1/explain", params={"image_id": image_id, "text": text, **WHERE})
        for text in ("a red car", "a red car", "something else")
    ]
    for answer in maps:
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).size == (64, 48)
    assert maps[0].content == maps[1].content != maps[2].content
    unknown = http.get("/v1/explain", params={"image_id": "0" * 64, "text": "a", **WHERE})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "image_not_found")
