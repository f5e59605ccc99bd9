"""A collection whose model can no longer be loaded: what needs no model goes on, and what does waits."""

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from tests.stack import Stack, eventually, finished

COLLECTION = "of-a-model-that-is-gone"
PICTURES, STUCK = 6, 80


@pytest.fixture(scope="module")
def stack(small_chunks: Stack) -> Stack:
    return small_chunks


@pytest.fixture
def model(stack: Stack, http: httpx.Client, tmp_path: Path) -> Iterator[Path]:
    """Where the model is; it is there again, and used, when the test is over."""
    folder = Path(stack.env["IMAGE_SEARCH_MODEL"])
    yield folder
    if not folder.exists():
        (tmp_path / "elsewhere").rename(folder)
    later = {"text": "x", "collection": "later"}
    eventually(lambda: http.get("/v1/search", params=later).status_code != 503, 120)


def pictures(seeds: range) -> list[tuple[str, tuple[str, bytes]]]:
    found = []
    for seed in seeds:
        buffer = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        found.append(("files", (f"{seed}.png", buffer.getvalue())))
    return found


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/v1/collections").status_code == 200
    except httpx.HTTPError:
        return False


def search(http: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/v1/search", params={"text": "x", "collection": COLLECTION}).json()
    return found


def restart(stack: Stack, http: httpx.Client) -> None:
    for role in ("api", "fetch", "encode"):
        for pid in stack.processes(role):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: answers(http), 120)


def test_a_collection_whose_model_is_gone_is_listed_changed_exported_and_deleted(
    stack: Stack, http: httpx.Client, model: Path, tmp_path: Path
) -> None:
    where = {"collection": COLLECTION}
    job = finished(http, http.post("/v1/jobs", files=pictures(range(PICTURES)), data=where))
    assert job["status"] == "succeeded"
    model.rename(tmp_path / "elsewhere")
    restart(stack, http)
    eventually(lambda: search(http)["code"] == "model_unavailable", 60)

    # Far more chunks than may be fetched at once: they wait for the model, and keep nobody waiting.
    stuck = http.post("/v1/jobs", files=pictures(range(100, 100 + STUCK)), data={"collection": "later"})
    assert stuck.status_code == 202

    held = {one["name"]: one["count"] for one in http.get("/v1/collections").json()["collections"]}
    assert held[COLLECTION] == PICTURES
    assert http.get(f"/v1/collections/{COLLECTION}").json()["model"] == str(model)
    listed = [one["id"] for one in http.get("/v1/images", params=where).json()["images"]]
    assert len(listed) == PICTURES
    first, *_, last = listed
    assert http.get(f"/v1/images/{first}", params=where).json()["id"] == first
    for path in ("thumbnail", "rendition", "similar", "embedding"):
        assert http.get(f"/v1/images/{first}/{path}", params=where).status_code == 200, path
    found = http.post("/v1/search", json={"image_id": first} | where)
    assert found.json()["results"][0]["id"] == first
    assert http.get("/v1/duplicates", params=where).status_code == 200
    changed = http.patch(f"/v1/images/{first}", params=where, json={"metadata": {"shop": "north"}})
    assert changed.json()["metadata"] == {"shop": "north"}
    assert http.delete(f"/v1/images/{last}", params=where).status_code == 204
    eventually(lambda: http.get("/v1/system").json()["missing"].keys() == {"model"}, 60)

    asked = http.post(f"/v1/collections/{COLLECTION}/export", json={"include": ["thumbnail"]})
    export = finished(http, asked)
    assert (export["status"], export["counts"]["indexed"]) == ("succeeded", PICTURES - 1)
    data = http.get(f"/v1/jobs/{export['job_id']}/export").content
    assert set(parquet.read_table(io.BytesIO(data))["id"].to_pylist()) == set(listed) - {last}

    assert http.delete(f"/v1/collections/{COLLECTION}").status_code == 204
    assert http.get(f"/v1/collections/{COLLECTION}").status_code == 404
    assert http.get(stuck.headers["Location"]).json()["counts"]["failed"] == 0

    (tmp_path / "elsewhere").rename(model)
    assert finished(http, stuck, 150)["status"] == "succeeded"
    assert http.get("/v1/collections/later").json()["count"] == STUCK
