"""Graphs built in several ways, 100,000 vectors each: recall against latency by ef_search.

Of text and picture queries as in vectors.py, but of Chroma's query alone, for ten. ef_search is set before a
restart of the server, since a loaded graph keeps its own; every query is put to each graph in turn. Our
search's first page asks for 32, so that ef_search counts as it is.
"""

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from operator import methodcaller
from pathlib import Path
from unittest.mock import patch

import numpy as np
from chromadb.api.collection_configuration import CreateCollectionConfiguration

from benchmarks.results import Curve
from benchmarks.vectors import NEAREST, Vectors, ask, fill, made_queries, restart
from shared import index
from shared.index import Collection

SIZE = 100_000
GRAPHS = ((16, 100), (24, 128), (48, 200))  # max_neighbors, ef_construction
EFS = (32, 64, 128, 256, 512, 1024, 2048)


def measure(work: Path, size: int = SIZE) -> list[Curve]:
    queries = made_queries()
    points: dict[str, dict[str, list[tuple[float, float]]]] = {kind: defaultdict(list) for kind in queries}
    with ExitStack() as servers:
        filled = {}
        for neighbors, construction in GRAPHS:
            name = f"max_neighbors {neighbors}, ef_construction {construction}"
            with patch.object(index, "HNSW", _graph(neighbors, construction)):
                filled[name] = fill(servers, work / f"graph{neighbors}-{construction}", size, queries)
        exact = {name: one.exact for name, one in filled.items()}
        for ef in EFS:
            for one in filled.values():
                change = methodcaller("modify", configuration={"hnsw": {"ef_search": ef}})
                one.collection._run(change, index.WRITE_TIMEOUT_S)
                restart(one, queries["text"][0])
            calls = {name: _nearest(one.collection) for name, one in filled.items()}
            for kind, vectors in queries.items():
                times, recalls = ask(calls, {kind: vectors}, exact)
                for name in filled:
                    points[kind][name].append((1000 * float(np.median(times[name])), recalls[name, kind]))
    return [
        Curve(f"Recall@10 of {kind} queries, {size:,} vectors, by ef_search {EFS[0]} to {EFS[-1]}",
              "median of Chroma's query, ms", "recall@10", dict(lines), log="x")
        for kind, lines in points.items()
    ]  # fmt: skip


def _graph(neighbors: int, construction: int) -> CreateCollectionConfiguration:
    hnsw = {**(index.HNSW.get("hnsw") or {}), "max_neighbors": neighbors, "ef_construction": construction}
    return CreateCollectionConfiguration(hnsw=hnsw)  # type: ignore[typeddict-item]


def _nearest(collection: Collection) -> Callable[[Vectors], list[str]]:
    return lambda vector: [one for one, _ in collection.nearest(vector[np.newaxis], NEAREST)[0]]
