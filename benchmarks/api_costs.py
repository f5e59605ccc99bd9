"""What the API costs: a job's status by the job's size, and the memory of a large streamed request."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.processes import peak_mib, resident_mib
from benchmarks.results import Result, wall_seconds
from tests.stack import Stack

SMALL, LARGE = 10, 100_000
READS = 300
CHUNKS = ("image_search_waiting_chunks", "image_search_running_chunks")
# A port that refuses at once: items fail after their retries, which is all that they have to do here.
REFUSED = "http://127.0.0.1:9/{}.jpg"


def measure(work: Path) -> list[Result]:
    with (
        Stack(work / "stack") as stack,
        httpx.Client(base_url=stack.url, timeout=300) as http,
    ):
        small = _post(http, SMALL)
        (api,) = [pid for pid in stack.processes("api") if pid != stack.leader("api")]
        _post(http, SMALL)
        before = resident_mib(api)
        large = _post(http, LARGE)
        grown = peak_mib(api) - before
        most_chunks = _chunks_in_flight(http)
        ratio = _status_ratio(http, large, small)
        for job in (small, large):
            http.delete(f"/v1/jobs/{job}")
    return [
        Result("GET job of 100,000 items, times one of 10", ratio, goal=1.25, most=True),
        Result("100,000-line NDJSON: API memory growth", grown, "MiB", goal=64, most=True),
        Result("100,000-line NDJSON: chunks in flight", most_chunks, goal=64, most=True),
    ]


def _post(http: httpx.Client, count: int) -> str:
    lines: Iterator[bytes] = (json.dumps({"url": REFUSED.format(i)}).encode() + b"\n" for i in range(count))
    answer = http.post("/v1/jobs", content=lines, headers={"Content-Type": "application/x-ndjson"})
    answer.raise_for_status()
    return str(answer.json()["job_id"])


def _status_ratio(http: httpx.Client, large: str, small: str) -> float:
    """Of the medians; the two jobs are asked for in turn, so that what else the machine does meets both."""
    times: dict[str, list[float]] = {large: [], small: []}
    for _ in range(READS):
        for job, taken in times.items():
            taken.append(wall_seconds(lambda: http.get(f"/v1/jobs/{job}").raise_for_status()))  # noqa: B023
    return statistics.median(times[large]) / statistics.median(times[small])


def _chunks_in_flight(http: httpx.Client) -> int:
    lines = http.get("/metrics").text.splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith(CHUNKS)))
