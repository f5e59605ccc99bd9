"""The index stage, ledger and vector log included, against a bare loop of the same upserts."""

import math
import statistics
from pathlib import Path

import numpy as np

from benchmarks.results import Result, wall_seconds
from benchmarks.synthetic import batches, image
from shared.config import Settings
from shared.index.index import Index
from shared.ledger.ledger import new_job_id
from shared.models import Chunk, Claim, ItemState, Stage
from shared.services import Services, build_services
from shared.storage import vector_log
from shared.storage.vector_log import Addition, Segment
from tests.chroma_server import ChromaServer
from tests.redis_server import redis_server
from worker.pipelines import store_of
from worker.stages import index

VECTORS = 10_000
DIMENSION = 512
CHUNK = 64
ROUNDS = 5
MODEL, FINGERPRINT = "bench", "b" * 16


def measure(work: Path) -> list[Result]:
    """Medians of rounds that alternate, each on a Chroma of its own."""
    product, bare = [], []
    for number in range(ROUNDS):
        bare.append(_bare(work / f"bare{number}"))
        product.append(_product(work / f"product{number}"))
    ours, theirs = statistics.median(product), statistics.median(bare)
    return [
        Result("index stage, share of a bare loop of upserts", ours / theirs, goal=0.9),
        Result("  index stage", ours, "vectors/s"),
        Result("  bare loop", theirs, "vectors/s"),
    ]


def _bare(work: Path) -> float:
    with ChromaServer(work / "chroma") as server:
        collection = Index(server.url, timeout_s=60).ensure(
            "images", model=MODEL, fingerprint=FINGERPRINT, dimension=DIMENSION
        )
        data = [
            ([image(first + row) for row in range(len(vectors))], vectors)
            for first, vectors in batches(np.random.default_rng(0), VECTORS, DIMENSION)
        ]

        def write() -> None:
            for images, vectors in data:
                collection.upsert(images, vectors, ["bench:0"] * len(images))

        return VECTORS / wall_seconds(write)


def _product(work: Path) -> float:
    work.mkdir(parents=True)
    with ChromaServer(work / "chroma") as chroma, redis_server(work) as redis_url:
        services = build_services(
            Settings(redis_url=redis_url, chroma_url=chroma.url, blob_url=f"file://{work}/blobs")
        )
        job_id = new_job_id()
        services.ledger.create(job_id, collection="images", total=VECTORS, chunk_size=CHUNK)
        rows = np.concatenate(
            [vectors for _, vectors in batches(np.random.default_rng(0), VECTORS, DIMENSION)]
        )
        # Else the window of a stack without workers lets in four chunks at a time: no writer would be behind.
        services.ledger.workers.heartbeat("bench", "bench", [Stage.FETCH], math.ceil(VECTORS / CHUNK))
        services.index.ensure("images", model=MODEL, fingerprint=FINGERPRINT, dimension=DIMENSION)
        elapsed = 0.0
        for number in range(math.ceil(VECTORS / CHUNK)):
            chunk = Chunk(job_id, 0, number, 0)
            while (claim := services.ledger.claim(chunk, Stage.FETCH)) is None:
                if not services.ledger.dispatch():  # as much waits as may: the stage lets in more
                    elapsed += wall_seconds(lambda: index.drain(services, store_of))
            _to_index(services, claim, rows[claim.first_item : claim.last_item])
        elapsed += wall_seconds(lambda: index.drain(services, store_of))
        counts = services.ledger.get(job_id).counts
    if counts[ItemState.INDEXED] != VECTORS:
        raise RuntimeError(f"not every vector was indexed: {counts}")
    return VECTORS / elapsed


def _to_index(services: Services, claim: Claim, vectors: np.ndarray) -> None:
    additions = [
        Addition(i, 1, f"{claim.chunk.job_id}:{i}", image(i), claim.version + i, skip_near=False)
        for i in range(claim.first_item, claim.last_item)
    ]
    segment = Segment(claim.version, MODEL, FINGERPRINT, additions, vectors)
    key = vector_log.write_segment(
        services.blobs, claim.collection, claim.chunk.ref.replace(":", "."), segment
    )
    transitions = [(addition.index, ItemState.FETCHED) for addition in additions]
    services.ledger.advance(claim, transitions=transitions, next_stage=Stage.INDEX, payload=key)
