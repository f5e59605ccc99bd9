"""What a list costs that was ingested before: the same bytes again, nothing changed, and 1 % changed.

By the jobs' own times, from their making to their end, in a stack that has ingested before.
"""

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from benchmarks.photos import HEIGHT, WIDTH, served, write_photos
from benchmarks.processes import cpu_seconds
from benchmarks.results import Result, wall_seconds
from benchmarks.stages import DEFAULTS
from image_search import Client
from image_search.models.jobs import Job
from shared.config import WHOLE_DOWNLOAD
from shared.download.downloader import Download, Downloader
from shared.download.validators import Validators
from shared.models import ItemState
from tests.image_server import make_photo
from tests.stack import ROLES, Stack

PHOTOS = 600
CHANGED = PHOTOS // 100
WARM_UP = 128
HOUR = 3600.0
INDEXED, DUPLICATE, UNCHANGED = ItemState.INDEXED, ItemState.DUPLICATE, ItemState.UNCHANGED


@dataclass(frozen=True, slots=True)
class Run:
    """One job: its id, its seconds, and what each role took of the cores meanwhile."""

    job_id: str
    seconds: float
    cores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Lists:
    """A stack that takes the same list again and again."""

    stack: Stack
    client: Client
    urls: Sequence[str]
    photos: Sequence[Path]

    def ingest(
        self, collection: str, expected: Mapping[ItemState, int], since: str | None = None, most: int = PHOTOS
    ) -> Run:
        before = self._core_seconds()
        handle = self.client.ingest_urls(list(self.urls[:most]), collection=collection, since=since)
        job = self.client.wait(handle.job_id)
        spent = {role: now - before[role] for role, now in self._core_seconds().items()}
        return Run(job.job_id, seconds_of(job, expected), spent)

    def change(self, number: int) -> None:
        """Put other photos under 1 % of the URLs."""
        for photo in self.photos[number * CHANGED : (number + 1) * CHANGED]:
            photo.write_bytes(make_photo(PHOTOS + int(photo.stem), WIDTH, HEIGHT))
            age(photo)

    def _core_seconds(self) -> dict[str, float]:
        return {role: sum(map(cpu_seconds, self.stack.processes(role))) for role in ROLES}


@contextmanager
def served_lists(checkpoint: Path, work: Path) -> Iterator[Lists]:
    """Start a stack, and a server of photos that are old enough for their Last-Modified to count."""
    photos = write_photos(work / "photos", PHOTOS)
    for photo in photos:
        age(photo)
    settings = {"MODEL": str(checkpoint), "PRECISION": "bf16"}
    with (
        served(work / "photos") as address,
        Stack(work / "stack", **settings) as stack,
        Client(stack.url) as client,
    ):
        yield Lists(stack, client, [f"{address}/{photo.name}" for photo in photos], photos)


def measure(checkpoint: Path, work: Path, rounds: int) -> list[Result]:
    """Medians of `rounds`, each in a collection of its own."""
    with served_lists(checkpoint, work) as lists:
        warm = lists.ingest("warm-up", {INDEXED: WARM_UP}, most=WARM_UP)
        lists.ingest("warm-up", {UNCHANGED: WARM_UP}, since=warm.job_id, most=WARM_UP)
        found = [_round(lists, number) for number in range(rounds)]
    return [median_of(results) for results in zip(*found, strict=True)]


def _round(lists: Lists, number: int) -> list[Result]:
    name = f"round-{number}"
    first = lists.ingest(name, {INDEXED: PHOTOS})
    bytes_again = lists.ingest(name, {DUPLICATE: PHOTOS})
    unchanged = lists.ingest(name, {UNCHANGED: PHOTOS}, since=first.job_id)
    bare = _bare_loop(lists.urls)
    lists.change(number)
    changed = lists.ingest(name, {UNCHANGED: PHOTOS - CHANGED, INDEXED: CHANGED}, since=unchanged.job_id)
    runs = {
        "first": first,
        "the same bytes again": bytes_again,
        "unchanged": unchanged,
        "1 % changed": changed,
    }
    share = changed.seconds / (unchanged.seconds + first.seconds / 100)
    return [
        Result("the same bytes again, times the first", first.seconds / bytes_again.seconds, goal=4.0),
        Result("all unchanged, times the first", first.seconds / unchanged.seconds, goal=10.0),
        Result("all unchanged, share of a bare loop", bare / unchanged.seconds, goal=0.6),
        Result("1 % changed, times all unchanged and 1 % of the first", share, goal=1.3, most=True),
        *(Result(f"  {what}", PHOTOS / run.seconds, "pictures/s") for what, run in runs.items()),
        Result("  bare loop of conditional requests", PHOTOS / bare, "pictures/s"),
        *(
            Result(f"  {what}: core time of {role}", 1000 * spent / PHOTOS, "ms per picture")
            for what, run in runs.items()
            for role, spent in run.cores.items()
        ),
    ]


def _bare_loop(urls: Sequence[str]) -> float:
    """Seconds that the downloader alone takes to hear of each URL that nothing has changed."""
    downloader = Downloader(
        timeout_s=DEFAULTS["fetch_timeout_s"],
        whole_s=WHOLE_DOWNLOAD * DEFAULTS["fetch_timeout_s"],
        max_bytes=DEFAULTS["max_image_bytes"],
        allow_hosts=["127.0.0.1"],
    )

    def ask(url: str, known: Validators | None) -> Download:
        return downloader.download(url, known=known)

    with ThreadPoolExecutor(DEFAULTS["fetch_concurrency"]) as pool:
        known = [one.validators for one in pool.map(downloader.download, urls)]
        answers: list[Download] = []
        seconds = wall_seconds(lambda: answers.extend(pool.map(ask, urls, known)))
    downloader.close()
    if any(one.content is not None for one in answers):
        raise RuntimeError("the server of the photos does not answer 304")
    return seconds


def seconds_of(job: Job, expected: Mapping[ItemState, int]) -> float:
    """Return how long a job took. Raises RuntimeError unless it came to these counts."""
    if job.finished_at is None or any(job.counts[state] != count for state, count in expected.items()):
        raise RuntimeError(f"{expected} was expected: {job.counts}")
    began, ended = (datetime.fromisoformat(one).timestamp() for one in (job.created_at, job.finished_at))
    return ended - began


def age(photo: Path) -> None:
    """Date the file an hour back: a Last-Modified of the last seconds is not relied on."""
    written = photo.stat().st_mtime
    os.utime(photo, (written - HOUR, written - HOUR))


def median_of(results: Sequence[Result]) -> Result:
    values = [result.value for result in results]
    spread = (min(values), max(values)) if len(values) > 1 else None
    return replace(results[0], value=statistics.median(values), spread=spread)
