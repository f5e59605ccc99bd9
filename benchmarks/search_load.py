"""How many searches per second the API answers by its threads and processes, and a process's memory.

CLIENTS ask at once, each again as soon as it has its answer; on few cores they take a share of these.
`crowd` compares many clients with one, and both with Chroma's own client, which is given the vectors and asks
for what an answer shows: that client's share of the cores is in its figures, as it is in the API's.
"""

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from unittest.mock import patch

import chromadb
import numpy as np
from chromadb.config import Settings

from benchmarks.load_generator import SEARCH, Tally, Users, simulate
from benchmarks.processes import anonymous_mib
from benchmarks.results import Curve, Result
from benchmarks.synthetic import fill, texts
from shared.embedding.encoder import Encoder
from shared.index.index import Index
from tests.api_server import api_server, children
from tests.chroma_server import ChromaServer

PROCESSES, THREADS = (1, 2, 4), (4, 8, 16)
CLIENTS = 16
WARM_SECONDS, SECONDS = 3.0, 8.0
PICTURES = 10_000
LIMIT = 20  # what a search answers by default
# New ones are encoded; of five words there are twenty texts, whose vectors the API has kept.
KINDS: dict[str, int | None] = {"new texts": None, "repeated texts": 5}
CROWD, BARE_CROWD = 16, (1, 8, 32)
ROUNDS, ROUND_SECONDS = 5, 4.0


@dataclass(frozen=True, slots=True)
class _Measured:
    processes: int
    threads: int
    mib: float
    tallies: dict[str, Tally]


def measure(checkpoint: Path, work: Path) -> list[Result | Curve]:
    """Every pair of processes and threads once, in an order drawn by chance, each on a server of its own.

    Their OpenMP threads wait as those of `image-search up` do.
    """
    work.mkdir(parents=True)
    pairs = list(product(PROCESSES, THREADS))
    random.Random(0).shuffle(pairs)
    passive = patch.dict(os.environ, {"OMP_WAIT_POLICY": "PASSIVE"})
    with passive, ChromaServer(work / "chroma") as chroma:
        fill(Index(chroma.url, timeout_s=60), Encoder.load(str(checkpoint)), PICTURES)
        settings = {"CHROMA_URL": chroma.url, "MODEL": str(checkpoint), "REDIS_URL": "redis://127.0.0.1:9/0"}
        measured = [_measure(work, processes, threads, settings) for processes, threads in pairs]
    return [*_memory(measured), *_rates(measured), *_curves(measured)]


def _measure(work: Path, processes: int, threads: int, settings: dict[str, str]) -> _Measured:
    options = ("--processes", str(processes), "--threads", str(threads))
    tallies = {}
    with api_server(work, *options, path="/readyz", **settings) as (url, pid):
        for kind, words in KINDS.items():
            users = Users(searchers=CLIENTS, pause_s=0, words=words)
            simulate(url, users, WARM_SECONDS)
            tallies[kind] = simulate(url, users, SECONDS)
        mib = sum(map(anonymous_mib, (pid, *children(pid))))
    for tally in tallies.values():
        if failed := {answer: count for answer, count in tally.answers.items() if answer != (SEARCH, 200)}:
            raise RuntimeError(f"not every search was answered: {failed}")
    return _Measured(processes, threads, mib, tallies)


def crowd(checkpoint: Path, work: Path) -> list[Result]:
    """Medians of rounds, in each of which every number of clients asks in each way in turn."""
    work.mkdir(parents=True)
    passive = patch.dict(os.environ, {"OMP_WAIT_POLICY": "PASSIVE"})
    with passive, ChromaServer(work / "chroma") as chroma:
        encoder = Encoder.load(str(checkpoint))
        collection = fill(Index(chroma.url, timeout_s=60), encoder, PICTURES)
        settings = {"CHROMA_URL": chroma.url, "MODEL": str(checkpoint), "REDIS_URL": "redis://127.0.0.1:9/0"}
        with api_server(work, path="/readyz", **settings) as (url, _):
            rounds = [_round(url, chroma.port, collection.physical, encoder.dimension) for _ in range(ROUNDS)]

    def ratio(name: str, of: str, to: str, goal: float, *, most: bool = False) -> Result:
        ratios = [one[of] / one[to] for one in rounds]
        spread = (min(ratios), max(ratios))
        return Result(name, float(np.median(ratios)), goal=goal, most=most, spread=spread)

    crowd, one = f"new texts, {CROWD} clients", "new texts, 1 client"
    return [
        ratio(f"searches per second, {crowd}, times 1 client", crowd, one, 2.5),
        ratio(f"{crowd}: p99, times p50", f"{crowd}: p99", f"{crowd}: p50", 3.0, most=True),
        *(
            ratio(
                f"searches per second, {name}, times bare Chroma",
                name,
                f"bare Chroma, {_clients(count)}",
                goal,
            )
            for count, goal in zip(BARE_CROWD, (0.8, 1.0, 1.0), strict=True)
            for name in (f"repeated texts, {_clients(count)}", f"ids, {_clients(count)}")
        ),
        *(Result(f"  {name}", float(np.median([one[name] for one in rounds]))) for name in rounds[0]),
    ]


