"""Graphs built in several ways, 100,000 vectors each: recall against latency by ef_search, as in vectors."""

from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from chromadb.api.collection_configuration import CreateCollectionConfiguration

from benchmarks.results import Curve
from benchmarks.vectors import by_ef, fill, made_queries
from shared.index import index

SIZE = 100_000
GRAPHS = ((16, 100), (24, 128), (48, 200))  # max_neighbors, ef_construction


def measure(work: Path, size: int = SIZE) -> list[Curve]:
    queries = made_queries()
    with ExitStack() as servers:
        filled = {}
        for neighbors, construction in GRAPHS:
            name = f"max_neighbors {neighbors}, ef_construction {construction}"
            with patch.object(index, "HNSW", _graph(neighbors, construction)):
                filled[name] = fill(servers, work / f"graph{neighbors}-{construction}", size, queries)
        return by_ef(filled, queries)


def _graph(neighbors: int, construction: int) -> CreateCollectionConfiguration:
    hnsw = {**(index.HNSW.get("hnsw") or {}), "max_neighbors": neighbors, "ef_construction": construction}
    return CreateCollectionConfiguration(hnsw=hnsw)  # type: ignore[typeddict-item]
