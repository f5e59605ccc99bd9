"""What metrics and traces cost: their share of a chunk's core time, and of a search.

Both are far below what two runs differ by. So a job and searches run with both on, and what they counted and
which spans they made is multiplied by what one of these costs in a process that does nothing else.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.jobs import ingest_rate
from benchmarks.processes import cpu_seconds
from benchmarks.results import Result, wall_seconds
from deploy.ports import free_port
from image_search import Client
from shared.metrics.definitions import CHROMA_REQUESTS, CHROMA_SECONDS, REGISTRY
from shared.metrics.exporter import FOLDER_VARIABLE
from shared.tracing import tracing
from tests.otlp_receiver import OtlpReceiver
from tests.stack import Stack

WORKERS = ("fetch", "encode", "index")
CHUNK, SEARCHES = 64, 50
OPERATIONS, SPANS, SPANS_AT_ONCE = 20_000, 4_000, 400
CHUNK_GOAL, SEARCH_GOAL = 0.01, 0.02
_ENDPOINT, _DELAY = "OTEL_EXPORTER_OTLP_ENDPOINT", {"OTEL_BSP_SCHEDULE_DELAY": "100"}


@dataclass(frozen=True, slots=True)
class Made:
    """What was counted or timed, spans, and their attributes: since the start or of one piece of work."""

    operations: float
    spans: float
    attributes: float

    def each(self, before: "Made", count: float) -> "Made":
        return Made(
            (self.operations - before.operations) / count,
            (self.spans - before.spans) / count,
            (self.attributes - before.attributes) / count,
        )

    @property
    def attributes_each(self) -> int:
        return round(self.attributes / self.spans)


def measure(checkpoint: Path, urls: Sequence[str], work: Path) -> list[Result]:
    first = free_port()
    pages = [f"http://127.0.0.1:{first + at}/metrics" for at in range(len(WORKERS))]
    stack = Stack(work, preloaded=False, MODEL=str(checkpoint), METRICS_PORT=str(first))
    with OtlpReceiver() as receiver:
        stack.configure_process(**{_ENDPOINT: receiver.url}, **_DELAY)
        with stack:
            client = Client(stack.url)
            ingest_rate(client, urls[:CHUNK], "warm-up")
            before, worked = _made(pages, receiver), _worker_seconds(stack)
            ingest_rate(client, urls, "measured")
            count = len(urls) / CHUNK
            chunk_s = (_worker_seconds(stack) - worked) / count
            chunk = _made(pages, receiver).each(before, count)
            before = _made([f"{stack.url}/metrics"], receiver)
            search_s = _search_seconds(stack.url)
            search = _made([f"{stack.url}/metrics"], receiver).each(before, SEARCHES)
        operation_s, to = _seconds_of("operation"), {_ENDPOINT: receiver.url}
        of_chunk_s, of_search_s = (_seconds_of(f"{one.attributes_each}", **to) for one in (chunk, search))
    off_s = _seconds_of(f"{search.attributes_each}")
    return [
        _share("metrics, share of a chunk's core time", chunk.operations * operation_s / chunk_s, CHUNK_GOAL),
        _share("traces, share of a chunk's core time", chunk.spans * of_chunk_s / chunk_s, CHUNK_GOAL),
        _share("metrics, share of a search", search.operations * operation_s / search_s, SEARCH_GOAL),
        _share("traces, share of a search", search.spans * of_search_s / search_s, SEARCH_GOAL),
        _share("traces that are off, share of a search", search.spans * off_s / search_s, SEARCH_GOAL),
        Result(f"  chunk of {CHUNK} photos, in all workers", 1000 * chunk_s, "ms of a core"),
        Result("  counted or timed per chunk", chunk.operations, "times"),
        Result("  spans per chunk", chunk.spans),
        Result("  search of a new text, over HTTP", 1000 * search_s, "ms"),
        Result("  counted or timed per search", search.operations, "times"),
        Result("  spans per search", search.spans),
        Result("  to count or time once, where processes share it", 1e6 * operation_s, "µs"),
        Result("  a span of a chunk, made and sent", 1e6 * of_chunk_s, "µs"),
        Result("  a span of a search, made and sent", 1e6 * of_search_s, "µs"),
        Result("  a span that is off", 1e6 * off_s, "µs"),
    ]


def _share(name: str, value: float, goal: float) -> Result:
    return Result(name, value, goal=goal, most=True)


def _worker_seconds(stack: Stack) -> float:
    return sum(cpu_seconds(pid) for role in WORKERS for pid in stack.processes(role))


def _made(pages: Sequence[str], receiver: OtlpReceiver) -> Made:
    time.sleep(1)  # spans are sent a little later
    spans = receiver.spans
    return Made(sum(map(_operations, pages)), len(spans), sum(len(span.attributes) for span in spans))


def _operations(page: str) -> float:
    """Return how often a target has counted or timed something itself; its ledger's metrics are read."""
    own = {family.name for family in REGISTRY.collect()}
    families = text_string_to_metric_families(httpx.get(page).raise_for_status().text)
    samples = [sample for family in families if family.name in own for sample in family.samples]
    # Of bytes it counts many at once, as often as it times a download.
    return sum(
        sample.value * (2 if sample.name.endswith("download_seconds_count") else 1)
        for sample in samples
        if sample.name.endswith(("_count", "_total")) and "bytes" not in sample.name
    )


def _search_seconds(url: str) -> float:
    with httpx.Client(base_url=url, timeout=60) as http:

        def search(number: int) -> None:
            asked = {"text": f"picture number {number}", "collection": "measured"}
            http.post("/v1/search", json=asked).raise_for_status()

        return median(wall_seconds(lambda: search(number)) for number in range(SEARCHES))  # noqa: B023


def _seconds_of(what: str, **variables: str) -> float:
    """Return a core's seconds of an `operation`, or of a span with so many attributes: one of many made."""
    with tempfile.TemporaryDirectory() as folder:
        return float(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.observing", what],
                env={**os.environ, **_DELAY, FOLDER_VARIABLE: folder, **variables},
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )


def _operation_seconds() -> float:
    """Of what the dearest does: it looks up labels."""
    started = time.process_time()
    for _ in range(OPERATIONS // 2):
        CHROMA_REQUESTS.labels("get", "ok").inc()
        CHROMA_SECONDS.labels("get").observe(0.01)
    return (time.process_time() - started) / OPERATIONS


def _span_seconds(attributes_each: int) -> float:
    tracing.set_up("benchmark")
    attributes = {f"image_search.attribute_{number}": "value" for number in range(attributes_each)}
    started = time.process_time()
    for _ in range(SPANS // SPANS_AT_ONCE):
        for _ in range(SPANS_AT_ONCE):
            with tracing.span("encode", attributes=attributes):
                pass
        time.sleep(0.3 if tracing.is_active() else 0)  # else the queue is full
    tracing.shut_down()
    return (time.process_time() - started) / SPANS


if __name__ == "__main__":
    (asked,) = sys.argv[1:]
    print(_operation_seconds() if asked == "operation" else _span_seconds(int(asked)))
