"""Deleting pictures as one job, with their files, log and ledger, against a bare loop of Chroma's deletes.

While a job deletes, metadata of single pictures is changed: how long one of those waits for the writer.
"""

import itertools
import statistics
import threading
import time
from pathlib import Path

import numpy as np

from api.images.bulk import CHUNK_ITEMS
from api.images.edits import change_metadata
from benchmarks.results import Result, wall_seconds
from benchmarks.synthetic import batches, image
from shared.config import Settings
from shared.index.collection import Collection
from shared.index.index import Index
from shared.ledger.ledger import new_job_id
from shared.ledger.writer import MAX_BATCH_ITEMS
from shared.models import Item, ItemState, JobKind, Stage
from shared.services import Services, build_services
from shared.storage.blobs import change_key, file_key
from shared.storage.manifest import ManifestWriter
from tests.chroma_server import ChromaServer
from tests.redis_server import redis_server
from worker.pipelines import store_of
from worker.stages import changes, index

PICTURES = 10_000
KEPT = 2_000  # that stay, some of which are changed meanwhile
DIMENSION = 512
ROUNDS = 3
MODEL, FINGERPRINT = "bench", "b" * 16
FILE = b"x" * 20_000


def measure(work: Path) -> list[Result]:
    """Medians of rounds that alternate, each on a Chroma of its own."""
    bare, ours, updates, waits, batches_s = [], [], [], [], []
    for number in range(ROUNDS):
        bare.append(_bare(work / f"bare{number}"))
        deleted, updated, wait, batch = _product(work / f"product{number}")
        ours.append(deleted)
        updates.append(updated)
        waits.append(wait)
        batches_s.append(batch)
    return [
        Result(
            "deletion in bulk, share of a bare loop of deletes",
            statistics.median(ours) / statistics.median(bare),
            goal=0.5,
        ),
        Result(
            "  longest wait of a single change meanwhile, in batches of the writer",
            statistics.median(waits) / statistics.median(batches_s),
            goal=2.0,
            most=True,
        ),
        Result("  deletion in bulk", statistics.median(ours), "pictures/s"),
        Result("  bare loop of deletes", statistics.median(bare), "pictures/s"),
        Result("  update in bulk", statistics.median(updates), "pictures/s"),
        Result("  longest wait of a single change", statistics.median(waits), "s"),
    ]


def _bare(work: Path) -> float:
    with ChromaServer(work / "chroma") as server:
        collection = _filled(Index(server.url, timeout_s=60))
        ids = [image(number).id for number in range(PICTURES)]

        def delete() -> None:
            for start in range(0, PICTURES, CHUNK_ITEMS):
                collection.delete(ids[start : start + CHUNK_ITEMS])

        return PICTURES / wall_seconds(delete)


def _filled(index: Index) -> Collection:
    collection = index.ensure("images", model=MODEL, fingerprint=FINGERPRINT, dimension=DIMENSION)
    for first, vectors in batches(np.random.default_rng(0), PICTURES + KEPT, DIMENSION):
        images = [image(first + row) for row in range(len(vectors))]
        collection.upsert(images, vectors, ["bench:0"] * len(images))
    return collection


def _product(work: Path) -> tuple[float, float, float, float]:
    """Return pictures a second deleted and updated, and the seconds of the longest wait and of a batch."""
    work.mkdir(parents=True)
    with ChromaServer(work / "chroma") as chroma, redis_server(work) as redis_url:
        services = build_services(
            Settings(redis_url=redis_url, chroma_url=chroma.url, blob_url=f"file://{work}/blobs")
        )
        collection = _filled(services.index)
        ids = [image(number).id for number in range(PICTURES)]
        for image_id in ids:
            for kind in ("thumbnail", "rendition"):
                services.blobs.put(file_key("images", image_id, kind), FILE)
        services.ledger.workers.heartbeat("bench", "bench", [Stage.FETCH], PICTURES // CHUNK_ITEMS)
        updated = PICTURES / _job(services, JobKind.UPDATE, ids, ItemState.UPDATED)
        # Alternating, so that the rate is without and the wait with single changes.
        half = PICTURES // 2
        rate = half / _job(services, JobKind.DELETE, ids[:half], ItemState.REMOVED)
        with _Changing(services) as changing:
            took = _job(services, JobKind.DELETE, ids[half:], ItemState.REMOVED)
        if collection.count() != KEPT:
            raise RuntimeError("not every picture was deleted")
        return rate, updated, changing.longest, took * MAX_BATCH_ITEMS / half


class _Changing:
    """Changes the metadata of pictures that stay, one after another, for as long as the block runs."""

    def __init__(self, services: Services) -> None:
        self._services, self._stopped = services, threading.Event()
        self._thread = threading.Thread(target=self._change)
        self.longest = 0.0

    def __enter__(self) -> "_Changing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _change(self) -> None:
        for number in itertools.count():
            if self._stopped.wait(0.2):
                return
            started = time.perf_counter()
            image_id = image(PICTURES + number % KEPT).id
            change_metadata(self._services, "images", image_id, {"n": number}, lambda *_: None)
            self.longest = max(self.longest, time.perf_counter() - started)


def _job(services: Services, kind: JobKind, ids: list[str], state: ItemState) -> float:
    """Return the seconds that a job of these pictures takes from its making to its end."""
    job_id = new_job_id()

    def run() -> None:
        writer = ManifestWriter(services.blobs, job_id)
        for image_id in ids:
            writer.add(Item(source=image_id))
        writer.flush()
        services.blobs.put(change_key(job_id), b'{"shop": "north"}')
        services.ledger.create(
            job_id, collection="images", total=len(ids), chunk_size=CHUNK_ITEMS, kind=kind, options={}
        )
        while services.ledger.get(job_id).finished_at is None:
            for chunk in services.ledger.dispatch():
                if claim := services.ledger.claim(chunk, Stage.FETCH):
                    changes.begin(services, claim)
            index.drain(services, store_of)

    seconds = wall_seconds(run)
    if services.ledger.get(job_id).counts[state] != len(ids):
        raise RuntimeError(f"not every picture is {state}: {services.ledger.get(job_id).counts}")
    return seconds
