"""MODEL=auto in a deployment that had set MODEL until now: nothing is recorded, but collections are there."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.ports import free_port
from shared.embedding.automatic import HUB_MODELS
from shared.embedding.checkpoint_files import dimension, fingerprint
from shared.index.index import Index
from shared.models import DEFAULT_COLLECTION
from shared.storage.blobs import MODEL_KEY, Blobs
from tests.checkpoints import tiny_checkpoint
from tests.chroma_server import ChromaServer
from tests.image_server import make_photo
from tests.model_hub import cache_as
from tests.redis_server import redis_server
from tests.stack import ROOT, Stack, eventually, finished

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ROLES = (
    ("worker", "--queues", "fetch"),
    ("worker", "--queues", "encode"),
    ("worker", "--queues", "index"),
    ("sweep",),
)


def ingest(http: httpx.Client, seed: int) -> dict[str, Any]:
    files = {"files": ("a.jpg", make_photo(seed, 64, 48))}
    return finished(http, http.post("/v1/jobs", files=files))


def found(http: httpx.Client) -> list[Any]:
    answer = http.post("/v1/search", json={"text": "a red car"})
    assert answer.status_code == 200, answer.text
    results: list[Any] = answer.json()["results"]
    return results


def recorded(blobs: Blobs) -> str | None:
    return json.loads(blobs.get(MODEL_KEY))["model"] if blobs.exists(MODEL_KEY) else None


def test_up_takes_the_model_of_its_collections(tmp_path: Path) -> None:
    """Though a better one is in the cache; and without the model it says which it needs."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    model = tmp_path / "model"
    with Stack(tmp_path, preloaded=False) as stack, httpx.Client(timeout=60) as http:
        http.base_url = stack.url
        assert ingest(http, 1)["status"] == "succeeded"
        blobs = Blobs(stack.env["IMAGE_SEARCH_BLOB_URL"])
        assert recorded(blobs) is None
        stack.stop()

        tiny_checkpoint(tmp_path / "other", seed=1)
        cache_as(tmp_path / "hub" / "hub", HUB_MODELS[0], tmp_path / "other")
        stack.configure(MODEL="auto")
        stack.configure_process(**offline)
        stack.start()
        http.base_url = stack.url
        assert stack.env["IMAGE_SEARCH_MODEL"] == recorded(blobs) == str(model)
        assert len(found(http)) == 1
        stack.stop()
        assert stack.output.count(f"\nmodel {model}\n") == 2

        blobs.delete(MODEL_KEY)
        model.rename(tmp_path / "elsewhere")
        told = len(stack.output)
        assert stack.spawn("--port", str(free_port())).wait(120) == 1
        assert f"`auto` needs the model {model}, which wrote the collection 'images'" in stack.output[told:]
        assert "Traceback" not in stack.output[told:]
        assert recorded(blobs) is None
        eventually(lambda: len(stack.mine()) == 0, 60)


class Deployment:
    """Chroma, Redis and blobs as docker-compose.yml has them; roles are added with MODEL=auto and no hub."""

    def __init__(self, folder: Path, redis: str) -> None:
        self.model, self.chroma = folder / "model", ChromaServer(folder / "chroma")
        tiny_checkpoint(self.model)
        self.blobs = Blobs((folder / "blobs").as_uri())
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        settings = {
            "REDIS_URL": redis,
            "CHROMA_URL": self.chroma.url,
            "BLOB_URL": (folder / "blobs").as_uri(),
            "DEVICE": "cpu",
            "MODEL": "auto",
        }
        self._env = os.environ | {f"IMAGE_SEARCH_{name}": value for name, value in settings.items()}
        hub = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
        self._env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **hub}

    def log(self, role: str) -> str:
        return (self._folder / f"{role}.log").read_text(encoding="utf-8", errors="replace")

    @contextmanager
    def running(self, *roles: tuple[str, ...]) -> Iterator[list[subprocess.Popen[bytes]]]:
        started = []
        for role in roles:
            with (self._folder / f"{role[-1]}.log").open("ab") as log:
                command = [sys.executable, "-m", "deploy.cli", *role]
                started.append(subprocess.Popen(command, env=self._env, stdout=log, stderr=log))
        try:
            yield started
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(60)

    def api(self) -> tuple[str, ...]:
        return ("api", "--port", self.url.rpartition(":")[2])

    def model_state(self) -> Any:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10).json()["model"]
        except httpx.HTTPError:
            return {"ok": False, "detail": None}


def test_roles_that_start_at_once_take_the_model_of_the_collections(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, ExitStack() as stack:
        here = Deployment(tmp_path, redis)
        stack.callback(here.chroma.kill)
        # What compose had: a collection of the model that MODEL named.
        digest = fingerprint(here.model)
        with here.chroma:
            Index(here.chroma.url).create(
                DEFAULT_COLLECTION, model=str(here.model), fingerprint=digest, dimension=dimension(here.model)
            )
        fetch, encode, *others = ROLES
        with here.running(here.api(), fetch, encode, *others) as processes:
            # Chroma comes last: whoever has to ask it waits.
            eventually(lambda: "model_not_decided" in here.log("fetch") + here.log("encode"), 120)
            eventually(lambda: "Chroma" in (here.model_state()["detail"] or ""), 120)
            assert recorded(here.blobs) is None
            here.chroma.start()
            eventually(lambda: recorded(here.blobs) == str(here.model), 120)
            eventually(lambda: here.model_state()["ok"], 120)
            with httpx.Client(base_url=here.url, timeout=60) as http:
                assert ingest(http, 1)["status"] == "succeeded"
                assert len(found(http)) == 1
            assert [process.poll() for process in processes] == [None] * 5

        here.blobs.delete(MODEL_KEY)
        here.model.rename(tmp_path / "elsewhere")
        needed = f"needs the model {here.model}, which wrote the collection 'images'"
        with here.running(here.api(), fetch, encode) as (api, *workers):
            assert [worker.wait(120) for worker in workers] == [1, 1]
            eventually(lambda: needed in (here.model_state()["detail"] or ""), 120)
            assert httpx.get(f"{here.url}/v1/collections", timeout=60).json()["collections"][0]["count"] == 1
            assert api.poll() is None
        for role in ("fetch", "encode"):
            assert needed in here.log(role).splitlines()[-1]
        assert recorded(here.blobs) is None


def test_a_recorded_model_is_asked_for_without_chroma(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        here = Deployment(tmp_path, redis)
        here.blobs.put(MODEL_KEY, json.dumps({"model": str(here.model)}).encode())
        with here.running(ROLES[0]) as (worker,):
            eventually(lambda: "process_ready" in here.log("fetch"), 120)
            time.sleep(0.1)
            assert worker.poll() is None
