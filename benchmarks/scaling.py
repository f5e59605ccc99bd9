"""How fetching grows with the workers, where waiting for slow servers is what costs."""

import statistics
from pathlib import Path

from benchmarks.jobs import ingest_rate
from benchmarks.results import Curve, Result
from benchmarks.tiny import tiny_pictures
from image_search import Client
from tests.stack import Stack

WORKERS = (1, 2, 4, 8)
LATENCY_SECONDS = 0.1
CONCURRENCY = 2  # so that two cores are still waiting with eight workers
SECONDS = 10.0  # what each number of workers takes, about
ROUNDS = 3
ONE = CONCURRENCY / LATENCY_SECONDS  # pictures per second: a worker's bound


def measure(work: Path) -> list[Result | Curve]:
    """Medians of rounds that take every number of workers in turn; a ratio is of one round."""
    with tiny_pictures(LATENCY_SECONDS) as address:
        rounds = [
            {workers: _rate(work / f"{number}-{workers}", address, workers) for workers in WORKERS}
            for number in range(ROUNDS)
        ]
    ratios = [rates[4] / rates[1] for rates in rounds]
    medians = {workers: statistics.median(rates[workers] for rates in rounds) for workers in WORKERS}
    return [
        Result(
            "4 fetch workers on a slow server, times one",
            statistics.median(ratios),
            goal=3.5,
            spread=(min(ratios), max(ratios)),
        ),
        *(
            Result(f"  {workers} fetch workers, {CONCURRENCY} downloads each", rate, "pictures/s")
            for workers, rate in medians.items()
        ),
        Result(f"  bound of one: {CONCURRENCY} at once, {LATENCY_SECONDS:g} s each", ONE, "pictures/s"),
        Curve(
            f"Fetch workers against a server that takes {LATENCY_SECONDS:g} s",
            "workers",
            "pictures/s",
            {"measured": sorted(medians.items()), "bound": [(n, n * ONE) for n in WORKERS]},
        ),
    ]


def _rate(folder: Path, address: str, workers: int) -> float:
    count = round(workers * ONE * SECONDS)
    settings = {"FETCH_CONCURRENCY": str(CONCURRENCY), "CHUNK_SIZE": "16"}
    with Stack(folder, fetch_workers=workers, **settings) as stack, Client(stack.url) as client:
        ingest_rate(client, (f"{address}/warm/{n}.png" for n in range(16 * workers)))
        return ingest_rate(client, (f"{address}/{n}.png" for n in range(count)))
