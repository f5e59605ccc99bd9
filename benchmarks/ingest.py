"""Ingest by URL to searchable: the product against the naive loop, and against its own stages' ceilings."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import chromadb
import numpy as np

from api.client import Client
from benchmarks.naive import Naive
from benchmarks.results import Result, wall_seconds
from benchmarks.synthetic import image
from shared.blobs import Blobs, picture_key
from shared.download import Downloader
from shared.encoder import Encoder
from shared.images import Preprocess, decode
from shared.models import ItemState
from tests.chroma_server import ChromaServer
from tests.stack import Stack

CORES = len(os.sched_getaffinity(0))
CEILING_SAMPLE = 64
MAX_PIXELS = 100_000_000
GOALS = {"int8": 5.0}  # times the naive loop


def compare(checkpoint: Path, urls: list[str], work: Path, rounds: int, precision: str) -> list[Result]:
    """Rates in pictures a second, medians of `rounds` that alternate between the two."""
    naive = Naive(checkpoint)
    naive_rates, product_rates = [], []
    for number in range(rounds):
        naive_rates.append(_naive_rate(naive, urls, work / f"naive{number}"))
        product_rates.append(_product_rate(checkpoint, precision, urls, work / f"stack{number}"))
    costs = stage_costs(checkpoint, precision, urls[:CEILING_SAMPLE], work)
    bound = CORES / sum(costs.values())
    product, baseline = float(np.median(product_rates)), float(np.median(naive_rates))
    return [
        Result("ingest by URL, times the naive loop", product / baseline, goal=GOALS.get(precision, 3.5)),
        Result("ingest by URL, share of the stages' bound", product / bound, goal=0.75),
        Result("  product", product, "pictures/s"),
        Result("  naive loop", baseline, "pictures/s"),
        Result("  bound", bound, "pictures/s"),
        *(Result(f"  core time: {stage}", 1000 * cost, "ms a picture") for stage, cost in costs.items()),
    ]


def _naive_rate(naive: Naive, urls: list[str], folder: Path) -> float:
    with ChromaServer(folder) as server:
        client = chromadb.HttpClient(host="127.0.0.1", port=server.port)
        collection = client.create_collection("naive", embedding_function=None)
        started = time.perf_counter()
        naive.ingest(urls, collection)
        return len(urls) / (time.perf_counter() - started)


def _product_rate(checkpoint: Path, precision: str, urls: list[str], folder: Path) -> float:
    """From the POST of the job to its end: then every picture is searchable."""
    with Stack(folder, MODEL=str(checkpoint), PRECISION=precision) as stack:
        client = Client(stack.url)
        started = time.perf_counter()
        job_id = client.ingest_urls(urls).job_id
        job = client.wait(job_id)
        elapsed = time.perf_counter() - started
    if job.counts[ItemState.INDEXED] != len(urls):
        raise RuntimeError(f"not every picture was indexed: {job.counts}")
    return len(urls) / elapsed


def stage_costs(checkpoint: Path, precision: str, urls: list[str], work: Path) -> dict[str, float]:
    """Core-seconds a picture of each stage alone, with nothing else running and all cores at hand."""
    encoder = Encoder.load(str(checkpoint), precision=precision)
    encoder.warm()
    downloader = Downloader(timeout_s=30, max_bytes=50 * 2**20, allow_hosts=["127.0.0.1"])
    files: list[bytes] = []
    # The server's share is not in this process: it is taken to cost what the client does.
    download = 2 * _cpu_seconds(lambda: files.extend(downloader.get(url) for url in urls))
    downloader.close()
    pictures = [decode(files[0], encoder.preprocess, max_pixels=MAX_PIXELS, keep="rendition")]
    pictures.clear()
    preprocess: Preprocess = encoder.preprocess
    decoding = _cpu_seconds(
        lambda: pictures.extend(
            decode(data, preprocess, max_pixels=MAX_PIXELS, keep="rendition") for data in files
        )
    )
    blobs = Blobs(f"file://{work}/blobs")

    def write_blobs() -> None:
        for number, picture in enumerate(pictures):
            blobs.put(picture_key("images", f"{number:064d}", "thumbnail"), picture.thumbnail)
            blobs.put(picture_key("images", f"{number:064d}", "rendition"), picture.rendition or b"")

    writing = _cpu_seconds(write_blobs)
    crops = np.stack([picture.pixels for picture in pictures])
    encoding = CORES * min(wall_seconds(lambda: encoder.encode_images(crops)) for _ in range(3))
    return {
        "download (both ends)": download / len(urls),
        "decode and resize": decoding / len(urls),
        "write renditions": writing / len(urls),
        "encode": encoding / len(urls),
        "index": _index_cost(encoder.dimension, work / "chroma"),
    }


def _index_cost(dimension: int, folder: Path, count: int = 300) -> float:
    """Wall seconds a vector of one upsert of `count`: one actor writes, so that is core time."""
    from shared.index import Index  # noqa: PLC0415

    vectors = np.random.default_rng(0).normal(size=(count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images = [image(number) for number in range(count)]
    with ChromaServer(folder) as server:
        collection = Index(server.url).ensure("images", model="m", fingerprint="f" * 16, dimension=dimension)
        return wall_seconds(lambda: collection.upsert(images, vectors, [one.id for one in images])) / count


def _cpu_seconds(call: Callable[[], object]) -> float:
    """Core time of this process and its threads."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    call()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
