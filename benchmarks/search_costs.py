"""A text search over HTTP against what it cannot do without: encoding the text, and one raw Chroma query."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import chromadb
import httpx
from chromadb.config import Settings

from benchmarks.results import Result
from benchmarks.synthetic import fill
from shared.encoder import Encoder
from shared.index import Index
from tests.stack import Stack

TEXTS = 100
LIMIT = 20


def measure(checkpoint: Path, work: Path, count: int) -> list[Result]:
    """Medians over the same texts; every text is asked in each way in turn.

    How long encoding took is what the answer says: another process would not have the API's threads.
    """
    encoder = Encoder.load(str(checkpoint))
    with Stack(work / "stack", MODEL=str(checkpoint)) as stack:
        url = stack.env["IMAGE_SEARCH_CHROMA_URL"]
        collection = fill(Index(url, timeout_s=60), encoder, count)
        with httpx.Client(base_url=stack.url, timeout=60) as http:
            times = _times(encoder, _raw(url, collection.physical), http)
    new, cached, raw, encoding = (
        statistics.median(times[name]) for name in ("new", "cached", "raw", "encode")
    )
    return [
        Result(
            "text search over HTTP, times encode + raw query", new / (encoding + raw), goal=1.25, most=True
        ),
        Result("the same text again, times the raw query", cached / raw, goal=2.0, most=True),
        Result(f"  text search of {count:,} over HTTP", 1000 * new, "ms"),
        Result("  the same text again", 1000 * cached, "ms"),
        Result("  encoding the text", 1000 * encoding, "ms"),
        Result("  raw Chroma query with records", 1000 * raw, "ms"),
    ]


def _raw(url: str, physical: str) -> chromadb.Collection:
    parts = urlsplit(url)
    client = chromadb.HttpClient(
        host=parts.hostname or "", port=parts.port or 0, settings=Settings(anonymized_telemetry=False)
    )
    return client.get_collection(physical, embedding_function=None)


def _times(encoder: Encoder, raw: chromadb.Collection, http: httpx.Client) -> dict[str, list[float]]:
    """Seconds, by what was done."""
    times: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, call: Callable[..., Any]) -> Any:
        started = time.perf_counter()
        result = call()
        times[name].append(time.perf_counter() - started)
        return result

    for number in range(TEXTS):
        text = f"a picture of thing number {number}"
        vector = encoder.encode_texts([text])
        for name in ("new", "cached"):
            answer = timed(
                name, lambda text=text: http.get("/v1/search", params={"text": text, "limit": LIMIT})
            )
            body = answer.raise_for_status().json()
            if len(body["results"]) != LIMIT:
                raise RuntimeError(f"not {LIMIT} results: {answer.text[:200]}")
            if name == "new":
                times["encode"].append(body["took_ms"]["encode"] / 1000)
        timed("raw", lambda vector=vector: raw.query(vector, n_results=LIMIT))
    return times
