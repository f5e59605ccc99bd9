"""Other kinds of models than CLIP on the real stack, by queries in many scripts, whatever they mean.

A collection that a SigLIP 2 wrote goes to a MetaCLIP 2 of another dimension, size and crop. Scores are held
against those of transformers' own models and processors.
"""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from image_search import Client
from tests.checkpoints import tiny_checkpoint
from tests.image_server import ImageServer, make_photo
from tests.services import services_of
from tests.stack import ROOT, Stack, finished
from worker.recovery import rebuild

SPREAD = 8.0  # tells texts apart
UPLOADED, FETCHED = 30, 2
TEXTS = (
    "夜の濡れた道にある赤い車",
    "قطة سوداء تنام على الطاولة",
    "गीली सड़क पर लाल कार",
    "Μια ΚΌΚΚΙΝΗ ομπρέλα",  # noqa: RUF001
    "a red car, 赤い車",
    "🐈‍⬛ \u200fقطة\u200e 👩🏽‍🚀 猫 cafe\u0301",
)
EXACT: dict[str, Any] = {"padding": "max_length", "max_length": 64}  # SigLIP's own, without a mask
Vectors = NDArray[np.float32]


class Reference:
    """transformers' model and processor of a checkpoint."""

    def __init__(self, folder: Path, **padding: Any) -> None:
        from transformers import AutoModel, AutoProcessor  # noqa: PLC0415 - seconds

        self.folder = folder
        self.model = AutoModel.from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.padding = padding

    def texts(self, texts: Sequence[str]) -> Vectors:
        cased = [text.lower() if self.model.config.model_type == "siglip" else text for text in texts]
        return np.concatenate(
            [
                self._unit(
                    "text", self.processor(text=text, truncation=True, return_tensors="pt", **self.padding)
                )
                for text in cased
            ]
        )

    def images(self, files: Sequence[bytes]) -> Vectors:
        opened = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
        return self._unit("image", self.processor(images=opened, return_tensors="pt"))

    def _unit(self, what: str, inputs: Any) -> Vectors:
        import torch  # noqa: PLC0415

        with torch.inference_mode():
            if self.model.config.model_type == "siglip":
                inputs.pop("attention_mask", None)
            features = getattr(self.model, f"get_{what}_features")(**inputs).pooler_output
            return np.asarray(torch.nn.functional.normalize(features, dim=-1))


