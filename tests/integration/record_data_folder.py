"""Records the data folder that test_old_data.py starts on: an older version's, killed in the middle of a job.

It was made with the code of commit 8fbfdd9, the last before stored formats had versions:

    git worktree add /tmp/older 8fbfdd9
    cd /tmp/older
    PYTHONPATH=. python HERE/record_data_folder.py HERE/recorded/data-8fbfdd9.tar.xz

The archive holds `data/` (of `up`), `model/` (its checkpoint), `export.parquet` (an export of `shop`) and
`told.json`: what that version answered, the job that is under way, and a key that opens nothing else.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import redis
from PIL import Image
from safetensors.numpy import load_file, save_file

from tests.image_server import ImageServer

# make_random_checkpoint by way of the stack: it has moved since.
from tests.stack import ROLES, Stack, eventually, finished, make_random_checkpoint

ITEMS = 60


def png(seed: int) -> bytes:
    """A small file: coarse noise, every seed another."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((48, 36), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def make_small_checkpoint(folder: Path) -> None:
    """Random weights of four significant bits: a third of the size once they are compressed."""
    make_random_checkpoint(folder, shape="tiny")
    path = folder / "model.safetensors"
    weights = load_file(path)
    for name, values in weights.items():
        if values.dtype == np.float32 and values.ndim:
            weights[name] = (values.view(np.uint32) & np.uint32(0xFFF80000)).view(np.float32)
    save_file(weights, path, metadata={"format": "pt"})


def fill(http: httpx.Client, pictures: ImageServer) -> None:
    """`shop` with keys and metadata, of which one was replaced, one changed and one deleted; `trips`."""
    shop = [
        {
            "url": pictures.url(f"/photo/{n}.jpg?w=64&h=48"),
            "key": f"sku-{n}",
            "metadata": {"price": n, "s": ["a"]},
        }
        for n in range(12)
    ]
    finished(http, http.post("/v1/jobs", json={"items": shop, "collection": "shop"}))
    replaced = {**shop[1], "url": pictures.url("/photo/50.jpg?w=64&h=48")}
    finished(http, http.post("/v1/jobs", json={"items": [replaced], "collection": "shop"}))
    found = {key: http.get("/v1/images", params={"collection": "shop", "key": key}).json()["images"][0]
             for key in ("sku-2", "sku-3")}  # fmt: skip
    where = {"collection": "shop"}
    changed = http.patch(
        f"/v1/images/{found['sku-2']['id']}", params=where, json={"metadata": {"price": 99, "s": None}}
    )
    assert changed.status_code == 200, changed.text
    assert http.delete(f"/v1/images/{found['sku-3']['id']}", params=where).status_code == 204
    trips = [("files", (f"{n}.png", png(n))) for n in range(1000, 1006)]
    finished(
        http, http.post("/v1/jobs", files=trips, data={"collection": "trips", "metadata": '{"year": 2024}'})
    )


def told(http: httpx.Client) -> dict[str, Any]:
    """What this version answers about `shop`, which the job under way does not touch."""
    images = http.get("/v1/images", params={"collection": "shop", "limit": 100}).json()["images"]
    assert len(images) == 11
    similar = f"/v1/images/{images[0]['id']}/similar"
    found = {
        "images": images,
        "similar": http.get(similar, params={"collection": "shop"}).json()["results"],
        "text": http.get("/v1/search", params={"collection": "shop", "text": "a car", "limit": 50}).json()[
            "results"
        ],
        "collections": {
            one["name"]: one["count"] for one in http.get("/v1/collections").json()["collections"]
        },
    }
    assert found["collections"] == {"shop": 11, "trips": 6}
    assert len(found["similar"]) == 10
    return found


def stop_in_the_middle(stack: Stack, http: httpx.Client) -> dict[str, Any]:
    """The job that is left with items pending, fetched and indexed."""
    with stack.paused("encode"):
        files = [("files", (f"{n}.png", png(n))) for n in range(ITEMS)]
        answer = http.post("/v1/jobs", files=files, data={"collection": "trips"})
        assert answer.status_code == 202, answer.text
        where = answer.headers["Location"]
        eventually(lambda: http.get(where).json()["counts"]["fetched"] >= 24)
    eventually(lambda: http.get(where).json()["counts"]["indexed"] > 0)
    for role in ("fetch", "encode", "index", "sweep"):
        for pid in stack.processes(role):
            os.kill(pid, signal.SIGSTOP)
    job: dict[str, Any] = http.get(where).json()
    assert min(job["counts"][state] for state in ("pending", "fetched", "indexed")) >= 4, "try again"
    let_leases_run_out(redis.Redis.from_url(stack.env["IMAGE_SEARCH_REDIS_URL"]))
    assert stack.process is not None
    pids = [pid for role in ROLES for pid in stack.processes(role)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    stack.process.kill()
    stack.process.wait()
    eventually(lambda: not stack.mine())
    return {name: job[name] for name in ("job_id", "total", "counts")}


def let_leases_run_out(ledger: Any) -> None:
    """Also for a machine whose clock is behind that of this one."""
    ledger.delete("is:writer", "is:writer:wanted", "is:workers")
    ledger.zadd("is:due", dict.fromkeys(ledger.zrange("is:due", 0, -1), 0))


def pack(folder: Path, archive: Path) -> None:
    for name in ("logs", "run"):
        shutil.rmtree(folder / "data" / name)
    kept = ("data", "model", "export.parquet", "told.json")
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in kept:
            tar.add(folder / name, name)


def main(archive: Path) -> None:
    with tempfile.TemporaryDirectory() as name, ImageServer() as pictures:
        folder = Path(name)
        make_small_checkpoint(folder / "model")
        stack = Stack(folder, CHUNK_SIZE="4", JOB_TTL_DAYS="36500", PRECISION="fp32")
        command = [sys.executable, "-m", "deploy.cli", "keys", "create", "--scope=admin", "--name=old"]
        made = subprocess.run(
            [*command, f"--data-dir={folder}/data"], stdout=subprocess.PIPE, text=True, check=True
        )
        key = made.stdout.strip()
        with stack:
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=stack.url, timeout=60, headers=headers) as http:
                fill(http, pictures)
                export = finished(
                    http, http.post("/v1/collections/shop/export", json={"include": ["thumbnail"]})
                )
                data = http.get(f"/v1/jobs/{export['job_id']}/export").content
                (folder / "export.parquet").write_bytes(data)
                answers = told(http) | {"key": key, "export": export["job_id"]}
                answers["job"] = stop_in_the_middle(stack, http)
            (folder / "told.json").write_text(json.dumps(answers))
        pack(folder, archive)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
