"""What a list costs that was ingested before: the same bytes again, and a few that have changed.

By the jobs' own times, from their making to their end, in a stack that has ingested before.
"""

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from benchmarks.photos import HEIGHT, WIDTH, served, write_photos
from benchmarks.results import Result
from image_search import Client
from shared.models import ItemState
from tests.image_server import make_photo
from tests.stack import Stack

PHOTOS = 600
WARM_UP = 128
CHANGED = 6  # of a hundred one
AGAIN_GOAL, CHANGED_GOAL = 4.0, 1.3
HOUR = 3600.0


def measure(checkpoint: Path, work: Path, rounds: int) -> list[Result]:
    """Medians of `rounds`, each in a collection of its own."""
    photos = write_photos(work / "photos", PHOTOS)
    for photo in photos:  # else a server that has just written them vouches for no Last-Modified
        os.utime(photo, (photo.stat().st_mtime - HOUR,) * 2)
    settings = {"MODEL": str(checkpoint), "PRECISION": "bf16"}
    with served(work / "photos") as address, Stack(work / "stack", **settings) as stack, Client(stack.url) as client:
        urls = [f"{address}/{photo.name}" for photo in photos]
        _seconds(client, urls[:WARM_UP], "warm-up", ItemState.INDEXED)
        _seconds(client, urls[:WARM_UP], "warm-up", ItemState.DUPLICATE)
        found = [_round(client, urls, photos, number) for number in range(rounds)]
    return [_median(results) for results in zip(*found, strict=True)]


def _round(client: Client, urls: Sequence[str], photos: Sequence[Path], number: int) -> list[Result]:
    name = f"round-{number}"
    first = _seconds(client, urls, name, ItemState.INDEXED)
    again = _seconds(client, urls, name, ItemState.DUPLICATE)
    for photo in photos[number * CHANGED : (number + 1) * CHANGED]:
        photo.write_bytes(make_photo(PHOTOS + int(photo.stem), WIDTH, HEIGHT))
    changed = _seconds(client, urls, name, ItemState.DUPLICATE, len(urls) - CHANGED)
    return [
        Result("the same bytes again, times as fast as the first", first / again, goal=AGAIN_GOAL),
        Result("1 % changed, times the unchanged and 1 % of the first", changed / (again + first / 100), goal=CHANGED_GOAL, most=True),
        Result("  first", PHOTOS / first, "pictures/s"),
        Result("  the same bytes again", PHOTOS / again, "pictures/s"),
        Result("  1 % changed", PHOTOS / changed, "pictures/s"),
    ]


def _seconds(client: Client, urls: Sequence[str], collection: str, state: ItemState, count: int | None = None) -> float:
    job = client.wait(client.ingest_urls(list(urls), collection=collection).job_id)
    if job.counts[state] != (count or len(urls)) or job.finished_at is None:
        raise RuntimeError(f"not {state}: {job.counts}")
    began, ended = (datetime.fromisoformat(one).timestamp() for one in (job.created_at, job.finished_at))
    print(collection, state, len(urls)/(ended-began))
    return ended - began


def _median(results: Sequence[Result]) -> Result:
    values = [result.value for result in results]
    spread = (min(values), max(values)) if len(values) > 1 else None
    return replace(results[0], value=statistics.median(values), spread=spread)