def png(seed: int) -> bytes:
    """Blocks of random colours, wider than high."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((96, 64), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("kinds")
    tiny_checkpoint(folder / "model", shape="tiny siglip 2", spread=SPREAD)
    tiny_checkpoint(folder / "other", shape="tiny metaclip_2", spread=SPREAD)
    with Stack(folder, PRECISION="fp32", KEEP="original", TAG_MIN_SCORE="0") as running:
        yield running


def command(stack: Stack, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments, "--json"],
        cwd=ROOT,
        env=stack.env | {"IMAGE_SEARCH_URL": stack.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def assert_the_road_is_right(
    stack: Stack, http: httpx.Client, files: dict[str, bytes], reference: Reference
) -> None:
    """Every way to ask finds what the reference's vectors say."""
    pictures = http.get("/v1/images", params={"limit": 100}).json()["images"]
    assert len(pictures) == UPLOADED + FETCHED
    ids = [picture["id"] for picture in pictures]
    stored = stack.index().collection("images").vectors(ids)
    vectors = np.stack([stored[image_id] for image_id in ids])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    expected_vectors = reference.images([files[image_id] for image_id in ids])
    assert (vectors * expected_vectors).sum(axis=1).min() > 0.999

    cosines = vectors @ reference.texts(TEXTS).T
    apart = np.abs(cosines[:, :, None] - cosines[:, None]).max(axis=0)
    assert apart[~np.eye(len(TEXTS), dtype=bool)].min() > 0.01  # no text can pass for another

    def agree(results: Sequence[Any], expected: Vectors) -> None:
        assert [one["id"] for one in results][:1] == [ids[int(expected.argmax())]]
        scores = {one["id"]: one["score"] for one in results}
        for image_id, score in zip(ids, expected.tolist(), strict=True):
            assert scores[image_id] == pytest.approx(score, abs=1e-4)

    with Client(stack.url) as client:
        for text, expected in zip(TEXTS, cosines.T, strict=True):
            found = http.get("/v1/search", params={"text": text, "limit": 100})
            assert found.status_code == 200, found.text
            assert "warnings" not in found.json()
            agree(found.json()["results"], expected)
            agree([one.model_dump() for one in client.search(text, limit=100).results], expected)
    told = command(stack, "search", TEXTS[-1], "--limit", "100")
    agree(told["results"], cosines[:, -1])

    best = ids[int(cosines[:, 0].argmax())]
    query = {"text": TEXTS[0], "negative": [{"text": TEXTS[1], "weight": 0.5}], "limit": 100}
    both = http.post("/v1/search", json=query | {"include": ["confidence"]}).json()["results"]
    combined = cosines[:, 0] - 0.5 * cosines[:, 1]
    length = combined[ids.index(both[0]["id"])] / both[0]["score"]
    agree(both, combined / length)
    confidences = [one["confidence"] for one in both]
    assert confidences == sorted(confidences, reverse=True)
    assert 0 <= confidences[-1] < confidences[0] <= 1
    mixed = {"text": TEXTS[3], "image_id": best, "negative": [{"text": TEXTS[2]}]}
    assert len(http.post("/v1/search", json=mixed).json()["results"]) == 20
    seen = http.post("/v1/search", files={"image": ("a.png", files[ids[3]])}).json()["results"]
    assert (seen[0]["id"], seen[0]["score"]) == (ids[3], pytest.approx(1, abs=1e-3))
    similar = http.get(f"/v1/images/{ids[3]}/similar").json()["results"]
    assert [one["id"] for one in similar[:5]] == [one["id"] for one in seen[1:6]]

    maps = [http.get("/v1/explain", params={"image_id": best, "text": text}) for text in TEXTS[:2]]
    assert [one.headers["Content-Type"] for one in maps] == ["image/png"] * 2
    assert maps[0].content != maps[1].content
    assert http.get("/v1/duplicates").status_code == 200
    long = http.post("/v1/search", json={"text": "赤い車" * 600})
    assert "the end of this text was left out" in long.json()["warnings"][0]

    name, config = str(reference.folder), reference.model.config
    dimension = vectors.shape[1]
    (collection,) = http.get("/v1/collections").json()["collections"]
    assert (collection["model"], collection["dimension"]) == (name, dimension)
    model = http.get("/v1/system").json()["model"]
    assert (model["name"], model["kind"], model["dimension"]) == (name, config.model_type, dimension)
    assert long.json()["model"] == name


def test_queries_in_any_script_go_through_towers_of_two_kinds_from_one_to_the_other(
    stack: Stack, http: httpx.Client
) -> None:
    folder = stack.data_dir.parent
    uploads = [("files", (f"{n}.png", png(n))) for n in range(UPLOADED)]
    assert finished(http, http.post("/v1/jobs", files=uploads))["counts"]["indexed"] == UPLOADED
    with ImageServer() as server:
        urls = [server.url(f"/photo/{n}.jpg?w=120&h=80") for n in range(FETCHED)]
        assert finished(http, http.post("/v1/jobs", json={"urls": urls}))["counts"]["indexed"] == FETCHED
    contents = [*map(png, range(UPLOADED)), *(make_photo(n, 120, 80) for n in range(FETCHED))]
    files = {hashlib.sha256(content).hexdigest(): content for content in contents}
    for picture in http.get("/v1/images", params={"limit": 100}).json()["images"]:
        assert picture["tags"]
        assert 0 <= picture["nsfw"] <= 1
    assert_the_road_is_right(stack, http, files, Reference(folder / "model", **EXACT))
    assert not rebuild.verify(services_of(stack), "images").wrong

    export = finished(http, http.post("/v1/collections/images/export", json={}))
    table = http.get(f"/v1/jobs/{export['job_id']}/export").content
    other = str(folder / "other")
    job = finished(http, http.post("/v1/collections/images/reindex", json={"model": other}))
    assert (job["status"], job["result"]["switched"]) == ("succeeded", True), job
    assert http.get("/v1/search", params={"text": TEXTS[0]}).json()["model"] == other

    stack.stop()
    stack.configure(MODEL=other)
    stack.start()
    with httpx.Client(base_url=stack.url, timeout=60) as anew:
        assert_the_road_is_right(stack, anew, files, Reference(folder / "other"))
        parquet = {"Content-Type": "application/vnd.apache.parquet"}
        old = anew.post("/v1/collections/copy/import", content=table, headers=parquet)
        assert (old.status_code, old.json()["code"]) == (409, "model_mismatch")
        assert str(folder / "model") in old.json()["detail"]
