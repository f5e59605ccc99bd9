"""Hosts that want credentials: FETCH_HEADERS brings them to a job's downloads, and nowhere else."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.image_server import ImageServer
from tests.stack import Stack, eventually, finished

COLLECTION = "private"


@pytest.fixture(scope="module")
def private(fetch_headers: Path) -> Iterator[ImageServer]:
    with ImageServer() as server:
        rotate(server, fetch_headers, "Bearer PLUGH-first")
        yield server


def rotate(server: ImageServer, fetch_headers: Path, secret: str) -> None:
    server.authorization = secret
    new = fetch_headers.with_name("new")
    new.write_text(json.dumps({server.url(""): {"Authorization": secret}}), encoding="utf-8")
    new.chmod(0o600)
    new.replace(fetch_headers)


def ingest(http: httpx.Client, urls: list[str], **fields: Any) -> dict[str, Any]:
    return finished(http, http.post("/v1/jobs", json={"urls": urls, "collection": COLLECTION, **fields}))


def test_its_pictures_are_ingested_and_a_new_secret_needs_no_restart(
    http: httpx.Client, private: ImageServer, fetch_headers: Path
) -> None:
    kept = private.url("/redirect-to?url=" + quote("/private/2.jpg"))
    assert ingest(http, [private.url("/private/1.jpg"), kept])["counts"]["indexed"] == 2
    rotate(private, fetch_headers, "Bearer PLUGH-second")
    assert ingest(http, [private.url("/private/3.jpg")])["counts"]["indexed"] == 1


def test_strangers_get_no_credentials_and_bring_nobody_there(
    http: httpx.Client, private: ImageServer, pictures: ImageServer
) -> None:
    away = private.url("/redirect-to?url=" + quote(pictures.url("/private/4.jpg")))
    there = pictures.url("/redirect-to?url=" + quote(private.url("/private/5.jpg")))
    pictures.authorization = private.authorization
    job = ingest(http, [away, there])
    assert [error["detail"] for error in job["errors"]] == ["401 Unauthorized"] * 2
    assert pictures.hits["/private/4.jpg"] == private.hits["/private/5.jpg"] == 1


def test_who_searches_reads_nothing_with_them(http: httpx.Client, private: ImageServer) -> None:
    ingest(http, [private.url("/private/6.jpg")])
    body = {"image_url": private.url("/private/6.jpg"), "collection": COLLECTION}
    refused = http.post("/v1/search", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "http_status")
    assert "401" in refused.text


def contents(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("*"):
        with suppress(OSError):  # the stack deletes what it no longer needs, and has a socket
            if path.is_file():
                yield path.read_bytes()


def test_nothing_that_is_answered_sent_logged_or_stored_has_them(
    http: httpx.Client, private: ImageServer, stack: Stack
) -> None:
    urls = [private.url(path) for path in ("/private/7.jpg", "/status/403", "/garbage", "/text")]
    job = ingest(http, urls, callback_url=private.url("/callback"))
    assert job["counts"]["failed"] == 3
    eventually(lambda: private.posts)
    ((_, headers, body),) = private.posts
    assert "Authorization" not in headers
    finished(http, http.post(f"/v1/collections/{COLLECTION}/export"))
    paths = ["/v1/jobs", "/v1/system", "/v1/images", "/metrics", "/readyz"]
    paths += [f"/v1/jobs/{job['job_id']}{rest}" for rest in ("", "/items", "/events")]
    told = [http.get(path, params={"collection": COLLECTION}).content for path in paths]
    stored = [*contents(stack.data_dir)]
    assert any(b"/private/7.jpg" in one for one in told)
    assert any(b"fetch_headers_read" in one for one in stored), "the logs are among them"
    assert not [one for one in (body, *told, *stored, stack.output.encode()) if b"PLUGH" in one]


def test_a_file_that_is_none_stops_the_start_with_a_line(tmp_path: Path) -> None:
    bad = tmp_path / "headers.json"
    bad.write_text(json.dumps({"cdn.example.com": {"Authorization": "PLUGH\n"}}), encoding="utf-8")
    variables = {"IMAGE_SEARCH_FETCH_HEADERS": str(bad), "IMAGE_SEARCH_MODEL": "starter"}
    for role in (["up", "--data-dir", str(tmp_path / "data")], ["worker", "--queues", "fetch"]):
        ended = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *role],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode != 0
        (line,) = (one for one in ended.stderr.splitlines() if "IMAGE_SEARCH_FETCH_HEADERS" in one)
        assert f"{bad}: https://cdn.example.com: the value of Authorization is no text" in line
        assert "PLUGH" not in ended.stdout + ended.stderr
