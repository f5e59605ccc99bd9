"""How many searches per second the API answers by its threads and processes, and a process's memory.

CLIENTS ask at once, each again as soon as it has its answer; on few cores they take a share of these.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.load_generator import SEARCH, Tally, Users, simulate
from benchmarks.processes import anonymous_mib
from benchmarks.results import Curve, Result
from benchmarks.synthetic import fill
from shared.embedding.encoder import Encoder
from shared.index.index import Index
from tests.api_server import api_server, children
from tests.chroma_server import ChromaServer

PROCESSES, THREADS = (1, 2, 4), (4, 8, 16)
CLIENTS = 16
WARM_SECONDS, SECONDS = 3.0, 8.0
PICTURES = 10_000
# New ones are encoded; of five words there are twenty texts, whose vectors the API has kept.
KINDS: dict[str, int | None] = {"new texts": None, "repeated texts": 5}


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
    return len(one.tallies[kind].times[SEARCH]) / SECONDS


def _name(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"
