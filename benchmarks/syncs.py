"""What a sync costs of a feed that was synced before, and what others wait for beside it.

By the jobs' own times, from their making to their end, in a stack that has ingested before.
"""

import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks.known import (
    CHANGED,
    INDEXED,
    PHOTOS,
    UNCHANGED,
    WARM_UP,
    Lists,
    median_of,
    seconds_of,
    served_lists,
)
from benchmarks.results import Result
from image_search.models.jobs import Job

SMALL = 10
SMALL_JOBS = 5


def measure(checkpoint: Path, work: Path, rounds: int) -> list[Result]:
    """Medians of `rounds`, each with a feed, and collections, of its own."""
    with served_lists(checkpoint, work) as lists:
        lists.ingest("warm-up", {INDEXED: WARM_UP}, most=WARM_UP)
        found = [_round(lists, number) for number in range(rounds)]
    return [median_of(results) for results in zip(*found, strict=True)]


def _round(lists: Lists, number: int) -> list[Result]:
    client, name = lists.client, f"feed-{number}"
    address = lists.urls[0].rpartition("/")[0]
    feed = lists.photos[0].with_name(f"{name}.csv")
    rows = [f"sku-{place},{url}" for place, url in enumerate(lists.urls)]
    feed.write_text("\n".join(["key,url", *rows, ""]))
    client.put_source(name, f"{address}/{feed.name}", collection=name)

    def sync() -> Job:
        return client.wait(client.sync(name).job_id)

    first = seconds_of(sync(), {INDEXED: PHOTOS})
    unchanged = seconds_of(sync(), {UNCHANGED: PHOTOS})
    lists.change(number)
    changed = seconds_of(sync(), {UNCHANGED: PHOTOS - CHANGED, INDEXED: CHANGED})
    beside_ingest = _waits(lists, lambda: client.ingest_urls(list(lists.urls), collection=f"{name}-a").job_id)
    client.put_source(f"{name}-b", f"{address}/{feed.name}", collection=f"{name}-b")
    beside_sync = _waits(lists, lambda: client.sync(f"{name}-b").job_id)
    return [
        Result("unchanged, times the first sync", first / unchanged, goal=10.0),
        Result(
            "1 % changed, times unchanged and 1 % of the first",
            changed / (unchanged + first / 100),
            goal=1.3,
            most=True,
        ),
        Result(
            "a job of ten beside a sync, times beside an ingest",
            beside_sync / beside_ingest,
            goal=1.0,
            most=True,
        ),
        Result("  first sync", PHOTOS / first, "pictures/s"),
        Result("  unchanged", PHOTOS / unchanged, "pictures/s"),
        Result("  1 % changed", PHOTOS / changed, "pictures/s"),
        Result("  a job of ten beside an ingest", beside_ingest, "s"),
        Result("  a job of ten beside a sync", beside_sync, "s"),
    ]


def _waits(lists: Lists, start: Callable[[], str]) -> float:
    """Return the median seconds of small jobs, one after the other, while a large job runs."""
    large = start()
    found = []
    for place in range(SMALL_JOBS):
        urls = list(lists.urls[place * SMALL : (place + 1) * SMALL])
        small = lists.client.ingest_urls(urls, collection=f"small-{large}")
        found.append(seconds_of(lists.client.wait(small.job_id), {INDEXED: SMALL}))
    if lists.client.job(large).finished:
        raise RuntimeError("the large job had ended before the small ones")
    lists.client.cancel(large)
    return statistics.median(found)
