"""Ingest by URL to searchable: the product against the naive loop, and against its own stages' ceilings."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import chromadb
import httpx
import numpy as np

from benchmarks import stages
from benchmarks.baseline import Baseline
from benchmarks.jobs import ingest_rate
from benchmarks.processes import cpu_seconds, machine_seconds
from benchmarks.results import Result
from benchmarks.stages import Stage
from image_search import Client
from shared.embedding.encoder import Encoder
from shared.imaging.decode import open_query_image
from shared.storage.blobs import collection_prefix, log_prefix
from tests.chroma_server import ChromaServer
from tests.stack import ROLES, Stack

NAIVE_SAMPLE = 100  # pictures per round: each costs the loop the same
CEILING_SAMPLE = 64
WARM_UP = 128
NAIVE_GOALS = {"bf16": 4.2, "int8": 5.0}
BOUND_GOAL = 0.9
BUSY, STALLED = "busy", "stalled"


@dataclass(frozen=True, slots=True)
class Run:
    """One job: `rate` in pictures per second; seconds that the encoders were busy or stalled, and that the
    processes of each role took of the cores; bytes that stay of its pictures in the blob store; and the
    share of the cores that others took, who have no business on the machine while this runs.
    """

    count: int
    rate: float
    encoder: dict[str, float]
    cores: dict[str, float]
    kept: int
    others: float

    @property
    def seconds(self) -> float:
        return self.count / self.rate


class Product:
    """A running stack that has ingested before, so that every process has loaded what it needs."""

    def __init__(self, stack: Stack, encoder: Encoder, urls: Sequence[str]) -> None:
        self._stack = stack
        self._client = Client(stack.url)
        self.encoder = encoder
        self.precision = encoder.precision
        ingest_rate(self._client, urls, "warm-up")

    def run(self, urls: Sequence[str], collection: str) -> Run:
        encoder, cores, machine = self._encoder_seconds(), self._core_seconds(), machine_seconds()
        rate = ingest_rate(self._client, urls, collection)
        worked, rested = (now - then for now, then in zip(machine_seconds(), machine, strict=True))
        spent = {role: now - cores[role] for role, now in self._core_seconds().items()}
        return Run(
            len(urls),
            rate,
            {how: now - encoder[how] for how, now in self._encoder_seconds().items()},
            spent,
            self._kept_bytes(collection),
            others=max(0.0, worked - sum(spent.values())) / (worked + rested),
        )

    def _kept_bytes(self, collection: str) -> int:
        blobs = self._stack.data_dir / "blobs"
        files = (
            file
            for prefix in (collection_prefix(collection), log_prefix(collection))
            for file in (blobs / prefix).rglob("*.*")
        )
        return sum(file.stat().st_size for file in files)

    def _encoder_seconds(self) -> dict[str, float]:
        lines = httpx.get(f"{self._stack.url}/metrics").raise_for_status().text.splitlines()
        found = dict(line.split() for line in lines if not line.startswith("#"))
        return {how: float(found[f"image_search_encoder_{how}_seconds_total"]) for how in (BUSY, STALLED)}

    def _core_seconds(self) -> dict[str, float]:
        pids = {role: self._stack.processes(role) for role in ROLES}
        pids["client"] = [os.getpid()]
        pids["photo server"] = [child.pid for child in multiprocessing.active_children() if child.pid]
        return {role: sum(map(cpu_seconds, members)) for role, members in pids.items()}


def measure(
    checkpoint: Path, urls: Sequence[str], work: Path, precisions: Sequence[str], rounds: int
) -> list[Result]:
    """Medians of `rounds`; in each, the naive loop, every stage alone and the product take their turns.

    The stacks of all precisions run all the time, and those whose turn it is not wait.
    """
    baseline = Baseline(checkpoint)
    batch = stages.DEFAULTS["batch_size"]
    # Before the stacks start: the first to load in int8 makes the model, in half a minute.
    encoders = [Encoder.load(str(checkpoint), precision=one, batch_size=batch) for one in precisions]
    with ExitStack() as running:
        products = [
            Product(
                running.enter_context(Stack(work / one, MODEL=str(checkpoint), PRECISION=one)),
                encoder,
                urls[:WARM_UP],
            )
            for one, encoder in zip(precisions, encoders, strict=True)
        ]
        found = [_round(baseline, products, urls, work / str(number)) for number in range(rounds)]
    return [_median(results) for results in zip(*found, strict=True)]


def _median(results: Sequence[Result]) -> Result:
    values = [result.value for result in results]
    spread = (min(values), max(values)) if len(values) > 1 else None
    return replace(results[0], value=statistics.median(values), spread=spread)


def _round(baseline: Baseline, products: Sequence[Product], urls: Sequence[str], work: Path) -> list[Result]:
    baseline_rate = _measure_baseline(baseline, urls[:NAIVE_SAMPLE], work / "naive")
    some = products[0].encoder
    files, common = stages.common(some.preprocess, urls[:CEILING_SAMPLE], some.dimension, work)
    crops = np.stack(
        [open_query_image(data, some.preprocess, stages.DEFAULTS["max_image_pixels"]) for data in files]
    )
    results = [Result("  naive loop", baseline_rate, "pictures/s")]
    for product in products:
        ceilings = {"encode": stages.encode(product.encoder, crops), **common}
        run = product.run(urls, work.name)
        results += _of_precision(product.precision, baseline_rate, ceilings, run)
    return results


def _of_precision(precision: str, baseline_rate: float, ceilings: dict[str, Stage], run: Run) -> list[Result]:
    bound = stages.bound(list(ceilings.values()))
    shares = {
        "encoder busy": run.encoder[BUSY] / run.seconds,
        "encoder idle while a chunk waited": run.encoder[STALLED] / run.seconds,
        "cores taken by other processes": run.others,
        "cores at work": sum(run.cores.values()) / run.seconds / stages.CORES,
        **{f"share of the ceiling of: {name}": run.rate / stage.ceiling for name, stage in ceilings.items()},
    }
    core_ms = {
        **{f"core time of the stage alone: {name}": stage.cost for name, stage in ceilings.items()},
        **{f"core time of the processes: {role}": spent / run.count for role, spent in run.cores.items()},
    }
    return [
        Result(
            f"ingest in {precision}, times the naive loop",
            run.rate / baseline_rate,
            goal=NAIVE_GOALS.get(precision),
        ),
        Result(f"ingest in {precision}, share of the stages' bound", run.rate / bound, goal=BOUND_GOAL),
        Result(f"  {precision}: product", run.rate, "pictures/s"),
        Result(f"  {precision}: bound", bound, "pictures/s"),
        *(
            Result(f"  {precision}: ceiling: {name}", stage.ceiling, "pictures/s")
            for name, stage in ceilings.items()
        ),
        Result(f"  {precision}: kept in the blob store", run.kept / run.count / 1024, "KiB per picture"),
        *(Result(f"  {precision}: {name}", share) for name, share in shares.items()),
        *(Result(f"  {precision}: {name}", 1000 * cost, "ms per picture") for name, cost in core_ms.items()),
    ]


def _measure_baseline(baseline: Baseline, urls: Sequence[str], folder: Path) -> float:
    with ChromaServer(folder) as server:
        client = chromadb.HttpClient(host="127.0.0.1", port=server.port)
        collection = client.create_collection("naive", embedding_function=None)
        started = time.perf_counter()
        baseline.ingest(urls, collection)
        return len(urls) / (time.perf_counter() - started)
