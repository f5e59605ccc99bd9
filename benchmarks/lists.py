"""What an order, groups, variety, keywords or a part of a picture cost a search over HTTP."""

import base64
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.results import Result, wall_seconds
from benchmarks.synthetic import fill, image
from shared.embedding.encoder import Encoder
from shared.models import DEFAULT_COLLECTION, Metadata
from shared.storage.blobs import Blobs, file_key
from tests.stack import Stack

TEXTS, WARM = 60, 3
PER_SKU = 5
# What is asked for beside a text, and the most that it may cost, in searches by the text alone.
LISTS: dict[str, tuple[dict[str, Any], float]] = {
    "ordered among 100": ({"order_by": "-created_at", "among": 100}, 1.5),
    "grouped by a name": ({"group_by": "sku"}, 2.0),
    "without near-duplicates": ({"group_by": "near_duplicates"}, 2.0),
    "diverse": ({"diversity": 0.3}, 1.3),
    "with a keyword that 10 % have": ({"keywords": {"any": ["north face"]}}, 3.0),
    "with a keyword that 0.1 % have": ({"keywords": {"any": ["alpine club"]}}, 6.0),
}


def measure(checkpoint: Path, work: Path, photo: Path, count: int) -> list[Result]:
    """Medians over as many texts for each way, the ways in turn, so that the machine's moods meet all alike.

    Each text is new, as most are that users type, and then asked again, when its vector is cached. The part
    of a stored picture is compared with the same file sent along, which takes one encoding, too.
    """
    with Stack(work / "stack", MODEL=str(checkpoint)) as stack:
        encoder = Encoder.load(str(checkpoint))
        fill(stack.index(timeout_s=60), encoder, count, lambda draw: _words(draw, count))
        blobs = Blobs((stack.data_dir / "blobs").as_uri())
        blobs.put(file_key(DEFAULT_COLLECTION, image(0).id, "rendition"), photo.read_bytes())
        with httpx.Client(base_url=stack.url, timeout=60) as http:
            new, again = _medians(http)
            parts = _parts(http, photo.read_bytes())
    return [
        *(
            Result(
                f"search of {count:,} {name}, times the plain one", new[name] / new[""], goal=goal, most=True
            )
            for name, (_, goal) in LISTS.items()
        ),
        Result("search by a part of a stored picture, times the file sent along", parts, goal=1.2, most=True),
        Result("  the plain search", 1000 * new[""], "ms"),
        *(Result(f"  the same text again {name}, times plain", again[name] / again[""]) for name in LISTS),
        Result("  the same text again, plain", 1000 * again[""], "ms"),
    ]


def _words(draw: float, count: int) -> Metadata:
    brand = "Alpine Club" if draw < 0.001 else "The North-Face" if draw < 0.101 else "No brand"
    return {"title": f"{brand} jacket, size {draw:.2f}", "sku": f"sku-{int(draw * count) // PER_SKU}"}


def _medians(http: httpx.Client) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of a search by a new text and by the same again, by what was asked for; "" is a plain one."""
    asked: dict[str, dict[str, Any]] = {"": {}, **{name: more for name, (more, _) in LISTS.items()}}
    times: list[dict[str, list[float]]] = [{name: [] for name in asked} for _ in range(2)]
    for number in range(-WARM, TEXTS):
        for place, (name, more) in enumerate(asked.items()):
            query = {"text": f"thing {len(asked) * number + place:05}", **more}
            taken = [wall_seconds(partial(_search, http, query)) for _ in times]
            if number >= 0:
                for one, seconds in zip(times, taken, strict=True):
                    one[name].append(seconds)
    new, again = ({name: statistics.median(taken) for name, taken in one.items()} for one in times)
    return new, again


def _parts(http: httpx.Client, photo: bytes) -> float:
    """The median time of a search by a part of a stored picture, over that of one by the file."""
    stored = {"image_id": image(0).id, "box": [0.1, 0.1, 0.9, 0.9]}
    sent = {"image_base64": base64.b64encode(photo).decode()}
    pairs = [
        (wall_seconds(lambda: _search(http, stored)), wall_seconds(lambda: _search(http, sent)))
        for _ in range(TEXTS)
    ]
    by_part, by_file = (statistics.median(taken) for taken in zip(*pairs, strict=True))
    return by_part / by_file


def _search(http: httpx.Client, query: dict[str, Any]) -> None:
    results = http.post("/v1/search", json=query).raise_for_status().json()["results"]
    if len(results) != 20:
        raise RuntimeError(f"{len(results)} results of {query}")
