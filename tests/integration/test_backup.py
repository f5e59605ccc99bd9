"""What docs/deployment.md says of backups: the folder `blobs`, copied while the service runs, is enough."""

import shutil
import subprocess
import sys
from pathlib import Path

import httpx

from tests.image_server import make_photo
from tests.stack import ROOT, Stack, finished

PHOTOS = 5
COLLECTION = "kept"


def test_a_copy_of_the_blobs_brings_a_collection_back(
    stack: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    query = {"text": "a photo", "collection": COLLECTION, "include": ["metadata"]}
    files = [("files", (f"{seed}.jpg", make_photo(seed, 96, 72))) for seed in range(PHOTOS)]
    form = {"collection": COLLECTION, "metadata": '{"shop": "north"}'}
    assert finished(http, http.post("/v1/jobs", files=files, data=form))["counts"]["indexed"] == PHOTOS
    before = http.post("/v1/search", json=query).json()["results"]

    second = Stack(tmp_path)
    shutil.copytree(stack.data_dir / "blobs", second.data_dir / "blobs")
    with second as restored, httpx.Client(base_url=restored.url, timeout=60) as again:
        command = ["rebuild", "--data-dir", str(restored.data_dir), "-c", COLLECTION]
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *command],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        after = again.post("/v1/search", json=query).json()["results"]
        assert [(hit["id"], hit["metadata"]) for hit in after] == [
            (hit["id"], hit["metadata"]) for hit in before
        ]
        assert again.get(after[0]["thumbnail_url"]).headers["Content-Type"] == "image/webp"
        counts = {one["name"]: one["count"] for one in again.get("/v1/collections").json()["collections"]}
        assert counts == {COLLECTION: PHOTOS}
