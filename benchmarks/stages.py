"""What each stage of the road costs when it runs alone: the ceilings of the whole road."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.processes import cpu_seconds
from benchmarks.results import wall_seconds
from benchmarks.synthetic import image
from shared.config import WHOLE_DOWNLOAD, Settings
from shared.download.downloader import Downloader
from shared.embedding.encoder import Encoder
from shared.imaging.decode import DecodedImage, Preprocess, decode
from shared.index.index import Index
from shared.storage.blobs import Blobs, file_key
from shared.storage.vector_log import Addition, Segment, read_segment, write_segment
from tests.chroma_server import ChromaServer

CORES = len(os.sched_getaffinity(0))
ENCODE_ROUNDS = 3
CHROMA_BATCH = 300
# The batches, limits and numbers of downloads at once that the product has by default.
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}


@dataclass(frozen=True, slots=True)
class Stage:
    """`cost` in core-seconds per picture; `ceiling` in pictures per second, alone on the machine."""

    cost: float
    ceiling: float


def common(
    preprocess: Preprocess, urls: Sequence[str], dimension: int, work: Path
) -> tuple[list[bytes], dict[str, Stage]]:
    """The files, and the stages before and after encode, on all cores where a stage can use them."""
    files, download = _download(urls)
    pictures: list[DecodedImage] = []
    decode_one = partial(
        decode, preprocess=preprocess, max_pixels=DEFAULTS["max_image_pixels"], keep="rendition"
    )
    decode_one(files[0])

    def decode_all() -> None:
        with ThreadPoolExecutor(CORES) as pool:
            pictures.extend(pool.map(decode_one, files))

    decoding = _spread(decode_all, len(files))
    blobs = Blobs(f"file://{work}/blobs")
    chroma = _chroma(dimension, work)
    return files, {
        "download (both ends)": download,
        "decode and resize": decoding,
        "write renditions": _spread(lambda: _keep(blobs, pictures), len(files)),
        "vector log": _vector_log(blobs, dimension, len(files)),
        "Chroma write": chroma[0],
        "Chroma read": chroma[1],
    }


def encode(encoder: Encoder, crops: np.ndarray) -> Stage:
    """The best of some rounds, each on all cores."""
    rate = len(crops) / min(wall_seconds(lambda: encoder.encode_images(crops)) for _ in range(ENCODE_ROUNDS))
    return Stage(CORES / rate, rate)


def bound(stages: Sequence[Stage]) -> float:
    """Pictures per second on which all cores are at work on nothing but these stages."""
    return CORES / sum(stage.cost for stage in stages)


def _download(urls: Sequence[str]) -> tuple[list[bytes], Stage]:
    downloader = Downloader(
        timeout_s=DEFAULTS["fetch_timeout_s"],
        whole_s=WHOLE_DOWNLOAD * DEFAULTS["fetch_timeout_s"],
        max_bytes=DEFAULTS["max_image_bytes"],
        allow_hosts=["127.0.0.1"],
    )
    files: list[bytes] = []
    servers = [child.pid for child in multiprocessing.active_children() if child.pid]

    def get_all() -> None:
        with ThreadPoolExecutor(DEFAULTS["fetch_concurrency"]) as pool:
            files.extend(pool.map(downloader.get, urls))

    stage = _spread(get_all, len(urls), servers)
    downloader.close()
    return files, stage


def _keep(blobs: Blobs, pictures: Sequence[DecodedImage]) -> None:
    for number, picture in enumerate(pictures):
        blobs.put(file_key("images", f"{number:064d}", "thumbnail"), picture.thumbnail)
        blobs.put(file_key("images", f"{number:064d}", "rendition"), picture.rendition or b"")


def _vector_log(blobs: Blobs, dimension: int, count: int) -> Stage:
    """A chunk's segment written by encode, and read by index."""
    additions = [Addition(number, 1, "bench:0", image(number), number) for number in range(count)]
    segment = Segment(1, "bench", "b" * 16, additions, np.ones((count, dimension), np.float32))
    return _spread(lambda: read_segment(blobs, write_segment(blobs, "images", "bench", segment)), count)


def _chroma(dimension: int, work: Path) -> tuple[Stage, Stage]:
    """One upsert, and one look at what is stored of its pictures, as the writer has it before each upsert."""
    vectors = np.random.default_rng(0).normal(size=(CHROMA_BATCH, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images = [image(number) for number in range(CHROMA_BATCH)]
    ids = [one.id for one in images]
    with ChromaServer(work / "chroma") as server:
        collection = Index(server.url, timeout_s=60).ensure(
            "images", model="bench", fingerprint="b" * 16, dimension=dimension
        )
        collection.stored(ids)
        write = _serial(lambda: collection.upsert(images, vectors, ids), server.pid)
        return write, _serial(lambda: collection.stored(ids), server.pid)


def _spread(call: Callable[[], object], count: int, others: Sequence[int] = ()) -> Stage:
    """Of a stage that more cores make faster: `call` handles `count` pictures, `others` are its processes."""
    cost = _core_seconds(call, others) / count
    return Stage(cost, CORES / cost)


def _serial(call: Callable[[], object], server: int) -> Stage:
    """Of a stage that goes through Chroma's one actor, a batch at a time."""
    started = time.perf_counter()
    cost = _core_seconds(call, [server]) / CHROMA_BATCH
    return Stage(cost, CHROMA_BATCH / (time.perf_counter() - started))


def _core_seconds(call: Callable[[], object], others: Sequence[int]) -> float:
    """Of this process, whose clock is fine, and of the `others`, whose clocks tick every 10 ms."""

    def now() -> float:
        return time.process_time() + sum(map(cpu_seconds, others))

    before = now()
    call()
    return now() - before
