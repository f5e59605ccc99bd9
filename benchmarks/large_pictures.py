"""What the largest pictures cost the API and others: memory, and the time of a text search meanwhile.

SENDERS search by a picture of 100 megapixels at once, each again as soon as it has its answer, which may be
503. Memory is the server's: the process that answers, and beside it with the processes that it starts.
"""

import io
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.load_generator import SEARCH, Tally, Users, simulate
from benchmarks.processes import resident_mib
from benchmarks.results import Result
from benchmarks.synthetic import fill
from shared.embedding.encoder import Encoder
from shared.index.index import Index
from tests.api_server import api_server, children
from tests.chroma_server import ChromaServer

SIDE = 10_000
SENDERS = 16
PICTURES = 2_000
IDLE_SECONDS, SECONDS = 10.0, 20.0
AFTER_SECONDS = 60.0
TIMEOUT_SECONDS = 120.0
SAMPLE_SECONDS = 0.02
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 85},
    "progressive JPEG": {"quality": 85, "progressive": True},
    "PNG": {"compress_level": 1},
    "WebP": {"method": 0},
}
MIB_PER_GB = 10**9 / 2**20
GROWTH_GB, AFTER, SLOWDOWN = 1.5, 1.2, 5.0


def measure(work: Path) -> list[Result]:
    """Each format in turn, against a server of its own."""
    work.mkdir(parents=True)
    image = _picture()
    with ChromaServer(work / "chroma") as chroma:
        fill(Index(chroma.url, timeout_s=60), Encoder.load("starter"), PICTURES)
        settings = {
            "CHROMA_URL": chroma.url,
            "MODEL": "starter",
            "REDIS_URL": "redis://127.0.0.1:9/0",
            "RATE_LIMIT": "off",
        }
        return [
            result
            for name, options in FORMATS.items()
            for result in _measure(work, name, _file(image, name, options), settings)
        ]


def _picture() -> Image.Image:
    """A ramp with noise in one channel, so that no format packs it into nothing."""
    ramp = np.linspace(0, 255, SIDE).astype(np.uint8)
    pixels = np.empty((SIDE, SIDE, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = ramp, ramp[:, None]
    pixels[..., 2] = np.random.default_rng(0).integers(0, 2, (SIDE, SIDE), np.uint8)
    pixels[::2, :, 2] = 0
    return Image.fromarray(pixels)


def _file(image: Image.Image, name: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name.rsplit(maxsplit=1)[-1], **options)
    return buffer.getvalue()


def _measure(work: Path, name: str, data: bytes, settings: dict[str, str]) -> list[Result]:
    with api_server(work, path="/readyz", **settings) as (url, master):
        (server,) = children(master)
        _send(url, _file(Image.new("RGB", (64, 64)), "PNG", {}))
        idle = simulate(url, Users(searchers=1, pause_s=0.05), IDLE_SECONDS).percentile(SEARCH, 50)
        start, start_all = resident_mib(server), _all_mib(server)
        with _watching(server) as peaks:
            answers, searches = _crowd(url, data)
        time.sleep(AFTER_SECONDS)
        after, after_all = resident_mib(server), _all_mib(server)
    return [
        Result(
            f"{name}: growth of the API's memory",
            (peaks[0] - start) / MIB_PER_GB,
            "GB",
            goal=GROWTH_GB,
            most=True,
        ),
        Result(f"{name}: memory a minute later, times the start", after / start, goal=AFTER, most=True),
        Result(
            f"{name}: another's text search, p50, times idle",
            searches.percentile(SEARCH, 50) / idle,
            goal=SLOWDOWN,
            most=True,
        ),
        Result(f"  {name}: another's text search, p99", searches.percentile(SEARCH, 99), "ms"),
        Result(
            f"  {name}: growth with the processes that it starts", (peaks[1] - start_all) / MIB_PER_GB, "GB"
        ),
        Result(f"  {name}: the same a minute later, times the start", after_all / start_all),
        Result(f"  {name}: size of the file", len(data) / 10**6, "MB"),
        Result(f"  {name}: the API's memory at the start", start / MIB_PER_GB, "GB"),
        Result(f"  {name}: text search idle, p50", idle, "ms"),
        *(Result(f"  {name}: answers {status}", count) for status, count in sorted(answers.items())),
    ]


def _crowd(url: str, data: bytes) -> tuple[Counter[int], Tally]:
    """The answers' statuses, and another's text searches meanwhile."""
    until = time.monotonic() + SECONDS

    def sender() -> Counter[int]:
        answers: Counter[int] = Counter()
        while time.monotonic() < until:
            answers[_send(url, data)] += 1
            time.sleep(0.1)
        return answers

    with ThreadPoolExecutor(SENDERS) as senders:
        sending = [senders.submit(sender) for _ in range(SENDERS)]
        searches = simulate(url, Users(searchers=1, pause_s=0.05), SECONDS)
        return sum((one.result() for one in sending), Counter()), searches


def _send(url: str, data: bytes) -> int:
    files = {"image": ("a", data)}
    with suppress(httpx.TransportError):
        return httpx.post(
            f"{url}/v1/search", files=files, timeout=TIMEOUT_SECONDS, trust_env=False
        ).status_code
    return 0


@contextmanager
def _watching(server: int) -> Iterator[list[float]]:
    """The most that the server took meanwhile, alone and with its processes, in MiB."""
    peaks, done = [0.0, 0.0], Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peaks[:] = map(max, peaks, (resident_mib(server), _all_mib(server)))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _all_mib(server: int) -> float:
    """Of the server and the processes that its threads started."""
    total, command = resident_mib(server), _command(server)
    for task in Path(f"/proc/{server}/task").iterdir():
        with suppress(OSError, KeyError):  # one that has just ended
            for child in (task / "children").read_text(encoding="ascii").split():
                if _command(int(child)) != command:  # else it begins, in its parent's memory
                    total += resident_mib(int(child))
    return total


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
