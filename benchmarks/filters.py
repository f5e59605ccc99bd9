"""What a filter costs a text search over HTTP, by the share of the pictures that it keeps."""

import statistics
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.results import Result
from benchmarks.synthetic import fill
from shared.embedding.encoder import Encoder
from tests.stack import Stack

PICTURES = 60_000
TEXTS = 40
ROUNDS = 3
# The share that a filter keeps, and the most that it may cost, in unfiltered searches.
GOALS = {0.9: 3.0, 0.1: 3.0, 0.001: 6.0}


def measure(checkpoint: Path, work: Path, count: int = PICTURES) -> list[Result]:
    """Medians over the same texts, whose vectors the API has cached: encoding would hide what a filter costs.

    Every text is asked with each filter in turn, so that what else the machine does meets all alike.
    """
    with Stack(work / "stack", MODEL=str(checkpoint)) as stack:
        fill(stack.index(timeout_s=60), Encoder.load(str(checkpoint)), count)
        with httpx.Client(base_url=stack.url, timeout=60) as http:
            times = _times(http, count)
    plain = statistics.median(times[None])
    return [
        *(
            Result(
                f"search of {count:,} with a filter that keeps {share:.1%}, times without",
                statistics.median(times[share]) / plain,
                goal=goal,
                most=True,
            )
            for share, goal in GOALS.items()
        ),
        Result("  search without a filter", 1000 * plain, "ms"),
    ]


def _times(http: httpx.Client, count: int) -> dict[float | None, list[float]]:
    """Seconds a search, by the share that its filter keeps; None without a filter."""
    times: dict[float | None, list[float]] = {share: [] for share in (None, *GOALS)}
    texts = [f"a picture of thing number {number}" for number in range(TEXTS)]
    for text in texts:
        _search(http, {"text": text})
    for text in texts * ROUNDS:
        for share, taken in times.items():
            filters = {} if share is None else {"filters": {"draw": {"lt": share}}}
            started = time.perf_counter()
            found = _search(http, {"text": text, **filters})
            taken.append(time.perf_counter() - started)
            least = min(20, round((share or 1) * count))
            if len(found) != least:
                raise RuntimeError(f"a filter that keeps {share} gave {len(found)} results of {least}")
    return times


def _search(http: httpx.Client, query: dict[str, Any]) -> list[Any]:
    answer = http.post("/v1/search", json=query)
    answer.raise_for_status()
    results: list[Any] = answer.json()["results"]
    return results
