"""A collection of a model that is yet to be downloaded: it waits, all else goes on, its weights come once."""

import io
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from shared.embedding.checkpoint_files import fingerprint
from tests.checkpoints import tiny_checkpoint
from tests.model_hub import served_hub
from tests.stack import Stack, eventually, finished

MODEL = "someone/siglip"


def pictures() -> list[tuple[str, tuple[str, bytes]]]:
    found = []
    for seed in range(4):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        found.append(("files", (f"{seed}.png", buffer.getvalue())))
    return found


def test_a_collection_of_a_model_that_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_checkpoint(tmp_path / "siglip", shape="tiny siglip")
    files = {path.name: path.read_bytes() for path in (tmp_path / "siglip").iterdir()}
    gate = threading.Event()
    stack = Stack(tmp_path, fetch_workers=2, preloaded=False)  # HF_HOME is read once
    with served_hub(monkeypatch, MODEL, files, kind="siglip", gate=gate) as downloaded:
        stack.configure_process(HF_ENDPOINT=constants.ENDPOINT, HF_HOME=str(tmp_path / "hf"))
        with stack, httpx.Client(base_url=stack.url, timeout=60) as http:
            made = http.post("/v1/collections", json={"name": "later", "model": MODEL})
            assert made.status_code == 201, made.text
            waiting = http.post("/v1/jobs", files=pictures(), data={"collection": "later"})
            assert finished(http, http.post("/v1/jobs", files=pictures()))["status"] == "succeeded"
            search = http.get("/v1/search", params={"text": "a cat", "collection": "later"})
            assert (search.status_code, search.json()["code"]) == (503, "model_not_ready"), search.text
            assert int(search.headers["Retry-After"]) > 0
            assert http.get("/v1/search", params={"text": "a cat"}).status_code == 200
            shown = {one["name"]: one for one in http.get("/v1/models").json()["models"]}
            assert shown[MODEL]["state"] == "downloading", shown
            assert http.get("/readyz").status_code == 200
            gate.set()
            assert finished(http, waiting)["counts"]["indexed"] == 4
            eventually(
                lambda: (
                    http.get("/v1/search", params={"text": "a cat", "collection": "later"}).status_code == 200
                )
            )
            shown = {one["name"]: one for one in http.get("/v1/models").json()["models"]}
            assert (shown[MODEL]["state"], shown[MODEL]["kind"]) == ("loaded", "siglip")
            assert http.get("/v1/collections/later").json()["count"] == 4
        assert stack.logs().count("Traceback") == 0, stack.logs()
    assert downloaded.count("model.safetensors") == 1
    assert fingerprint(next((tmp_path / "hf" / "hub").glob("models--*/snapshots/*"))) == fingerprint(
        tmp_path / "siglip"
    )
