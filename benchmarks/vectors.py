"""The index by its size: latency, recall, memory, disk and build rate, in a real Chroma through our Index.

Every size has a Chroma server of its own, filled by the product's upserts with the made-up pictures of
synthetic.py. All servers stay up and each query, half of them as of texts and half as of pictures, is put to
each in turn, so that what else the machine does meets all alike. A query is the product's search for 20 with
their records, which asks HNSW for more of a large collection where a text is looked for; recall@10 is the
share of the ten truly nearest, by an exact scan, among its first ten. The curves by ef_search are of Chroma's
query alone, for ten; the servers are restarted for each, since a loaded graph keeps its own.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import cpu_seconds, resident_mib
from benchmarks.results import Curve, Result, wall_seconds
from benchmarks.synthetic import batches, clustered, image, texts
from shared.index.collection import WRITE_TIMEOUT_SECONDS, Collection
from shared.index.index import Index
from shared.models import DEFAULT_COLLECTION
from tests.chroma_server import ChromaServer

DIMENSION = 512
SIZES = (10_000, 100_000, 1_000_000)
QUERIES = 200  # of each kind
ROUNDS = 3
LIMIT = 20
NEAREST = 10  # of recall@10
EFS = (128, 256, 512, 1024, 2048)
REPORTED = 50_000  # vectors between two points of the build's curve
SEED = 0

Key = TypeVar("Key")
Vectors = NDArray[np.float32]
Queries = Mapping[str, Vectors]
Exact = Mapping[str, list[set[str]]]  # ids of the truly nearest of each query, by kind


@dataclass
class Filled:
    server: ChromaServer
    folder: Path
    collection: Collection
    exact: Exact
    rates: list[tuple[float, float]]  # vectors written, vectors per second
    costs: list[tuple[float, float]]  # vectors written, Chroma's core-milliseconds a vector
    slowest_s: float  # of the writes of 2,000

    @property
    def disk_mib(self) -> float:
        return sum(file.stat().st_blocks for file in self.folder.rglob("*")) * 512 / 2**20


def measure(work: Path, sizes: Sequence[int] = SIZES) -> list[Result | Curve]:
    queries = made_queries()
    with ExitStack() as servers:
        filled = {size: fill(servers, work / f"{size}", size, queries) for size in sizes}
        writing = {size: resident_mib(one.server.pid) for size, one in filled.items()}
        results: list[Result | Curve] = [*by_size(filled, queries)]
        for size, one in filled.items():
            first = restart(one, queries["text"][0])
            results += [
                Result(f"  resident memory of Chroma, {size:,} just written", writing[size], "MiB"),
                Result(f"  resident memory of Chroma, {size:,} after a restart",
                       resident_mib(one.server.pid), "MiB"),
                Result(f"  first search of {size:,} after a restart", first, "s"),
                Result(f"  disk of {size:,}", one.disk_mib, "MiB"),
                Result(f"  written up to {size:,}", one.rates[-1][1], "vectors/s"),
                Result(f"  Chroma's core time per vector, up to {size:,}", one.costs[-1][1], "ms"),
                Result(f"  slowest write of a batch up to {size:,}", one.slowest_s, "s"),
            ]  # fmt: skip
        curves = by_ef({f"{size:,} vectors": one for size, one in filled.items()}, queries)
    rates = {f"{size:,}": one.rates for size, one in filled.items() if len(one.rates) > 1}
    costs = {f"{size:,}": one.costs for size, one in filled.items() if len(one.costs) > 1}
    return [
        *results,
        Curve("Vectors written per second as a collection grows", "vectors", "vectors/s", rates),
        Curve("Chroma's core time per vector as a collection grows", "vectors", "core-ms", costs),
        *curves,
    ]


def made_queries() -> Queries:
    rng = np.random.default_rng(SEED + 1)
    return {"text": texts(rng, QUERIES, DIMENSION), "picture": clustered(rng, QUERIES, DIMENSION)}


def by_size(filled: Mapping[int, Filled], queries: Queries) -> list[Result]:
    """Latency and recall of the product's search."""
    exact = {size: one.exact for size, one in filled.items()}
    sizes = sorted(filled)
    most, least = sizes[-1], sizes[0]
    growths, recalls, rates = [], [], []
    for kind, vectors in queries.items():
        calls = {size: _search(one.collection, of_text=kind == "text") for size, one in filled.items()}
        times, found = ask(calls, {kind: vectors}, exact)
        growth = [
            large / small for large, small in zip(_medians(times[most]), _medians(times[least]), strict=True)
        ]
        growths.append(
            Result(f"median {kind} search of {most:,}, times {least:,}", median(growth), goal=3.0, most=True,
                   spread=(min(growth), max(growth)))
        )  # fmt: skip
        recalls += [
            Result(f"recall@10 of {size:,}, {kind} queries", found[size, kind], goal=0.97) for size in sizes
        ]
        rates += [
            Result(f"  {name} {kind} search of {size:,}",
                   1000 * float(np.percentile(times[size], percent)), "ms")
            for size in sizes for name, percent in (("median", 50), ("p99", 99))
        ]  # fmt: skip
    return [*growths, *recalls, *rates]


