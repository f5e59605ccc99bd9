"""How fetching grows with the workers, where waiting for slow servers is what costs."""

import time
from pathlib import Path

from api.client import Client
from benchmarks.results import Result
from benchmarks.tiny import tiny_pictures
from shared.models import ItemState
from tests.stack import Stack

WORKERS = (1, 2, 4, 8)
LATENCY_S = 0.1
CONCURRENCY = 2  # so that two cores are still waiting with eight workers
SECONDS = 15.0  # what each number of workers takes, about


def measure(work: Path) -> list[Result]:
    with tiny_pictures(LATENCY_S) as address:
        rates = {workers: _rate(work / str(workers), address, workers) for workers in WORKERS}
    return [
        Result("4 fetch workers on a slow server, times one", rates[4] / rates[1], goal=3.5),
        *(
            Result(f"  {workers} fetch workers, {CONCURRENCY} downloads each", rate, "pictures/s")
            for workers, rate in rates.items()
        ),
        Result(
            f"  bound of one: {CONCURRENCY} at once, {LATENCY_S:g} s each",
            CONCURRENCY / LATENCY_S,
            "pictures/s",
        ),
    ]


def _rate(folder: Path, address: str, workers: int) -> float:
    """From the POST to the job's end, every item a picture of its own."""
    count = round(workers * CONCURRENCY / LATENCY_S * SECONDS)
    settings = {"FETCH_CONCURRENCY": str(CONCURRENCY), "CHUNK_SIZE": "16"}
    with Stack(folder, fetch_workers=workers, **settings) as stack, Client(stack.url) as client:
        client.wait(client.ingest_urls([f"{address}/warm/{n}.png" for n in range(16 * workers)]).job_id)
        started = time.perf_counter()
        job = client.wait(client.ingest_urls([f"{address}/{n}.png" for n in range(count)]).job_id)
        elapsed = time.perf_counter() - started
    if job.counts[ItemState.INDEXED] != count:
        raise RuntimeError(f"not every picture was indexed: {job.counts}")
    return count / elapsed
