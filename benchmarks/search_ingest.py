"""How long a text search takes while photos are taken in, against when nothing else is done.

Every text is new, so that the API encodes it while the encode worker wants the same cores.
"""

import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.load_generator import SEARCH, Users, simulate
from benchmarks.photos import served_endlessly
from benchmarks.results import Result
from benchmarks.synthetic import fill
from image_search import Client
from shared.embedding.encoder import Encoder
from shared.models import ItemState
from tests.stack import Stack, eventually

SEARCHERS = (1, 4)
PAUSE_SECONDS = 0.25  # of a searcher, between an answer and the next question
ROUNDS = 3
IDLE_SECONDS, BUSY_SECONDS = 10.0, 20.0  # of each number of searchers, in each round
INDEXED_BEFORE = 10_000
JOB = 20_000  # more than are taken in meanwhile; then the job is cancelled
GOAL = 5.0

Times = NDArray[np.float64]


def measure(checkpoint: Path, photos: list[Path], work: Path) -> list[Result]:
    """Idle and busy phases in turn, on one stack; percentiles are of all rounds together."""
    idle: dict[int, list[Times]] = defaultdict(list)
    busy: dict[int, list[Times]] = defaultdict(list)
    rates: dict[int, list[float]] = defaultdict(list)
    with (
        served_endlessly(photos) as address,
        Stack(work / "stack", MODEL=str(checkpoint)) as stack,
        Client(stack.url) as client,
    ):
        fill(stack.index(timeout_s=60), Encoder.load(str(checkpoint)), INDEXED_BEFORE)
        for number in range(ROUNDS):
            for searchers in SEARCHERS:
                idle[searchers].append(_times(stack.url, searchers, IDLE_SECONDS))
            job_id = client.ingest_urls([f"{address}/{number}/{photo}" for photo in range(JOB)]).job_id
            eventually(lambda job_id=job_id: _indexed(client, job_id) > 0, 120)
            for searchers in (0, *SEARCHERS):
                before, started = _indexed(client, job_id), time.perf_counter()
                busy[searchers].append(_times(stack.url, searchers, BUSY_SECONDS))
                elapsed = time.perf_counter() - started
                rates[searchers].append((_indexed(client, job_id) - before) / elapsed)
            client.cancel(job_id)
            time.sleep(IDLE_SECONDS)  # for what was on its way
    return [one for count in SEARCHERS for one in _results(count, idle[count], busy[count], rates)]


def _times(url: str, searchers: int, seconds: float) -> Times:
    """Milliseconds of each search."""
    if searchers == 0:
        time.sleep(seconds)
        return np.empty(0)
    tally = simulate(url, Users(searchers=searchers, pause_s=PAUSE_SECONDS), seconds)
    if failed := {answer: count for answer, count in tally.answers.items() if answer != (SEARCH, 200)}:
        raise RuntimeError(f"not every search was answered: {failed}")
    return 1000 * np.array(tally.times[SEARCH])


def _indexed(client: Client, job_id: str) -> int:
    return client.job(job_id).counts[ItemState.INDEXED]


def _results(
    searchers: int, idle: list[Times], busy: list[Times], rates: dict[int, list[float]]
) -> list[Result]:
    name = f"{searchers} searcher{'s' if searchers > 1 else ''}"
    p50, worst = np.median(np.concatenate(idle)), np.percentile(np.concatenate(busy), 99)
    ratios = [np.percentile(after, 99) / np.median(before) for before, after in zip(idle, busy, strict=True)]
    shares = np.array(rates[searchers]) / np.array(rates[0])
    return [
        Result(
            f"search p99 during an ingest, times p50 idle, {name}",
            float(worst / p50),
            goal=GOAL,
            most=True,
            spread=(min(ratios), max(ratios)),
        ),
        Result(
            f"ingest while {name} ask, times without",
            float(np.mean(rates[searchers]) / np.mean(rates[0])),
            spread=(shares.min(), shares.max()),
        ),
        Result(f"  {name}: p50 idle", float(p50), "ms"),
        Result(f"  {name}: p99 idle", float(np.percentile(np.concatenate(idle), 99)), "ms"),
        Result(f"  {name}: p50 during an ingest", float(np.median(np.concatenate(busy))), "ms"),
        Result(f"  {name}: p99 during an ingest", float(worst), "ms"),
        Result(f"  {name}: pictures ingested meanwhile", float(np.mean(rates[searchers])), "per second"),
        Result(f"  {name}: searches during the ingest", len(np.concatenate(busy))),
    ]