def _round(url: str, port: int, physical: str, dimension: int) -> dict[str, float]:
    """Searches per second by who asks, and of new texts the times in milliseconds."""
    found = {}
    for count in (1, CROWD):
        tally = _asked(url, Users(searchers=count, pause_s=0))
        found[name := f"new texts, {_clients(count)}"] = tally.searches_per_second
        found |= {f"{name}: p{percent}": tally.percentile(SEARCH, percent) for percent in (50, 99)}
    for count in BARE_CROWD:
        for kind, users in (
            ("repeated texts", Users(searchers=count, pause_s=0, words=5)),
            ("ids", Users(searchers=count, pause_s=0, ids=20)),
        ):
            tally = _asked(url, users)
            found[f"{kind}, {_clients(count)}"] = tally.searches_per_second
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            rate = pool.submit(_bare, port, physical, dimension, count).result()
        found[f"bare Chroma, {_clients(count)}"] = rate
    return found


def _asked(url: str, users: Users) -> Tally:
    tally = simulate(url, users, ROUND_SECONDS)
    if failed := {answer: count for answer, count in tally.answers.items() if answer != (SEARCH, 200)}:
        raise RuntimeError(f"not every search was answered: {failed}")
    return tally


def _bare(port: int, physical: str, dimension: int, clients: int) -> float:
    """Queries per second, with what an answer shows, of threads that share Chroma's client."""
    settings = Settings(anonymized_telemetry=False)
    collection = chromadb.HttpClient("127.0.0.1", port, settings=settings).get_collection(
        physical, embedding_function=None
    )
    vectors = texts(np.random.default_rng(0), 20, dimension)

    def ask(number: int) -> int:
        asked = 0
        while time.perf_counter() < until:
            vector = vectors[(number + asked) % len(vectors)]
            collection.query([vector], n_results=LIMIT, include=["metadatas", "distances"])
            asked += 1
        return asked

    started = time.perf_counter()
    until = started + ROUND_SECONDS
    with ThreadPoolExecutor(clients) as pool:
        asked = sum(pool.map(ask, range(clients)))
    return asked / (time.perf_counter() - started)


def _clients(count: int) -> str:
    return f"{count} client{'s' if count > 1 else ''}"


def _memory(measured: list[_Measured]) -> list[Result]:
    mib = {
        processes: float(np.median([one.mib for one in measured if one.processes == processes]))
        for processes in PROCESSES
    }
    least, most = PROCESSES[0], PROCESSES[-1]
    further = (mib[most] - mib[least]) / (most - least)
    return [
        Result("memory of a further API process, times the first", further / mib[least]),
        Result("  memory of a further API process", further, "MiB"),
        *(Result(f"  memory of the API, {_name(count)}", value, "MiB") for count, value in mib.items()),
    ]


def _rates(measured: list[_Measured]) -> list[Result]:
    """Of the most threads: each number of processes against one."""
    results = []
    for kind in KINDS:
        rates = {one.processes: _rate(one, kind) for one in measured if one.threads == THREADS[-1]}
        results += [
            Result(f"searches per second, {kind}, {_name(count)}, times one", rate / rates[PROCESSES[0]])
            for count, rate in rates.items()
            if count != PROCESSES[0]
        ]
        results += [
            Result(
                f"  the clients' own share of a core, {kind}, {_name(one.processes)}",
                one.tallies[kind].core_share,
            )
            for one in measured
            if one.threads == THREADS[-1]
        ]
    return sorted(results, key=lambda one: one.name)


def _curves(measured: list[_Measured]) -> list[Curve]:
    def lines(value: Callable[[_Measured, str], float]) -> dict[str, list[tuple[float, float]]]:
        return {
            f"{_name(processes)}, {kind}": sorted(
                (one.threads, value(one, kind)) for one in measured if one.processes == processes
            )
            for kind in KINDS
            for processes in PROCESSES
        }

    clients = f"{CLIENTS} clients, {PICTURES:,} pictures"
    return [
        Curve(
            f"Searches by threads and processes, {clients}", "threads per process", "searches/s", lines(_rate)
        ),
        *(
            Curve(
                f"p{percent} of a search by threads and processes, {clients}",
                "threads per process",
                "ms",
                lines(lambda one, kind, percent=percent: one.tallies[kind].percentile(SEARCH, percent)),
            )
            for percent in (50, 99)
        ),
    ]


def _rate(one: _Measured, kind: str) -> float:
    return one.tallies[kind].searches_per_second


def _name(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"
