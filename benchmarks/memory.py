"""Whether memory stays flat while many tiny pictures go in: that of every role's processes, and of Redis."""

import time
from pathlib import Path

import numpy as np
import redis
from numpy.typing import NDArray

from benchmarks.processes import anonymous_mib
from benchmarks.results import Result
from benchmarks.tiny import tiny_pictures
from image_search import Client, Job
from shared.ledger.scripts import PREFIX
from shared.models import ItemState
from tests.stack import Stack

SAMPLE_SECONDS = 2.0
FIRST = 500  # pictures before the first sample: clients connect and modules load at their first use
POINTS = {"25 %": 0.25, "50 %": 0.5, "75 %": 0.75, "the end": 1.0}
WARM, HALF, END = 0.25, 0.5, 1.0
NEAREST = 0.1  # a point's value is the median of this share of all samples, those nearest to it
FLAT = 10.0  # per cent of growth over the job's second half, when everything has been at work for long
ROLES = ("api", "fetch", "encode", "index", "sweep")
REDIS, CHROMA = "redis", "chroma"  # Chroma holds the vectors, so it must grow
# What a finished job leaves in Redis until JOB_TTL_DAYS: a byte of state an item, for its list of items and a
# retry, in a string that Redis lets grow by doubling, up to the allocator's next size; and the job's hash.
JOB_BYTES = 2.5

Series = NDArray[np.float64]


def measure(work: Path, items: int) -> list[Result]:
    """One job of `items` pictures; growth is by the number of items that have ended."""
    with (
        tiny_pictures() as address,
        Stack(work / "stack", MODEL="starter", KEEP="none") as stack,
        Client(stack.url) as client,
    ):
        watch = _Watch(stack)
        client.wait(client.ingest_urls(f"{address}/first/{number}.png" for number in range(FIRST)).job_id)
        watch.sample(0)
        job = client.ingest_urls(f"{address}/{number}.png" for number in range(items))
        job = client.wait(job.job_id, watch.look)
        watch.sample(items)
        kept = watch.kept_bytes(job.job_id)
    if job.counts[ItemState.INDEXED] != items:
        raise RuntimeError(f"not every picture was indexed: {job.counts}")
    share = np.array(watch.done) / items
    results = [_growth(name, share, np.array(values), items) for name, values in watch.mib.items()]
    return [
        *(result for grown in results for result in grown),
        Result("a finished job's Redis, bytes per item", kept / items, goal=JOB_BYTES, most=True),
        Result("  pictures indexed", job.rate_per_s or 0.0, "per second"),
    ]


class _Watch:
    """`mib`: samples of each role and of Redis, each taken when that many items were `done`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._redis = redis.Redis.from_url(stack.env["IMAGE_SEARCH_REDIS_URL"])
        self._due_at = 0.0
        self.done: list[int] = []
        self.mib: dict[str, list[float]] = {name: [] for name in (*ROLES, CHROMA, REDIS)}

    def look(self, job: Job) -> None:
        """Takes a sample when one is due."""
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + SAMPLE_SECONDS
            self.sample(job.total - job.counts[ItemState.PENDING] - job.counts[ItemState.FETCHED])

    def sample(self, done: int) -> None:
        self.done.append(done)
        for role in (*ROLES, CHROMA):
            self.mib[role].append(sum(map(anonymous_mib, self._stack.processes(role))))
        self.mib[REDIS].append(self._redis.info("memory")["used_memory"] / 2**20)

    def kept_bytes(self, job_id: str) -> int:
        keys = (f"{PREFIX}{name}:{job_id}" for name in ("job", "states", "errors"))
        return sum(self._redis.memory_usage(key, samples=0) or 0 for key in keys)


def _growth(name: str, share: Series, mib: Series, items: int) -> list[Result]:
    nearest = max(3, round(NEAREST * len(mib)))

    def at(point: float) -> float:
        return float(np.median(mib[np.argsort(np.abs(share - point))[:nearest]]))

    warm = share >= WARM
    slope = np.polyfit(share[warm] * items / 10_000, mib[warm], 1)[0]
    half = 100 * (at(END) / at(HALF) - 1)
    goal = None if name == CHROMA else FLAT
    return [
        Result(f"{name}: growth over the second half", half, "%", goal=goal, most=True),
        Result(f"  {name} after the first pictures", float(mib[0]), "MiB"),
        *(Result(f"  {name} at {where}", at(point), "MiB") for where, point in POINTS.items()),
        Result(f"  {name}, growth per 10,000 items once warm", float(slope), "MiB"),
    ]
