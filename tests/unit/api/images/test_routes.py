import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.index.connection import calls
from shared.storage.blobs import file_key
from tests.unit.fakes import (
    INDEX_DOWN,
    LEDGER_DOWN,
    Api,
    assert_problem,
    axis,
    image_id,
    make_api,
    unit,
    with_services,
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def test_a_picture_is_described(api: Api) -> None:
    added = api.add(
        1,
        axis(0),
        taken_at=1_704_067_200.0,
        lat=47.4,
        lon=8.5,
        metadata={"shop": "north", "sizes": ["s", "m"]},
        tags=["sailboat", "lake"],
        nsfw=0.0031,
        colors=["blue", "white"],
        phash="00ff00ff00ff00ff",
    )
    response = api.http.get(f"/v1/images/{added}")
    assert response.status_code == 200
    assert json.loads(response.data) == {
        "id": added,
        "collection": "images",
        "source": "https://example.com/1.jpg",
        "sources": ["https://example.com/1.jpg"],
        "format": "jpeg",
        "width": 640,
        "height": 480,
        "bytes": 1234,
        "created_at": "2023-11-14T22:13:20.250Z",
        "taken_at": "2024-01-01T00:00:00.000Z",
        "lat": 47.4,
        "lon": 8.5,
        "tags": ["sailboat", "lake"],
        "nsfw": 0.0031,
        "colors": ["blue", "white"],
        "phash": "00ff00ff00ff00ff",
        "metadata": {"shop": "north", "sizes": ["s", "m"]},
        "keys": [],
        "thumbnail_url": f"/v1/images/{added}/thumbnail",
    }


@pytest.mark.parametrize(
    "odd",
    [
        {"taken_at": -62_135_600_400.0},
        {"taken_at": 1e300, "lat": 1e300, "lon": -181.0, "nsfw": 2.0},
        {"taken_at": math.nan, "lat": math.nan, "lon": math.inf, "nsfw": math.nan},
        {"created_at": 253_402_318_799.0},
        {"created_at": -math.inf},
        {"phash": "no hash"},
    ],
)
def test_what_earlier_versions_stored_and_no_answer_can_say_is_null(api: Api, odd: dict[str, Any]) -> None:
    added = api.add(1, axis(0), **({"phash": "0" * 16} | odd))
    api.add(2, axis(0), phash="0" * 16)
    shown = api.http.get(f"/v1/images/{added}")
    assert shown.status_code == 200
    assert {name: shown.json[name] for name in odd} == dict.fromkeys(odd)
    query = {"text": "axis 0", "facets": list(odd.keys() - {"phash"})}
    answers = [
        api.http.get("/v1/images"),
        api.http.get(f"/v1/images/{added}/similar"),
        api.http.get("/v1/duplicates"),
        api.http.post("/v1/search", json=query),
        api.http.post("/v1/search", json=query | {"filters": {"taken_at": {"lt": "2024-01-01"}}}),
        api.http.patch(f"/v1/images/{added}", json={"metadata": {"seen": True}}),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert all("NaN" not in answer.text and "Infinity" not in answer.text for answer in answers)


def test_a_picture_is_looked_up_in_its_collection(api: Api) -> None:
    added = api.add(1, axis(0), "cats")
    assert api.http.get(f"/v1/images/{added}?collection=cats").status_code == 200
    assert_problem(api.http.get(f"/v1/images/{added}"), 404, "image_not_found")
    assert_problem(api.http.get(f"/v1/images/{added}?collection=dogs"), 404, "collection_not_found")
    assert_problem(api.http.get(f"/v1/images/{added}?collection=a/b"), 422, "invalid_request", "/collection")


@pytest.mark.parametrize("part", ["", "/thumbnail", "/rendition", "/similar", "/embedding"])
def test_an_unknown_picture_is_named(api: Api, part: str) -> None:
    api.add(1, axis(0))
    document = assert_problem(api.http.get(f"/v1/images/{image_id(2)}{part}"), 404, "image_not_found")
    assert image_id(2) in document["detail"]


def test_a_deleted_picture_is_gone_with_its_files(api: Api) -> None:
    added, other = api.add(1, axis(0)), api.add(2, axis(0))
    for one in (added, other):
        api.services.blobs.put(file_key("images", one, "thumbnail"), b"webp")
        api.services.blobs.put(file_key("images", one, "rendition"), b"webp")
    response = api.http.delete(f"/v1/images/{added}")
    assert (response.status_code, response.data) == (204, b"")
    for part in ("", "/thumbnail", "/rendition", "/similar", "/embedding"):
        assert_problem(api.http.get(f"/v1/images/{added}{part}"), 404, "image_not_found")
        assert api.http.get(f"/v1/images/{other}").status_code == 200
    assert_problem(api.http.delete(f"/v1/images/{added}"), 404, "image_not_found")
    found = json.loads(api.http.post("/v1/search", json={"text": "axis 0"}).data)["results"]
    assert [result["id"] for result in found] == [other]
    assert not api.services.blobs.exists(file_key("images", added, "rendition"))
    assert api.services.blobs.exists(file_key("images", other, "rendition"))


def test_nothing_is_deleted_while_the_ledger_is_down(api: Api, tmp_path: Path) -> None:
    added = api.add(1, axis(0))
    crippled = with_services(api, tmp_path, ledger=LEDGER_DOWN)
    assert_problem(crippled.http.delete(f"/v1/images/{added}"), 503, "ledger_unavailable")
    assert api.http.get(f"/v1/images/{added}").status_code == 200


def test_a_thumbnail_is_webp_with_an_etag(api: Api) -> None:
    added = api.add(1, axis(0))
    api.services.blobs.put(file_key("images", added, "thumbnail"), b"RIFF webp")
    url = f"/v1/images/{added}/thumbnail"
    response = api.http.get(url)
    assert (response.status_code, response.mimetype, response.data) == (200, "image/webp", b"RIFF webp")
    # Nobody gets it from a cache who was not asked for a key just now.
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert "Authorization" in response.headers["Vary"]
    etag = response.headers["ETag"]
    again = api.http.get(url, headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == etag
    assert api.http.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(("data", "kind"), [(b"\xff\xd8jpeg", "image/jpeg"), (b"RIFF webp", "image/webp")])
def test_a_rendition_has_its_own_type_and_an_etag(api: Api, data: bytes, kind: str) -> None:
    added = api.add(1, axis(0))
    api.services.blobs.put(file_key("images", added, "rendition"), data)
    url = f"/v1/images/{added}/rendition"
    response = api.http.get(url)
    assert (response.status_code, response.mimetype, response.data) == (200, kind, data)
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert "Authorization" in response.headers["Vary"]
    again = api.http.get(url, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert_problem(api.http.get(f"{url}?collection=dogs"), 404, "collection_not_found")


def test_a_rendition_that_was_not_kept_says_how_to_have_one(api: Api) -> None:
    response = api.http.get(f"/v1/images/{api.add(1, axis(0))}/rendition")
    assert "IMAGE_SEARCH_KEEP" in assert_problem(response, 404, "rendition_not_kept")["detail"]


def test_a_thumbnail_needs_the_blob_store_only(api: Api, tmp_path: Path) -> None:
    api.services.blobs.put(file_key("images", image_id(1), "thumbnail"), b"RIFF webp")
    alone = with_services(api, tmp_path, index=INDEX_DOWN, ledger=LEDGER_DOWN)
    assert alone.http.get(f"/v1/images/{image_id(1)}/thumbnail").status_code == 200


def test_similar_pictures_leave_out_the_picture_itself(api: Api) -> None:
    for number in range(4):
        api.add(number, unit(1, number))
    response = api.http.get(f"/v1/images/{image_id(1)}/similar")
    found = json.loads(response.data)["results"]
    assert [int(result["id"], 16) for result in found] == [2, 3, 0]
    assert found[0]["score"] == pytest.approx(float(unit(1, 1) @ unit(1, 2)), abs=1e-6)
    assert found[0]["metadata"] == {}
    limited = json.loads(api.http.get(f"/v1/images/{image_id(1)}/similar?limit=1").data)["results"]
    assert limited == found[:1]
    close = json.loads(api.http.get(f"/v1/images/{image_id(1)}/similar?min_score=0.8").data)["results"]
    assert [result["score"] >= 0.8 for result in close] == [True, True]


@pytest.mark.parametrize("parameter", ["limit=0", "limit=501", "min_score=2", "collection=.", "offset=1"])
def test_bad_parameters_are_pointed_at(api: Api, parameter: str) -> None:
    added = api.add(1, axis(0))
    pointer = "/" + parameter.split("=", maxsplit=1)[0]
    response = api.http.get(f"/v1/images/{added}/similar?{parameter}")
    assert_problem(response, 422, "invalid_request", pointer)


def test_an_embedding_comes_with_its_statistics(api: Api) -> None:
    vector = unit(0.1, -0.5, 0.3)
    added = api.add(1, vector)
    document = json.loads(api.http.get(f"/v1/images/{added}/embedding").data)
    np.testing.assert_allclose(document["vector"], vector, atol=1e-7)
    del document["vector"]
    assert document == pytest.approx(
        {
            "dimension": len(vector),
            "norm": 1.0,
            "min": float(vector.min()),
            "max": float(vector.max()),
            "mean": float(vector.mean()),
        },
        abs=1e-6,
    )


# Collections


def test_a_collection_is_created_where_its_location_says(api: Api) -> None:
    response = api.http.post("/v1/collections", json={"name": "cats.2"})
    assert response.status_code == 201
    document = json.loads(response.data)
    assert response.headers["Location"] == "/v1/collections/cats.2"
    assert json.loads(api.http.get(response.headers["Location"]).data) == document
    assert document["created_at"].endswith("Z")
    del document["created_at"]
    assert document == {"name": "cats.2", "count": 0, "model": "stub/model", "dimension": 8}
    assert api.http.post("/v1/search", json={"text": "x", "collection": "cats.2"}).status_code == 200


def test_a_collection_is_created_once(api: Api) -> None:
    assert api.http.post("/v1/collections", json={"name": "cats"}).status_code == 201
    assert_problem(api.http.post("/v1/collections", json={"name": "cats"}), 409, "collection_exists")


@pytest.mark.parametrize("name", ["", ".", "a/b", "-a", "a-", "a b", "é", "x" * 64, "a\n", 5, None])
def test_a_bad_name_is_pointed_at(api: Api, name: object) -> None:
    assert_problem(api.http.post("/v1/collections", json={"name": name}), 422, "invalid_request", "/name")


def test_a_name_is_needed(api: Api) -> None:
    assert_problem(api.http.post("/v1/collections", json={}), 422, "invalid_request", "/name")


def test_collections_are_listed_by_name_with_their_counts(api: Api) -> None:
    assert json.loads(api.http.get("/v1/collections").data) == {"collections": []}
    api.add(1, axis(0), "b")
    api.add(2, axis(0), "b")
    api.http.post("/v1/collections", json={"name": "a"})
    listed = json.loads(api.http.get("/v1/collections").data)["collections"]
    assert [(one["name"], one["count"], one["model"]) for one in listed] == [
        ("a", 0, "stub/model"),
        ("b", 2, "stub/model"),
    ]


def test_a_deleted_collection_is_gone(api: Api) -> None:
    added = api.add(1, axis(0), "cats")
    api.add(2, axis(0), "dogs")
    api.services.blobs.put(file_key("cats", added, "thumbnail"), b"webp")
    assert api.http.delete("/v1/collections/cats").status_code == 204
    assert_problem(api.http.get("/v1/collections/cats"), 404, "collection_not_found")
    assert_problem(api.http.delete("/v1/collections/cats"), 404, "collection_not_found")
    assert_problem(api.http.get(f"/v1/images/{added}/thumbnail?collection=cats"), 404, "image_not_found")
    assert [one["name"] for one in json.loads(api.http.get("/v1/collections").data)["collections"]] == [
        "dogs"
    ]


def test_a_record_that_lies_where_its_id_does_not_belong_ends_no_page(api: Api) -> None:
    ids = [digit * 64 for digit in "159"]
    for number, one in enumerate(ids):
        api.add(number, axis(number), id=one)
    with calls(20.0):
        chroma = api.services.index.open("images").chroma
        odd = ["f" * 64, "no/id", "0x" + "1" * 62]
        chroma.upsert(odd, [axis(4)] * len(odd), [{"_place": 0}] * len(odd))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while len(seen) < 10:
        page = api.http.get("/v1/images", query_string={"limit": "1", **cursor})
        assert page.status_code == 200, page.text
        seen += [one["id"] for one in page.json["images"]]
        if page.json["next_cursor"] is None:
            break
        cursor = {"cursor": page.json["next_cursor"]}
    assert seen == ids
