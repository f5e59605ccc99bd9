"""What several models cost the API: a switch between two under searches, and the memory of both.

One client asks PER_SECOND new texts while a collection of kept photos is encoded again by other weights of
the same shape and switched to them.
"""

from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

from benchmarks.processes import pss_mib, resident_mib
from benchmarks.random_checkpoint import make_random_checkpoint
from benchmarks.results import Result
from image_search import Client
from shared.embedding.encoder import Encoder
from shared.index.index import Index
from tests.api_server import api_server
from tests.chroma_server import ChromaServer
from tests.searches import Searches
from tests.stack import Stack, eventually

PER_SECOND = 20.0
PHOTOS = 100
CALM_SECONDS = 20.0  # before the reindex, and after the switch
TEXTS = 50


def measure(checkpoint: Path, photos: Sequence[Path], work: Path) -> list[Result]:
    """Models of `checkpoint`'s shape: ViT-B/32."""
    work.mkdir(parents=True)
    other = work / "models" / "other"
    make_random_checkpoint(other, seed=1)
    return [*_switch(checkpoint, other, photos[:PHOTOS], work), *_memory(checkpoint, other, work)]


def _switch(checkpoint: Path, other: Path, photos: Sequence[Path], work: Path) -> list[Result]:
    settings = {"MODEL": str(checkpoint), "MODELS_FOLDER": str(other.parent), "RATE_LIMIT": "off"}
    with Stack(work / "stack", **settings) as stack, Client(stack.url) as client:
        client.ingest(photos, collection="switched").wait()
        with Searches(stack.url, "switched", PER_SECOND) as searches:
            eventually(lambda: _seconds(searches) > CALM_SECONDS, 10 * CALM_SECONDS)
            began = searches.times[-1][0]
            with httpx.Client(base_url=stack.url, timeout=60) as http:
                asked = http.post("/v1/collections/switched/reindex", json={"model": str(other)})
            job = client.wait(asked.raise_for_status().json()["job_id"])
            ended = searches.times[-1][0]
            eventually(lambda: searches.times[-1][0] - ended > CALM_SECONDS, 10 * CALM_SECONDS)
    if not (job.result or {}).get("switched") or set(searches.models) != {checkpoint.name, other.name}:
        raise RuntimeError(f"not switched: {job}")
    phases = {"before": (0.0, began), "during": (began, ended), "after": (ended, float("inf"))}
    others = sum(count for status, count in searches.statuses.items() if status != 200)
    return [
        Result("searches during a switch that were not answered with 200", others, goal=0, most=True),
        Result("  answers with 200", searches.statuses[200]),
        Result("  the reindex, with its switch", ended - began, "s"),
        *(
            Result(f"  searches {name}: p{percent}", _percentile(searches, percent, *between), "ms")
            for name, between in phases.items()
            for percent in (50, 99)
        ),
    ]


def _seconds(searches: Searches) -> float:
    return searches.times[-1][0] - searches.times[0][0] if searches.times else 0.0


def _percentile(searches: Searches, percent: int, since: float, until: float) -> float:
    return float(1000 * np.percentile([s for at, s in searches.times if since <= at < until], percent))


def _memory(checkpoint: Path, other: Path, work: Path) -> list[Result]:
    """Memory of the API with either model alone, and with both: at most the sum."""
    folder = work / "memory"
    folder.mkdir()
    models = {"one": checkpoint, "other": other}
    with ChromaServer(work / "chroma") as chroma:
        index = Index(chroma.url, timeout_s=60)
        for name, model in models.items():
            encoder = Encoder.load(str(model))
            index.ensure(name, model=str(model), fingerprint=encoder.fingerprint, dimension=encoder.dimension)
        settings = {"CHROMA_URL": chroma.url, "REDIS_URL": "redis://127.0.0.1:9/0", "RATE_LIMIT": "off"}
        settings |= {"MODELS_FOLDER": str(work / "models")}
        alone = {}
        for name, model in models.items():
            with api_server(folder, path="/readyz", MODEL=str(model), **settings) as (url, pid):
                _search(url, name)
                alone[name] = resident_mib(pid), pss_mib(pid)
                if name == "one":
                    _search(url, "other")
                    _search(url, "one")
                    both = resident_mib(pid), pss_mib(pid)
    return [
        result
        for at, kind in enumerate(("RSS", "PSS"))
        for result in (
            Result(
                f"{kind} of the API with two models, times the sum of one each",
                both[at] / (alone["one"][at] + alone["other"][at]),
                goal=1.0,
                most=True,
            ),
            Result(f"  {kind} with the one", alone["one"][at], "MiB"),
            Result(f"  {kind} with the other", alone["other"][at], "MiB"),
            Result(f"  {kind} with both", both[at], "MiB"),
        )
    ]


def _search(url: str, collection: str) -> None:
    """Waits for the collection's model, then searches as a warm server does."""
    with httpx.Client(base_url=url, timeout=60) as http:

        def answered(text: str) -> bool:
            return http.post("/v1/search", json={"text": text, "collection": collection}).status_code == 200

        eventually(lambda: answered("warm"), 120)
        for number in range(TEXTS):
            eventually(lambda number=number: answered(f"text {number}"))
