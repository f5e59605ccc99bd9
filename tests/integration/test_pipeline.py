"""A URL goes in, a search finds it: the real stack, a tiny random CLIP, a local server that misbehaves."""

import io
import json
import os
import signal
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.image_server import ImageServer, make_photo
from tests.integration.conftest import MAX_JOBS
from tests.sample_files import make_tar
from tests.stack import Stack

DEADLINE_SECONDS = 90.0


def eventually(check: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if result := check():
            return result
        time.sleep(0.1)
    raise AssertionError(f"not within {DEADLINE_SECONDS} s: {what}")


def finished(http: httpx.Client, job_id: str) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        job = http.get(f"/v1/jobs/{job_id}").json()
        assert sum(job["counts"].values()) == job["total"]
        return job if job["finished_at"] else None

    job: dict[str, Any] = eventually(done, f"job {job_id} ends")
    return job


def ingest(http: httpx.Client, urls: list[str], **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/jobs", json={"urls": urls, **fields})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['job_id']}"
    return finished(http, answer.json()["job_id"])


def png(seed: int, size: tuple[int, int] = (64, 48)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_urls_are_ingested_and_found_by_the_picture_itself(http: httpx.Client, pictures: ImageServer) -> None:
    urls = [pictures.url(f"/photo/{n}.jpg?w=320&h=240") for n in range(40)]
    items = [{"url": url, "metadata": {"n": n, "shop": "north"}} for n, url in enumerate(urls)]
    answer = http.post("/v1/jobs", json={"items": items, "collection": "urls"})
    job = finished(http, answer.json()["job_id"])
    assert job["status"] == "succeeded"
    assert job["counts"]["indexed"] == 40
    assert job["progress"] == 1.0
    assert job["rate_per_s"] > 0

    found = http.post("/v1/search", json={"image_url": urls[7], "collection": "urls", "limit": 3}).json()
    best = found["results"][0]
    assert best["source"] == urls[7]
    assert best["score"] == pytest.approx(1.0, abs=0.01)
    assert best["metadata"] == {"n": 7, "shop": "north"}
    assert (best["width"], best["height"]) == (320, 240)
    assert set(found["took_ms"]) == {"encode", "index", "total"}

    again = http.post("/v1/search", json={"image_id": best["id"], "collection": "urls", "limit": 2}).json()
    assert again["results"][0]["id"] == best["id"]
    thumbnail = http.get(best["thumbnail_url"])
    assert thumbnail.headers["Content-Type"] == "image/webp"
    assert Image.open(io.BytesIO(thumbnail.content)).size == (256, 192)


def test_filters_narrow_a_search_by_equality_and_range(http: httpx.Client, pictures: ImageServer) -> None:
    items = [
        {"url": pictures.url(f"/photo/{n}.jpg?w=64&h=64"), "metadata": {"n": n, "even": n % 2 == 0}}
        for n in range(100, 120)
    ]
    answer = http.post("/v1/jobs", json={"items": items, "collection": "filters"})
    assert finished(http, answer.json()["job_id"])["status"] == "succeeded"
    query = {
        "text": "anything",
        "collection": "filters",
        "filters": {"even": True, "n": {"gte": 104, "lt": 110}},
    }
    found = http.post("/v1/search", json=query).json()["results"]
    assert {hit["metadata"]["n"] for hit in found} == {104, 106, 108}


def test_the_same_bytes_are_one_picture_and_their_sources_merge(
    http: httpx.Client, pictures: ImageServer
) -> None:
    first, second = (pictures.url(f"/photo/200.jpg?w=64&h=64&copy={n}") for n in range(2))
    job = ingest(http, [first, second, first], collection="same")
    assert job["counts"]["indexed"] == 1
    assert job["counts"]["duplicate"] == 2
    assert job["status"] == "succeeded"
    assert ingest(http, [second], collection="same")["counts"]["duplicate"] == 1
    results = http.get("/v1/search", params={"text": "x", "collection": "same"}).json()["results"]
    assert len(results) == 1
    image = http.get(f"/v1/images/{results[0]['id']}", params={"collection": "same"}).json()
    assert set(image["sources"]) == {first, second}


def test_items_that_say_too_much_of_one_picture_fail_alone(http: httpx.Client, pictures: ImageServer) -> None:
    url = pictures.url("/photo/1.jpg?w=64&h=48")
    text = "x" * 30_000
    items = [{"url": url, "metadata": {f"name{n}": text}} for n in range(4)]
    others = [{"url": pictures.url(f"/photo/{n}.jpg?w=64&h=48"), "metadata": {"t": text}} for n in (2, 3)]
    answer = http.post("/v1/jobs", json={"items": [*items, *others], "collection": "sizes"})
    job = finished(http, answer.json()["job_id"])
    assert {state: count for state, count in job["counts"].items() if count} == {
        "indexed": 3,
        "duplicate": 1,
        "failed": 2,
    }
    assert {error["code"] for error in job["errors"]} == {"index_error"}
    assert "at most 65,536 are allowed" in job["errors"][0]["detail"]
    too_much = {"items": [{"url": url, "metadata": {"a": "x" * 45_000_000}}]}
    refused = http.post("/v1/jobs", json=too_much).json()
    assert refused["errors"][0]["pointer"] == "/items/0/metadata"


def test_each_bad_url_is_one_failed_item_with_its_code(http: httpx.Client, pictures: ImageServer) -> None:
    expected = {
        pictures.url("/status/404"): "http_status",
        pictures.url("/text"): "not_an_image",
        pictures.url("/empty"): "not_an_image",
        pictures.url("/truncated.jpg"): "connect_error",
        pictures.url("/redirect-loop"): "too_many_redirects",
        pictures.url("/huge"): "too_large",
        pictures.url("/endless"): "too_large",
        pictures.url("/hang"): "timeout",
        "http://10.0.0.1/a.jpg": "blocked_address",
        "http://169.254.169.254/latest/meta-data": "blocked_address",
        pictures.url("/redirect-to?url=http://10.0.0.1/a.jpg"): "blocked_address",
        "ftp://example.com/a.jpg": "invalid_url",
        "not a url": "invalid_url",
        "http://127.0.0.1:1/a.jpg": "connect_error",
    }
    good = pictures.url("/wrong-type.jpg")
    job = ingest(http, [*expected, good], collection="bad")
    assert job["status"] == "partial"
    assert job["counts"]["failed"] == len(expected)
    assert job["counts"]["indexed"] == 1
    items = http.get(f"/v1/jobs/{job['job_id']}/items", params={"status": "failed"}).json()["items"]
    assert {item["source"]: item["code"] for item in items} == expected
    assert all(item["detail"] for item in items)
    attempts = {item["code"]: item["attempts"] for item in items}
    assert attempts["timeout"] == 4
    assert attempts["http_status"] == 1
    assert [error["index"] for error in job["errors"]] == sorted(error["index"] for error in job["errors"])


def test_a_server_that_recovers_costs_retries_not_the_item(http: httpx.Client, pictures: ImageServer) -> None:
    job = ingest(http, [pictures.url("/flaky/1?fails=2")], collection="flaky")
    assert job["status"] == "succeeded"
    (item,) = http.get(f"/v1/jobs/{job['job_id']}/items").json()["items"]
    assert (item["status"], item["attempts"], item["code"]) == ("indexed", 3, None)


def test_a_job_whose_server_was_down_succeeds_on_retry(http: httpx.Client) -> None:
    with ImageServer() as server:
        url, port = server.url("/photo/300.jpg?w=64&h=64"), server.port
    job = ingest(http, [url], collection="retry")
    assert job["status"] == "failed"
    with ImageServer(port=port):
        assert http.post(f"/v1/jobs/{job['job_id']}/retry").status_code == 202
        job = finished(http, job["job_id"])
    assert job["status"] == "succeeded"
    assert job["errors"] == []
    assert http.post(f"/v1/jobs/{job['job_id']}/retry").json()["code"] == "nothing_to_retry"


def test_every_body_form_makes_a_job(http: httpx.Client, pictures: ImageServer) -> None:
    urls = [pictures.url(f"/photo/{n}.jpg?w=64&h=64") for n in range(400, 404)]
    ndjson = "".join(json.dumps({"url": url, "metadata": {"form": "ndjson"}}) + "\n" for url in urls)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("a/1.png", png(1))
        bundle.writestr("a/2.png", png(2))
        bundle.writestr("__MACOSX/._1.png", b"junk")
    tar, tar_gz = (make_tar({"a/1.png": png(1), "a/2.png": png(2)}, mode) for mode in ("w", "w:gz"))
    forms: list[dict[str, Any]] = [
        {"content": ndjson, "headers": {"Content-Type": "application/x-ndjson"}},
        {"content": "\n".join(urls) + "\n", "headers": {"Content-Type": "text/plain"}},
        {
            "files": [("files", (f"{n}.png", png(n), "image/png")) for n in range(10, 13)],
            "data": {"metadata": '[{"n": 10}, {"n": 11}, {"n": 12}]'},
        },
        {"files": [("files", ("pictures.zip", archive.getvalue(), "application/zip"))]},
        {"files": [("files", ("pictures.tar", tar, "application/x-tar"))]},
        {"files": [("files", ("pictures.tar.gz", tar_gz, "application/gzip"))]},
    ]
    totals = []
    for number, form in enumerate(forms):
        collection = f"form-{number}"
        if "files" in form:
            form["data"] = {**form.get("data", {}), "collection": collection}
            answer = http.post("/v1/jobs", **form)
        else:
            answer = http.post("/v1/jobs", params={"collection": collection}, **form)
        assert answer.status_code == 202, answer.text
        job = finished(http, answer.json()["job_id"])
        assert job["status"] == "succeeded", job
        totals.append(job["counts"]["indexed"])
        assert http.get(f"/v1/collections/{collection}").json()["count"] == job["total"]
    assert totals == [4, 4, 3, 2, 2, 2]
    query = {"text": "x", "collection": "form-2", "filters": {"n": 11}}
    (hit,) = http.post("/v1/search", json=query).json()["results"]
    assert hit["source"] == "11.png"


def test_an_idempotency_key_answers_with_the_same_job(http: httpx.Client, pictures: ImageServer) -> None:
    body = {"urls": [pictures.url("/photo/500.jpg?w=64&h=64")], "collection": "idem"}
    headers = {"Idempotency-Key": "once"}
    first, second = (http.post("/v1/jobs", json=body, headers=headers) for _ in range(2))
    assert first.json()["job_id"] == second.json()["job_id"]
    other = http.post("/v1/jobs", json={**body, "collection": "other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_a_deleted_picture_is_gone_until_it_is_ingested_again(
    http: httpx.Client, pictures: ImageServer
) -> None:
    url = pictures.url("/photo/600.jpg?w=64&h=64")
    where = {"collection": "deleted"}
    ingest(http, [url], **where)
    (hit,) = http.get("/v1/search", params={"text": "x", **where}).json()["results"]
    path = f"/v1/images/{hit['id']}"
    assert http.delete(path, params=where).status_code == 204
    assert http.get(path, params=where).json()["code"] == "image_not_found"
    assert http.get("/v1/search", params={"text": "x", **where}).json()["results"] == []
    assert ingest(http, [url], **where)["counts"]["indexed"] == 1
    assert http.get(path, params=where).status_code == 200


def test_a_deleted_collection_is_filled_again_at_the_first_try(http: httpx.Client, stack: Stack) -> None:
    form: dict[str, Any] = {"files": [("files", ("1.png", png(1), "image/png"))]}
    form["data"] = {"collection": "again", "keys": '["sku-1"]'}
    for _ in range(3):
        job = finished(http, http.post("/v1/jobs", **form).json()["job_id"])
        assert job["counts"]["indexed"] == 1
        assert http.delete("/v1/collections/again").status_code == 204
    assert "chunks_failed" not in stack.log("index")


def test_cancel_leaves_every_item_accounted_for(http: httpx.Client, pictures: ImageServer) -> None:
    urls = [pictures.url(f"/slow?s=1&n={n}") for n in range(200)]
    job_id = http.post("/v1/jobs", json={"urls": urls, "collection": "cancel"}).json()["job_id"]
    eventually(lambda: http.get(f"/v1/jobs/{job_id}").json()["status"] == "running", "the job runs")
    job = http.delete(f"/v1/jobs/{job_id}").json()
    assert job["status"] == "cancelled"
    assert job["counts"]["cancelled"] > 0
    assert sum(job["counts"].values()) == 200


def test_a_callback_gets_the_final_status_signed(http: httpx.Client, pictures: ImageServer) -> None:
    urls = [pictures.url("/photo/700.jpg?w=64&h=64")]
    job = ingest(http, urls, collection="callback", callback_url=pictures.url("/callback"))
    calls = eventually(lambda: [c for c in pictures.posts if c[0] == "/callback"], "the callback comes")
    _, headers, body = calls[0]
    assert json.loads(body)["job_id"] == job["job_id"]
    assert json.loads(body)["status"] == "succeeded"
    signature = {name.lower(): value for name, value in headers.items()}["x-image-search-signature"]
    assert signature.startswith("t=")
    blocked = {"urls": urls, "callback_url": "http://10.0.0.1/"}
    refused = http.post("/v1/jobs", json=blocked)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/callback_url"


def test_credentials_in_a_url_reach_its_server_and_nobody_else(
    http: httpx.Client, stack: Stack, pictures: ImageServer
) -> None:
    where = {"collection": "signed"}

    def signed(path: str, number: int) -> str:
        query = f"w=64&h=64&X-Amz-Signature=XYZZY{number}&%74oken=XYZZY&url=https%3A%2F%2Fu%3AXYZZY%40h"
        return pictures.url(f"{path}?{query}#access_token=XYZZY")

    shown = pictures.url(
        "/photo/750.jpg?w=64&h=64&X-Amz-Signature=REDACTED&%74oken=REDACTED"
        "&url=https%3A%2F%2FREDACTED%40h#access_token=REDACTED"
    )
    urls = [signed("/photo/750.jpg", 1), signed("/photo/750.jpg", 2), signed("/status/404", 1)]
    urls += [
        signed("/flaky/751", 1).replace("?", "?fails=1&"),
        "https://u:XYZZY@example.com/a.jpg",
        "u:XYZZY@h/a.jpg",
    ]
    callback = pictures.url("/callback?token=XYZZY-callback")
    job = ingest(http, urls, callback_url=callback, **where)
    assert (job["counts"]["failed"], job["total"]) == (3, 6)
    assert pictures.hits["/photo/750.jpg"] == 2
    hit = http.post("/v1/search", json={"image_url": urls[0], **where}).json()["results"][0]
    assert hit["source"] == shown
    told = {
        path: http.get(path, params={**where, **more}).text
        for path, more in {
            f"/v1/jobs/{job['job_id']}": {},
            f"/v1/jobs/{job['job_id']}/items": {},
            f"/v1/jobs/{job['job_id']}/events": {},
            "/v1/jobs": {},
            "/v1/images": {"filters": json.dumps({"source": urls[1]})},
            f"/v1/images/{hit['id']}": {},
            f"/v1/images/{hit['id']}/similar": {},
            "/v1/duplicates": {"threshold": "0.5"},
            "/v1/system": {},
        }.items()
    }
    assert json.loads(told[f"/v1/images/{hit['id']}"])["sources"] == [shown]
    assert [image["id"] for image in json.loads(told["/v1/images"])["images"]] == [hit["id"]]
    moved = http.post("/v1/collections/signed/export").json()["job_id"]
    assert finished(http, moved)["status"] == "succeeded"
    told["export"] = http.get(f"/v1/jobs/{moved}/export").content.decode("latin-1")
    calls = eventually(lambda: [c for c in pictures.posts if "XYZZY-callback" in c[0]], "the callback comes")
    told["callback"] = calls[0][2].decode()
    assert not {path for path, text in told.items() if "XYZZY" in text}
    assert "XYZZY" not in stack.logs()
    again = http.post(f"/v1/jobs/{job['job_id']}/retry")
    assert again.status_code == 202
    assert finished(http, job["job_id"])["counts"]["failed"] == 3
    assert pictures.hits["/status/404"] >= 2, "a retry asks for the URL as it was given"
    assert ingest(http, [signed("/photo/750.jpg", 3)], **where)["counts"]["duplicate"] == 1


def test_jobs_made_for_ever_are_kept_up_to_a_number(http: httpx.Client, stack: Stack) -> None:
    first = ingest(http, ["no url"], collection="many")

    def is_made() -> bool:
        status = http.post("/v1/jobs", json={"urls": ["no url"], "collection": "many"}).status_code
        assert status in (202, 429), "at most, too many have not ended"
        return status == 202

    with ThreadPoolExecutor(4) as pool:
        for made in [pool.submit(eventually, is_made, "a job is made") for _ in range(MAX_JOBS + 20)]:
            made.result()
    assert http.get(f"/v1/jobs/{first['job_id']}").json()["code"] == "job_not_found"
    page = http.get("/v1/jobs", params={"limit": 1000}).json()
    assert (len(page["jobs"]), page["next_cursor"]) == (MAX_JOBS, None)
    folder = stack.data_dir / "blobs" / "jobs"
    eventually(lambda: len(list(folder.iterdir())) <= MAX_JOBS, "the sweeper deletes their files")


def test_search_answers_while_redis_is_down_and_jobs_are_refused_with_503(
    http: httpx.Client, stack: Stack, pictures: ImageServer
) -> None:
    ingest(http, [pictures.url("/photo/800.jpg?w=64&h=64")], collection="paused")
    pids = stack.processes("redis")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        found = http.get("/v1/search", params={"text": "x", "collection": "paused"})
        assert found.status_code == 200
        assert len(found.json()["results"]) == 1
        refused = http.post("/v1/jobs", json={"urls": [pictures.url("/photo/801.jpg")]})
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert http.get("/readyz").status_code == 200
        assert http.get("/readyz", params={"for": "ingest"}).status_code == 503
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: http.get("/readyz", params={"for": "ingest"}).status_code == 200, "ingest is ready")


def test_a_photo_file_is_found_by_uploading_it_as_the_query(
    http: httpx.Client, pictures: ImageServer, tmp_path: Path
) -> None:
    ingest(http, [pictures.url(f"/photo/{n}.jpg?w=320&h=240") for n in range(900, 905)], collection="query")
    files = [
        ("image", ("query.jpg", make_photo(903, 320, 240), "image/jpeg")),
        ("query", (None, json.dumps({"collection": "query", "limit": 1}), "application/json")),
    ]
    (hit,) = http.post("/v1/search", files=files).json()["results"]
    assert "/photo/903.jpg" in hit["source"]
