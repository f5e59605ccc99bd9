"""What the newest pictures cost over HTTP, by how many pictures there are."""

import hashlib
import statistics
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np

from benchmarks.results import Result, wall_seconds
from benchmarks.synthetic import BATCH
from shared.index.index import Index
from shared.models import Image
from tests.stack import Stack

SMALL, LARGE = 10_000, 1_000_000
DIMENSION = 8
ROUNDS = 60
LIMIT = 50
NAME = "newest"
PAGES = ("first page", "second page")
_NOW = 1_790_000_000.0
_APART_SECONDS = 0.7  # two pictures


def measure(work: Path, large: int = LARGE) -> list[Result]:
    """Medians of the first page and the one after, each asked of both collections in turn."""
    times: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as opened:
        clients = {}
        for count in (SMALL, large):
            stack = opened.enter_context(Stack(work / str(count)))
            _fill(stack.index(timeout_s=60), count)
            clients[count] = opened.enter_context(httpx.Client(base_url=stack.url, timeout=60))
        for _ in range(ROUNDS):
            for count, http in clients.items():
                for name, seconds in _times(http).items():
                    times.setdefault((name, count), []).append(seconds)
    medians = {key: statistics.median(taken) for key, taken in times.items()}
    return [
        *(
            Result(
                f"{name} of the newest among {large:,}, times among {SMALL:,}",
                medians[name, large] / medians[name, SMALL],
                goal=1.2,
                most=True,
            )
            for name in PAGES
        ),
        *(
            Result(f"  first page among {count:,}", 1000 * medians[PAGES[0], count], "ms")
            for count in (SMALL, large)
        ),
    ]


def _fill(index: Index, count: int) -> None:
    collection = index.create(NAME, model="m", fingerprint="0" * 16, dimension=DIMENSION)
    rng = np.random.default_rng(0)
    for first in range(0, count, BATCH):
        images = [_image(number, count) for number in range(first, min(first + BATCH, count))]
        vectors = rng.standard_normal((len(images), DIMENSION)).astype(np.float32)
        collection.upsert(images, vectors, ["bench:0"] * len(images), new=True)


def _image(number: int, count: int) -> Image:
    source = f"http://a/{number}.jpg"
    image_id = hashlib.sha256(source.encode()).hexdigest()
    created_at = _NOW - (count - number) * _APART_SECONDS
    return Image(image_id, source, [source], "jpeg", 2048, 1536, 10**6, created_at)


def _times(http: httpx.Client) -> dict[str, float]:
    """Seconds that each page took."""
    query = {"order_by": "-created_at", "collection": NAME, "limit": str(LIMIT)}

    def ask() -> None:
        answer = http.get("/v1/images", params=query).raise_for_status().json()
        if len(answer["images"]) != LIMIT:
            raise RuntimeError(f"{len(answer['images'])} pictures, not {LIMIT}")
        query["cursor"] = answer["next_cursor"]

    return {name: wall_seconds(ask) for name in PAGES}
