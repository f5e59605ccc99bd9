"""A data folder of before stored formats had versions works on: see record_data_folder.py, which made it."""

import json
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.services import services_of
from tests.stack import Stack, finished
from worker.recovery import rebuild

RECORDED = Path(__file__).with_name("recorded") / "data-8fbfdd9.tar.xz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(RECORDED) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


@pytest.fixture(scope="module")
def known(folder: Path) -> list[str]:
    """The ids of Chroma's collections, which anybody on this machine could read under that version."""
    with closing(sqlite3.connect(folder / "data" / "chroma" / "chroma.sqlite3")) as file:
        return [collection for (collection,) in file.execute("SELECT id FROM collections")]


@pytest.fixture(scope="module")
def stack(folder: Path, known: list[str]) -> Iterator[Stack]:
    with Stack(folder, CHUNK_SIZE="4", PRECISION="fp32") as running:
        yield running


@pytest.fixture(scope="module")
def old(folder: Path) -> dict[str, Any]:
    """What the older version answered."""
    answers: dict[str, Any] = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return answers


@pytest.fixture
def http(stack: Stack, old: dict[str, Any]) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {old['key']}"}
    with httpx.Client(base_url=stack.url, timeout=60, headers=headers) as client:
        yield client


def scores(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {hit["id"]: pytest.approx(hit["score"], abs=1e-3) for hit in results}


def test_the_job_that_was_stopped_ends_with_every_item_counted_once(
    http: httpx.Client, old: dict[str, Any]
) -> None:
    before = old["job"]
    assert min(before["counts"][state] for state in ("pending", "fetched", "indexed")) > 0
    where = f"/v1/jobs/{before['job_id']}"
    job = finished(http, httpx.Response(202, headers={"Location": where}))
    assert (job["status"], job["counts"]["indexed"]) == ("succeeded", before["total"])
    items = http.get(f"{where}/items", params={"limit": 1000}).json()["items"]
    assert [item["index"] for item in items] == list(range(before["total"]))
    assert len({item["image_id"] for item in items}) == before["total"]
    held = {one["name"]: one["count"] for one in http.get("/v1/collections").json()["collections"]}
    assert held == {**old["collections"], "trips": old["collections"]["trips"] + before["total"]}


def test_pictures_keys_metadata_and_searches_are_what_they_were(
    http: httpx.Client, old: dict[str, Any]
) -> None:
    shop = {"collection": "shop", "limit": "100"}
    images = http.get("/v1/images", params=shop).json()["images"]
    assert [
        {name: image[name] for name in was} for image, was in zip(images, old["images"], strict=True)
    ] == (old["images"])
    assert {http.get(image["thumbnail_url"]).status_code for image in images} == {200}
    (changed,) = http.get("/v1/images", params=shop | {"key": "sku-2"}).json()["images"]
    assert changed["metadata"] == {"price": 99}
    assert http.get("/v1/images", params=shop | {"key": "sku-3"}).json()["images"] == []
    similar = http.get(f"/v1/images/{images[0]['id']}/similar", params={"collection": "shop"}).json()
    assert [hit["id"] for hit in similar["results"]] == [hit["id"] for hit in old["similar"]]
    assert {hit["id"]: hit["score"] for hit in similar["results"]} == scores(old["similar"])
    found = http.get("/v1/search", params={"collection": "shop", "text": "a car", "limit": 50}).json()
    assert {hit["id"]: hit["score"] for hit in found["results"]} == scores(old["text"])
    assert httpx.get(f"{http.base_url}/v1/collections", timeout=60).status_code == 401


def test_what_others_have_read_of_chroma_before_is_of_no_use_to_them(stack: Stack, known: list[str]) -> None:
    assert len(known) == 4
    database = "/api/v2/tenants/default_tenant/databases/default_database"
    with httpx.Client(base_url=stack.env["IMAGE_SEARCH_CHROMA_URL"] + database) as chroma:
        assert chroma.get("/collections").json() == []
        for collection in known:
            assert chroma.post(f"/collections/{collection}/get", json={}).status_code == 404
            everything = {"where": {"price": {"$gte": 0}}}
            assert chroma.post(f"/collections/{collection}/delete", json=everything).status_code == 404


@pytest.mark.parametrize("collection", ["shop", "trips"])
def test_the_vector_log_and_chroma_are_alike(stack: Stack, http: httpx.Client, collection: str) -> None:
    found = rebuild.verify(services_of(stack), collection)
    assert not found
    assert found.total == http.get(f"/v1/collections/{collection}").json()["count"]


def test_an_old_export_is_downloaded_again_and_imported(
    http: httpx.Client, folder: Path, old: dict[str, Any]
) -> None:
    kept = (folder / "export.parquet").read_bytes()
    again = http.get(f"/v1/jobs/{old['export']}/export").content
    parquet = {"Content-Type": "application/vnd.apache.parquet"}
    for name, data in {"kept": kept, "again": again}.items():
        answer = http.post(f"/v1/collections/{name}/import", content=data, headers=parquet)
        assert finished(http, answer)["counts"]["indexed"] == len(old["images"])
        images = http.get("/v1/images", params={"collection": name, "limit": 100}).json()["images"]
        assert [(one["id"], one["keys"], one["metadata"]) for one in images] == [
            (one["id"], one["keys"], one["metadata"]) for one in old["images"]
        ]


def test_a_folder_that_a_newer_version_has_used_is_refused_in_one_line(stack: Stack) -> None:
    redis.Redis.from_url(stack.env["IMAGE_SEARCH_REDIS_URL"]).set("is:format", 99)
    stack.stop()
    before = len(stack.output)
    assert stack.spawn("--port", "0").wait(120) == 1
    said = stack.output[before:]
    assert said.splitlines()[-1].startswith("Error: The job ledger in Redis was written by a newer version")
    assert "Traceback" not in said
