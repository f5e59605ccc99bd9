"""A text search over HTTP against what it cannot do without: encoding the text, and one raw Chroma query.

The raw query asks for what an answer shows: the records of its 20 nearest and their distances.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import chromadb
import httpx
import numpy as np
from chromadb.api.types import Include
from chromadb.config import Settings
from numpy.typing import NDArray

from benchmarks.results import Result
from benchmarks.synthetic import fill
from shared.embedding.encoder import Encoder
from tests.stack import Stack

ROUNDS, TEXTS = 5, 40
LIMIT = 20
SHOWN: Include = ["metadatas", "distances"]


def measure(checkpoint: Path, work: Path, count: int) -> list[Result]:
    """Medians of rounds, in each of which texts are asked in each way in turn.

    A text is some ten tokens, as a search of a few words is: this checkpoint's tokens are bytes. What a new
    text is compared with is the same work without the product, on another new text: encoding leaves neither
    of them anything of the index in the processor's caches. The same text again is compared with the raw
    query that follows it.
    """
    encoder = Encoder.load(str(checkpoint), one_core_each=True)
    with Stack(work / "stack", MODEL=str(checkpoint)) as stack:
        collection = fill(stack.index(timeout_s=60), encoder, count)
        with httpx.Client(base_url=stack.url, timeout=60) as http:
            raw = _raw(stack, collection.physical)
            rounds = [_medians(encoder, raw, http, number) for number in range(ROUNDS)]
    new, cached, alone, encoding, parts = (
        np.array([medians[name] for medians in rounds])
        for name in ("new", "cached", "raw", "encode", "parts")
    )
    return [
        _ratio("text search over HTTP, times encode + raw query", new / parts, goal=1.25),
        _ratio("the same text again, times the raw query", cached / alone, goal=2.0),
        Result(f"  text search of {count:,} over HTTP", 1000 * float(np.median(new)), "ms"),
        Result("  encode + raw query", 1000 * float(np.median(parts)), "ms"),
        Result("  encoding the text, in the API", 1000 * float(np.median(encoding)), "ms"),
        Result("  the same text again", 1000 * float(np.median(cached)), "ms"),
        Result("  raw Chroma query with records", 1000 * float(np.median(alone)), "ms"),
    ]


def _ratio(name: str, rounds: NDArray[np.float64], goal: float) -> Result:
    spread = (float(rounds.min()), float(rounds.max()))
    return Result(name, float(np.median(rounds)), goal=goal, most=True, spread=spread)


def _raw(stack: Stack, physical: str) -> chromadb.Collection:
    parts = urlsplit(stack.env["IMAGE_SEARCH_CHROMA_URL"])
    client = chromadb.HttpClient(
        host=parts.hostname or "",
        port=parts.port or 0,
        settings=Settings(anonymized_telemetry=False),
        tenant=stack.env["IMAGE_SEARCH_CHROMA_TENANT"],
    )
    return client.get_collection(physical, embedding_function=None)


def _medians(
    encoder: Encoder, raw: chromadb.Collection, http: httpx.Client, round_number: int
) -> dict[str, np.floating[Any]]:
    """Seconds, by what was done."""
    times: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, call: Callable[..., Any]) -> Any:
        started = time.perf_counter()
        result = call()
        times[name].append(time.perf_counter() - started)
        return result

    def without(text: str) -> NDArray[np.float32]:
        vectors = encoder.encode_texts([text])
        raw.query(vectors, n_results=LIMIT, include=SHOWN)
        return vectors

    for number in range(TEXTS):
        text = f"thing {1000 * round_number + number:04}"
        for name in ("new", "cached"):
            answer = timed(
                name, lambda text=text: http.get("/v1/search", params={"text": text, "limit": LIMIT})
            )
            body = answer.raise_for_status().json()
            if len(body["results"]) != LIMIT:
                raise RuntimeError(f"not {LIMIT} results: {answer.text[:200]}")
            if name == "new":
                times["encode"].append(body["took_ms"]["encode"] / 1000)
        vectors = without(text)
        timed("raw", lambda vectors=vectors: raw.query(vectors, n_results=LIMIT, include=SHOWN))
        timed("parts", lambda text=text: without(text.replace("thing", "other")))
    return {name: np.median(seconds) for name, seconds in times.items()}
