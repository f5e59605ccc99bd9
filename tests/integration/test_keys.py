"""Keys, the list of pictures and changes of metadata, over HTTP on the real stack."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.image_server import ImageServer, make_photo
from tests.stack import Stack, eventually

DEADLINE_SECONDS = 120.0
SMALL = "?w=64&h=64"


@pytest.fixture(scope="module")
def stack(small_chunks: Stack) -> Stack:
    return small_chunks


def post(http: httpx.Client, collection: str, items: list[dict[str, Any]]) -> str:
    answer = http.post("/v1/jobs", json={"items": items, "collection": collection})
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


def finished(http: httpx.Client, job_id: str) -> dict[str, Any]:
    def job() -> dict[str, Any]:
        document: dict[str, Any] = http.get(f"/v1/jobs/{job_id}").json()
        assert sum(document["counts"].values()) == document["total"]
        return document

    eventually(lambda: job()["finished_at"], DEADLINE_SECONDS)
    return job()


def ingest(http: httpx.Client, collection: str, *items: tuple[str, str | None], **metadata: Any) -> list[str]:
    """A job of (url, key) items to its end; returns what became of each."""
    bodies = [{"url": url, "key": key, "metadata": metadata} for url, key in items]
    job = finished(http, post(http, collection, bodies))
    rows = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    return [row["status"] for row in rows]


def by_key(http: httpx.Client, collection: str, key: str) -> dict[str, Any] | None:
    answer = http.get("/v1/images", params={"collection": collection, "key": key})
    assert answer.status_code == 200, answer.text
    images = answer.json()["images"]
    assert len(images) <= 1
    return images[0] if images else None


def source_of(http: httpx.Client, collection: str, key: str) -> str | None:
    found = by_key(http, collection, key)
    return found and found["source"]


def photo(pictures: ImageServer, number: int) -> str:
    return pictures.url(f"/photo/{number}.jpg{SMALL}")


def missing_once(pictures: ImageServer, number: int) -> str:
    """A photo that is not there when it is first asked for: a failure that is not tried again by itself."""
    return pictures.url(f"/flaky/{number}{SMALL}&fails=1&status=404")


def test_a_new_picture_under_a_key_replaces_the_old_one_everywhere(
    http: httpx.Client, pictures: ImageServer
) -> None:
    old, new = photo(pictures, 1), photo(pictures, 2)
    assert ingest(http, "replaced", (old, "sku-1"), price=3) == ["indexed"]
    before = by_key(http, "replaced", "sku-1")
    assert before is not None
    assert (before["source"], before["keys"], before["metadata"]) == (old, ["sku-1"], {"price": 3})
    assert ingest(http, "replaced", (new, "sku-1"), price=4) == ["indexed"]
    after = by_key(http, "replaced", "sku-1")
    assert after is not None
    assert (after["source"], after["metadata"]) == (new, {"price": 4})
    assert http.get(f"/v1/images/{before['id']}?collection=replaced").json()["code"] == "image_not_found"
    assert http.get(before["thumbnail_url"]).status_code == 404
    assert http.get(after["thumbnail_url"]).status_code == 200
    query = {"image_url": old, "collection": "replaced", "filters": {"key": "sku-1"}}
    assert [hit["source"] for hit in http.post("/v1/search", json=query).json()["results"]] == [new]


def test_the_same_bytes_under_two_keys_are_one_picture_that_goes_with_the_last(
    http: httpx.Client, pictures: ImageServer
) -> None:
    url = photo(pictures, 3)
    assert ingest(http, "shared", (url, "a"), (url, "b"), (photo(pictures, 4), None)) == [
        "indexed", "duplicate", "indexed",
    ]  # fmt: skip
    image = by_key(http, "shared", "b")
    assert image is not None
    assert image["keys"] == ["a", "b"]
    where = {"collection": "shared", "key": "a"}
    assert http.delete("/v1/images", params=where).status_code == 204
    assert http.delete("/v1/images", params=where).json()["code"] == "image_not_found"
    assert http.get(f"/v1/images/{image['id']}?collection=shared").json()["keys"] == ["b"]
    assert http.delete("/v1/images", params=where | {"key": "b"}).status_code == 204
    assert http.get(f"/v1/images/{image['id']}?collection=shared").status_code == 404
    assert http.get("/v1/collections/shared").json()["count"] == 1


def test_keys_exchange_their_pictures_in_one_job(http: httpx.Client, pictures: ImageServer) -> None:
    urls = [photo(pictures, 10 + n) for n in range(8)]
    keys = [f"k{n}" for n in range(8)]
    ingest(http, "exchange", *zip(urls, keys, strict=True))
    ingest(http, "exchange", *zip(urls[::-1], keys, strict=True))
    found = [by_key(http, "exchange", key) for key in keys]
    assert [one and one["source"] for one in found] == urls[::-1]
    assert [one and one["keys"] for one in found] == [[key] for key in keys]
    assert {http.get(one["thumbnail_url"]).status_code for one in found if one} == {200}
    assert http.get("/v1/collections/exchange").json()["count"] == 8


def test_the_later_job_wins_though_the_earlier_one_s_picture_comes_after_it(
    http: httpx.Client, pictures: ImageServer
) -> None:
    job_id = post(http, "late", [{"url": missing_once(pictures, 20), "key": "k"}])
    assert finished(http, job_id)["status"] == "failed"
    assert ingest(http, "late", (photo(pictures, 21), "k")) == ["indexed"]
    assert http.post(f"/v1/jobs/{job_id}/retry").status_code == 202
    assert finished(http, job_id)["status"] == "succeeded"
    assert source_of(http, "late", "k") == photo(pictures, 21)
    assert http.get("/v1/collections/late").json()["count"] == 1


def test_keys_end_right_though_the_index_writer_is_killed_again_and_again(
    http: httpx.Client, pictures: ImageServer, stack: Stack
) -> None:
    count = 24
    jobs = [
        post(http, "killed", [{"url": photo(pictures, 100 * run + n), "key": f"k{n}"} for n in range(count)])
        for run in (1, 2, 3)
    ]
    for share in (0.2, 0.5, 0.8):
        done = share * len(jobs) * count
        eventually(lambda done=done: indexed(http, jobs) >= done, DEADLINE_SECONDS)  # type: ignore[misc]
        for pid in stack.processes("index"):
            os.kill(pid, signal.SIGKILL)
    assert [finished(http, job_id)["counts"]["indexed"] for job_id in jobs] == [count] * 3
    assert [source_of(http, "killed", f"k{n}") for n in range(count)] == [
        photo(pictures, 300 + n) for n in range(count)
    ]
    assert http.get("/v1/collections/killed").json()["count"] == count


def indexed(http: httpx.Client, jobs: list[str]) -> int:
    return sum(http.get(f"/v1/jobs/{job_id}").json()["counts"]["indexed"] for job_id in jobs)


def test_the_list_has_every_picture_once_page_by_page(http: httpx.Client, pictures: ImageServer) -> None:
    items = [
        {"url": photo(pictures, 500 + n), "key": f"sku-{n}", "metadata": {"n": n, "even": n % 2 == 0}}
        for n in range(30)
    ]
    assert finished(http, post(http, "list", items))["status"] == "succeeded"
    assert sorted(pages(http, limit=7)) == list(range(30))
    evens = json.dumps({"even": True, "n": {"gte": 10}})
    assert sorted(pages(http, limit=4, filters=evens)) == list(range(10, 30, 2))
    some = json.dumps({"key": {"in": ["sku-3", "sku-4", "sku-none"]}})
    assert sorted(pages(http, limit=1, filters=some)) == [3, 4]
    bad = http.get("/v1/images", params={"collection": "list", "filters": '{"n": {"about": 3}}'})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/filters/n/about")


def pages(http: httpx.Client, **parameters: Any) -> list[int]:
    found: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = http.get("/v1/images", params={"collection": "list", **parameters, **cursor}).json()
        assert len(page["images"]) <= parameters["limit"]
        found += [one["metadata"]["n"] for one in page["images"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_metadata_is_patched_at_once_and_an_older_item_does_not_undo_it(
    http: httpx.Client, pictures: ImageServer
) -> None:
    url = photo(pictures, 600)
    late = {"url": missing_once(pictures, 600), "metadata": {"price": 1, "size": "s"}}
    older = post(http, "patched", [late])
    assert finished(http, older)["status"] == "failed"
    ingest(http, "patched", (url, "k"), price=3, shop="north")
    image = by_key(http, "patched", "k")
    assert image is not None
    where = f"/v1/images/{image['id']}?collection=patched"
    answer = http.patch(where, json={"metadata": {"price": 9.5, "shop": None}})
    assert (answer.status_code, answer.json()["metadata"]) == (200, {"price": 9.5})
    assert http.get(where).json() == answer.json()
    http.post(f"/v1/jobs/{older}/retry")
    assert finished(http, older)["counts"]["duplicate"] == 1
    assert http.get(where).json()["metadata"] == {"price": 9.5, "size": "s"}
    found = http.post("/v1/search", json={"text": "x", "collection": "patched", "filters": {"price": 9.5}})
    assert [hit["id"] for hit in found.json()["results"]] == [image["id"]]
    refused = http.patch(where, json={"metadata": {"width": 1}})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/metadata/width")


def test_changes_are_made_while_a_job_is_written(http: httpx.Client, pictures: ImageServer) -> None:
    ingest(http, "busy", (photo(pictures, 700), "k"))
    image = by_key(http, "busy", "k")
    assert image is not None
    job_id = post(http, "busy", [{"url": photo(pictures, 701 + n)} for n in range(60)])
    for n in range(10):
        answer = http.patch(f"/v1/images/{image['id']}?collection=busy", json={"metadata": {"n": n}})
        assert (answer.status_code, answer.json()["metadata"]) == (200, {"n": n})
    assert finished(http, job_id)["counts"]["indexed"] == 60
    assert http.get(f"/v1/images/{image['id']}?collection=busy").json()["metadata"] == {"n": 9}


def test_uploads_carry_keys(http: httpx.Client) -> None:
    files = [("files", (f"{n}.jpg", make_photo(800 + n, 64, 64), "image/jpeg")) for n in range(2)]
    data = {"collection": "uploads", "keys": json.dumps(["first", None])}
    answer = http.post("/v1/jobs", data=data, files=files)
    assert answer.status_code == 202, answer.text
    assert finished(http, answer.json()["job_id"])["status"] == "succeeded"
    assert source_of(http, "uploads", "first") == "0.jpg"
    assert http.get("/v1/collections/uploads").json()["count"] == 2


def test_the_command_line_takes_keys_and_looks_after_collections(
    http: httpx.Client, pictures: ImageServer, stack: Stack, tmp_path: Path
) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "deploy.cli", *arguments]
        env = stack.env | {"IMAGE_SEARCH_URL": stack.url}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("collections", "create", "listed")
    table = tmp_path / "list.csv"
    table.write_text(f"url,sku,price\n{photo(pictures, 900)},007,3\n{photo(pictures, 901)},,4\n")
    run("ingest", str(table), "--collection", "listed", "--key-column", "sku", "--wait")
    image = by_key(http, "listed", "007")
    assert image is not None
    assert image["metadata"] == {"price": 3}
    assert ["listed", "2"] in [line.split()[:2] for line in run("collections", "list").splitlines()]
    run("collections", "delete", "listed")
    assert http.get("/v1/collections/listed").status_code == 404