def by_ef(filled: Mapping[str, Filled], queries: Queries) -> list[Curve]:
    """Recall against latency of Chroma's own query, for each of EFS."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {kind: defaultdict(list) for kind in queries}
    exact = {name: one.exact for name, one in filled.items()}
    calls = {name: _nearest(one.collection) for name, one in filled.items()}
    for ef in EFS:
        for one in filled.values():
            change = methodcaller("modify", configuration={"hnsw": {"ef_search": ef}})
            one.collection._run(change, WRITE_TIMEOUT_SECONDS)
            restart(one, queries["text"][0])
        for kind, vectors in queries.items():
            times, recalls = ask(calls, {kind: vectors}, exact)
            for name in filled:
                points[kind][name].append((1000 * median(times[name]), recalls[name, kind]))
    return [
        Curve(f"Recall@10 of {kind} queries by ef_search {', '.join(map(str, EFS))}",
              "median of Chroma's query, ms", "recall@10", dict(lines), log="x")
        for kind, lines in points.items()
    ]  # fmt: skip


def fill(servers: ExitStack, folder: Path, size: int, queries: Queries) -> Filled:
    """A server with `size` vectors, up until `servers` is closed. Prints how fast it grows."""
    server = servers.enter_context(ChromaServer(folder))
    collection = Index(server.url, timeout_s=60).ensure(
        DEFAULT_COLLECTION, model="bench", fingerprint="b" * 16, dimension=DIMENSION
    )
    scans = {kind: _Scan(vectors) for kind, vectors in queries.items()}
    rates: list[tuple[float, float]] = []
    costs: list[tuple[float, float]] = []
    times: list[float] = []
    slowest, before, core_s = 0.0, 0, cpu_seconds(server.pid)
    for first, vectors in batches(np.random.default_rng(SEED), size, DIMENSION):
        images = [image(first + row) for row in range(len(vectors))]
        times.append(wall_seconds(lambda: collection.upsert(images, vectors, ["bench:0"] * len(images))))  # noqa: B023
        for scan in scans.values():
            scan.see([one.id for one in images], vectors)
        written = first + len(vectors)
        if written % REPORTED == 0 or written == size:
            rates.append((written, (written - before) / sum(times)))
            costs.append((written, 1000 * (cpu_seconds(server.pid) - core_s) / (written - before)))
            slowest = max(slowest, *times)
            print(
                f"{folder.name}: {written:,} vectors, {rates[-1][1]:,.0f}/s, "
                f"{costs[-1][1]:.2f} core-ms each, a batch up to {max(times):.1f} s",
                flush=True,
            )
            times.clear()
            before, core_s = written, cpu_seconds(server.pid)
    exact = {kind: scan.nearest for kind, scan in scans.items()}
    return Filled(server, folder, collection, exact, rates, costs, slowest)


class _Scan:
    """The exact NEAREST of each query among all vectors seen, by a product with every one of them."""

    def __init__(self, queries: Vectors) -> None:
        self._queries = queries
        self._scores = np.full((len(queries), NEAREST), -2.0, np.float32)
        self._ids = np.full((len(queries), NEAREST), "", object)

    def see(self, ids: Sequence[str], vectors: Vectors) -> None:
        scores = np.hstack([self._scores, self._queries @ vectors.T])
        every = np.hstack([self._ids, np.broadcast_to(np.array(ids, object), (len(scores), len(ids)))])
        best = np.argpartition(-scores, NEAREST - 1, axis=1)[:, :NEAREST]
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._ids = np.take_along_axis(every, best, axis=1)

    @property
    def nearest(self) -> list[set[str]]:
        return [set(row) for row in self._ids]


def _search(collection: Collection, *, of_text: bool) -> Callable[[Vectors], list[str]]:
    return lambda vector: [hit.image.id for hit in collection.search(vector, limit=LIMIT, of_text=of_text)]


def _nearest(collection: Collection) -> Callable[[Vectors], list[str]]:
    return lambda vector: [one for one, _ in collection.nearest(vector[np.newaxis], NEAREST)[0]]


def ask(
    calls: Mapping[Key, Callable[[Vectors], list[str]]], queries: Queries, exact: Mapping[Key, Exact]
) -> tuple[dict[Key, list[float]], dict[tuple[Key, str], float]]:
    """Seconds of each query, round by round, and recall@10 by kind. Every query goes to each call in turn."""
    times: dict[Key, list[float]] = defaultdict(list)
    hits: dict[tuple[Key, str], int] = defaultdict(int)
    for number in range(-1, ROUNDS):  # the first warms
        for kind, vectors in queries.items():
            for query, vector in enumerate(vectors):
                for key, call in calls.items():
                    found: list[str] = []
                    seconds = wall_seconds(lambda: found.extend(call(vector)))  # noqa: B023
                    if number < 0:
                        hits[key, kind] += len(exact[key][kind][query] & set(found[:NEAREST]))
                    else:
                        times[key].append(seconds)
    return times, {(key, kind): count / NEAREST / len(queries[kind]) for (key, kind), count in hits.items()}


def _medians(times: Sequence[float]) -> Iterable[float]:
    """Of each round."""
    return (float(median(one)) for one in np.array_split(np.array(times), ROUNDS))


def restart(one: Filled, query: Vectors) -> float:
    """Seconds of the first search after the server was started again."""
    one.server.stop()
    one.server.start()
    return wall_seconds(lambda: one.collection.search(query, limit=LIMIT))
