"""A client that a code generator makes of /openapi.json, against the real stack."""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.image_server import ImageServer
from tests.stack import Stack

NAME = "generated_client"
# The generator reads these as bytes once it is told to; others it does not know and leaves out.
FILES = (
    "image/webp",
    "image/jpeg",
    "image/png",
    "application/vnd.apache.parquet",
    "application/x-ndjson",
    "application/jsonl",
    "text/plain",
    "text/csv",
    "text/tab-separated-values",
)


def module(path: str) -> Any:
    return importlib.import_module(f"{NAME}.{path}")


@pytest.fixture(scope="module")
def folder(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(httpx.get(f"{stack.url}/openapi.json", timeout=60).text)
    config = {
        "content_type_overrides": dict.fromkeys(FILES, "application/octet-stream"),
        "post_hooks": [],  # formatters, which would have to be on the PATH
    }
    (folder / "config.json").write_text(json.dumps(config))
    command = [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        "--fail-on-warning",
        "--meta",
        "none",
    ]
    command += ["--path", "openapi.json", "--config", "config.json", "--output-path", NAME]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "WARNING" not in made.stdout + made.stderr
    return folder


@pytest.fixture
def client(folder: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(folder))
    with module("client").AuthenticatedClient(base_url=stack.url, token="none-is-needed") as client:
        yield client
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def finished(client: Any, job_id: str) -> Any:
    for _ in range(600):
        job = module("api.jobs.get_job").sync(job_id, client=client)
        if job.finished_at is not None:
            return job
        time.sleep(0.1)
    raise AssertionError(f"job {job_id} does not end")


def test_is_code_that_type_checkers_take(folder: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--config-file=", f"--cache-dir={folder / 'cache'}"]
    command += ["--ignore-missing-imports", NAME]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_ingests_finds_shows_and_deletes_pictures(client: Any, pictures: ImageServer) -> None:
    models, where = module("models"), "generated"
    urls = [pictures.url(f"/photo/{n}.jpg?w=96&h=64") for n in range(3)]
    asked = models.JobRequest(urls=[*urls, pictures.url("/status/404")], collection=where)
    accepted = module("api.jobs.create_job").sync_detailed(body=asked, client=client)
    assert accepted.status_code == 202
    assert accepted.headers["Location"] == f"/v1/jobs/{accepted.parsed.job_id}"
    job = finished(client, accepted.parsed.job_id)
    assert (job.kind, job.status, job.counts["indexed"], job.counts["failed"]) == ("ingest", "partial", 3, 1)
    assert job.errors[0].source == pictures.url("/status/404")

    query = models.SearchRequest(
        image_url=urls[0],
        positive=[models.WeightedSubject(text="a red car", weight=0.0)],
        collection=where,
        include=[models.ResultPart.METADATA, models.ResultPart.CONTRIBUTIONS],
        facets=["format"],
    )
    found = module("api.search.search").sync(body=query, client=client)
    assert len(found.results) == 3
    assert found.results[0].source == urls[0]
    assert found.results[0].contributions[0].pointer == "/image_url"
    assert found.facets["format"][0].count == 3
    by_text = module("api.search.search_by_text").sync(text="sky", collection=where, limit=2, client=client)
    assert len(by_text.results) == 2

    image_id = found.results[0].id
    image = module("api.images.get_image").sync(image_id, collection=where, client=client)
    assert (image.width, image.height, image.sources) == (96, 64, [urls[0]])
    assert image.created_at.tzinfo is not None
    get_thumbnail = module("api.images.get_thumbnail").sync_detailed
    thumbnail = get_thumbnail(image_id, collection=where, client=client)
    assert thumbnail.parsed.payload.read().startswith(b"RIFF")
    unchanged = client.with_headers({"If-None-Match": thumbnail.headers["ETag"]})
    assert get_thumbnail(image_id, collection=where, client=unchanged).status_code == 304

    deleted = module("api.images.delete_image").sync_detailed(image_id, collection=where, client=client)
    assert deleted.status_code == 204
    gone = module("api.images.get_image").sync(image_id, collection=where, client=client)
    assert (type(gone).__name__, gone.status, gone.code) == ("Problem", 404, "image_not_found")


def test_uploads_files_with_keys_and_metadata(client: Any, pictures: ImageServer) -> None:
    models, types = module("models"), module("types")
    data = [httpx.get(pictures.url(f"/photo/{n}.jpg?w=96&h=64")).content for n in (7, 8)]
    files = [
        types.File(payload=one, file_name=f"{n}.jpg", mime_type="image/jpeg") for n, one in enumerate(data)
    ]
    form = models.JobForm(
        files=files,
        metadata=json.dumps([{"n": 1}, {"n": 2}]),
        keys=json.dumps(["a", None]),
        collection="forms",
    )
    job = module("api.jobs.create_job").sync(body=form, client=client)
    assert finished(client, job.job_id).status == "succeeded"
    page = module("api.images.list_images").sync(key="a", collection="forms", client=client)
    assert [(image.keys, image.metadata["n"]) for image in page.images] == [(["a"], 1)]

    query = models.SearchForm(query=models.SearchRequest(collection="forms", limit=1), image=files[:1])
    found = module("api.search.search").sync(body=query, client=client)
    assert found.results[0].id == page.images[0].id


def test_sends_lines_and_follows_the_job(client: Any, pictures: ImageServer) -> None:
    lines = module("types").File(payload=pictures.url("/photo/9.jpg?w=64&h=48").encode() + b"\n")
    job = module("api.jobs.create_job").sync(body=lines, client=client, collection="lines")
    events = module("api.jobs.stream_job_events").sync(job.job_id, client=client)
    assert "event: end\n" in events
    assert finished(client, job.job_id).counts["indexed"] == 1
