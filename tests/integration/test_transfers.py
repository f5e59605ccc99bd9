"""Collections leave and come back: the real stack, a tiny random CLIP, uploads."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from shared.models import Stage
from tests.checkpoints import tiny_checkpoint
from tests.services import services_of
from tests.stack import ROOT, Stack, eventually, finished
from worker.recovery import rebuild

PICTURES = 30
JOB_SECONDS, STOP_SECONDS = 240.0, 60.0  # on a busy machine


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def stack(small_chunks: Stack) -> Stack:
    with httpx.Client(base_url=small_chunks.url, timeout=60) as http:
        assert ingest(http, range(PICTURES))["counts"]["indexed"] == PICTURES
    return small_chunks


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
    job = finished(http, answer, JOB_SECONDS)
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
    job = finished(http, answer, JOB_SECONDS)
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


def test_what_came_twice_was_encoded_once_and_leaves_and_comes_back_like_any_other(
    stack: Stack, http: httpx.Client
) -> None:
    assert ingest(http, range(16), "twice")["counts"]["indexed"] == 16
    first, encoded = search(http, "twice"), stack.tasks(Stage.ENCODE)
    assert ingest(http, range(16), "twice")["counts"]["duplicate"] == 16
    assert stack.tasks(Stage.ENCODE) == encoded, "no chunk of it went to encode"
    counts = ingest(http, range(2, 18), "twice")["counts"]
    assert (counts["duplicate"], counts["indexed"]) == (14, 2)
    image = http.get(f"/v1/images/{first[0][0]}", params={"collection": "twice"}).json()
    services = services_of(stack)
    assert not rebuild.verify(services, "twice")
    found = search(http, "twice")
    assert set(first) <= set(found)
    job = finished(http, http.post("/v1/collections/twice/export"))
    again = http.post("/v1/collections/thrice/import", json={"export": job["job_id"]})
    assert finished(http, again)["status"] == "succeeded"
    assert search(http, "thrice") == found
    stack.index().delete("twice")
    rebuild.rebuild(services, "twice")
    eventually(lambda: search(http, "twice") == found)
    assert http.get(f"/v1/images/{first[0][0]}", params={"collection": "twice"}).json() == image


def test_the_commands_export_and_import_a_folder(stack: Stack, http: httpx.Client, tmp_path: Path) -> None:
    done = command(stack, "export", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    done = command(stack, "import", tmp_path / "out", "--collection", "again")
    assert done.returncode == 0, done.stderr
    assert http.get("/v1/collections/again").json()["count"] == PICTURES


def test_a_collection_is_rebuilt_from_its_log_when_chroma_has_lost_it(
    stack: Stack, http: httpx.Client
) -> None:
    found = search(http, "images")
    index = stack.index()
    index.collection("images").delete([image_id for image_id, _ in found[:5]])
    done = command(stack, "verify", "--data-dir", stack.data_dir)
    assert done.returncode == 3
    assert f"missing {found[0][0]}" in done.stdout
    index.delete("images")
    done = command(stack, "rebuild", "--data-dir", stack.data_dir)
    assert done.returncode == 0, done.stderr
    eventually(lambda: search(http, "images") == found)
    assert command(stack, "verify", "--data-dir", stack.data_dir).returncode == 0


def assert_sigterm_ends_everything(stack: Stack) -> None:
    assert stack.process is not None
    stack.process.send_signal(signal.SIGTERM)
    assert stack.process.wait(STOP_SECONDS) == 0
    eventually(lambda: not stack.mine())


def test_a_reindex_outlives_kills_latecomers_and_sigterm_while_searches_go_on(
    stack: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    tiny_checkpoint(other, seed=1)
    first = {"name": "second", "model": str(stack.data_dir.parent / "model")}  # the stack's, at the first run
    assert http.post("/v1/collections", json=first).status_code == 201
    assert ingest(http, range(100, 120), "second")["status"] == "succeeded"
    answer = http.post("/v1/collections/second/reindex", json={"model": str(other)})
    for role in ("fetch", "encode", "index"):
        for pid in stack.processes(role):
            os.kill(pid, signal.SIGKILL)
    assert len(search(http, "second")) == 20
    late = http.post(
        "/v1/jobs",
        files=[("files", (f"{seed}.png", png(seed))) for seed in range(120, 124)],
        data={"collection": "second"},
    )
    gone, kept = (image_id for image_id, _ in search(http, "second")[:2])
    assert http.delete(f"/v1/images/{gone}", params={"collection": "second"}).status_code == 204
    job = finished(http, answer, JOB_SECONDS)
    assert (job["status"], job["result"]["switched"]) == ("succeeded", True), job
    # What the former model had encoded is fetched again.
    brought = finished(http, late, JOB_SECONDS)["counts"]["indexed"]
    found = http.get("/v1/search", params={"text": "x", "collection": "second"}).json()
    assert found["model"] == str(other)

    assert_sigterm_ends_everything(stack)
    stack.configure(MODEL=str(other))
    stack.start()
    with httpx.Client(base_url=stack.url, timeout=60) as anew:
        ids = [image_id for image_id, _ in search(anew, "second")]
        assert len(ids) == 19 + brought
        assert anew.get(answer.headers["Location"]).json()["counts"] == job["counts"]
        assert gone not in ids
        image = anew.get(f"/v1/images/{kept}", params={"collection": "second"}).json()
        assert image["metadata"] == {"shop": "north"}
        assert not rebuild.verify(services_of(stack), "second")
        assert ingest(anew, range(130, 132), "second")["counts"]["indexed"] == 2
