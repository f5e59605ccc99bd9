"""Collections leave and come back: the real stack, a tiny random CLIP, uploads."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from tests.stack import ROOT, Stack, eventually

PICTURES = 30
DEADLINE_S = 90.0


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("moves"), CHUNK_SIZE="8") as running:
        with httpx.Client(base_url=running.url, timeout=60) as http:
            assert ingest(http, range(PICTURES))["counts"]["indexed"] == PICTURES
        yield running


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


def finished(http: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = {}

    def done() -> bool:
        job.update(http.get(answer.headers["Location"]).json())
        assert sum(job["counts"].values()) == job["total"]
        return bool(job["finished_at"])

    eventually(done, DEADLINE_S)
    return job


def ingest(http: httpx.Client, seeds: range, collection: str = "images") -> dict[str, Any]:
    files = [("files", (f"{seed}.png", png(seed))) for seed in seeds]
    data = {"collection": collection, "metadata": '{"shop": "north"}'}
    return finished(http, http.post("/v1/jobs", files=files, data=data))


def command(stack: Stack, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "deploy.cli", *map(str, arguments)]
    environment = stack.env | {"IMAGE_SEARCH_URL": stack.url}
    return subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def search(http: httpx.Client, collection: str) -> list[tuple[str, float]]:
    answer = http.get("/v1/search", params={"text": "noise", "collection": collection, "limit": 50})
    assert answer.status_code == 200, answer.text
    return [(hit["id"], round(hit["score"], 4)) for hit in answer.json()["results"]]


def test_an_export_outlives_killed_workers_and_comes_back_whole(stack: Stack, http: httpx.Client) -> None:
    answer = http.post("/v1/collections/images/export", json={"include": ["thumbnail"]})
    for pid in stack.processes("fetch"):
        os.kill(pid, signal.SIGKILL)
    job = finished(http, answer)
    assert (job["kind"], job["status"], job["counts"]["indexed"]) == ("export", "succeeded", PICTURES)

    with http.stream("GET", f"/v1/jobs/{job['job_id']}/export") as response:
        assert response.headers["Content-Type"] == "application/vnd.apache.parquet"
        data = b"".join(response.iter_bytes())
    table = parquet.read_table(io.BytesIO(data))
    assert len(set(table["id"].to_pylist())) == PICTURES
    assert b"image_search" in table.schema.metadata

    answer = http.post(
        "/v1/collections/copy/import",
        content=data,
        headers={"Content-Type": "application/vnd.apache.parquet"},
    )
    for role in ("fetch", "index"):
        for pid in stack.processes(role):
            os.kill(pid, signal.SIGKILL)
    job = finished(http, answer)
    assert (job["kind"], job["status"]) == ("import", "succeeded")
    assert job["counts"]["indexed"] == PICTURES
    assert search(http, "copy") == search(http, "images")
    image_id = table["id"][0].as_py()
    image = http.get(f"/v1/images/{image_id}", params={"collection": "copy"}).json()
    assert image["metadata"] == {"shop": "north"}
    thumbnails = [
        http.get(f"/v1/images/{image_id}/thumbnail", params={"collection": name}).content
        for name in ("images", "copy")
    ]
    assert thumbnails[0] == thumbnails[1] != b""


def test_the_commands_export_and_import_a_folder(stack: Stack, http: httpx.Client, tmp_path: Path) -> None:
    done = command(stack, "export", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    done = command(stack, "import", tmp_path / "out", "--collection", "again")
    assert done.returncode == 0, done.stderr
    assert http.get("/v1/collections/again").json()["count"] == PICTURES
