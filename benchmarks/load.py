"""What a crowd costs: searches and status requests while a job runs, against those when nothing does."""

from pathlib import Path

from benchmarks.load_generator import POLL, SEARCH, STREAM, Tally, Users, simulate
from benchmarks.results import Result
from benchmarks.tiny import tiny_pictures
from image_search import Client
from shared.models import ItemState
from tests.stack import Stack, eventually

INDEXED_BEFORE = 2_000
POLLERS, STREAMERS, SEARCHERS = 180, 20, 20
IDLE_POLLERS = 10
JOB = 500_000  # more than any machine takes in while it is measured; then it is cancelled
IDLE_SECONDS = 30.0


def measure(work: Path, seconds: float) -> list[Result]:
    """`seconds` under load; the times of when it is idle are taken just before, from the same processes."""
    with (
        tiny_pictures() as address,
        Stack(work / "stack", MODEL="starter") as stack,
        Client(stack.url) as client,
    ):
        urls = [f"{address}/{number}.png" for number in range(INDEXED_BEFORE + JOB)]
        done = client.wait(client.ingest_urls(urls[:INDEXED_BEFORE]).job_id)
        searching = simulate(stack.url, Users(done.job_id, searchers=SEARCHERS), IDLE_SECONDS)
        polling = simulate(stack.url, Users(done.job_id, pollers=IDLE_POLLERS), IDLE_SECONDS)
        job_id = client.ingest_urls(urls[INDEXED_BEFORE:]).job_id
        eventually(lambda: client.job(job_id).counts[ItemState.INDEXED] > 0)
        before = client.job(job_id)
        users = Users(job_id, pollers=POLLERS, streamers=STREAMERS, searchers=SEARCHERS)
        loaded = simulate(stack.url, users, seconds)
        after = client.job(job_id)
        if after.status.finished:
            raise RuntimeError(f"the job ended before the measurement: {after.counts}")
        client.cancel(job_id)
    indexed = after.counts[ItemState.INDEXED] - before.counts[ItemState.INDEXED]
    return [
        *_answers(loaded),
        *_slowdown("search", SEARCH, searching, loaded),
        *_slowdown("job status", POLL, polling, loaded),
        Result("  pictures indexed meanwhile", indexed / seconds, "per second"),
        Result("  the users' own share of a core", loaded.core_share),
    ]


def _answers(loaded: Tally) -> list[Result]:
    """The cap's 503 for an event stream, and 429, are answers that a client is told to expect."""
    failed = {
        (kind, status): count
        for (kind, status), count in loaded.answers.items()
        if status not in (200, 429) and (kind, status) != (STREAM, 503)
    }
    total = loaded.answers.total()
    names = ", ".join(f"{kind} {status}" for kind, status in sorted(failed)) or "5xx, no answer, or other"
    return [
        Result(f"failed of {total:,} requests ({names})", sum(failed.values()), goal=0, most=True),
        *(
            Result(f"  {kind}: answers {status}", count)
            for (kind, status), count in sorted(loaded.answers.items())
        ),
    ]


def _slowdown(name: str, kind: str, idle: Tally, loaded: Tally) -> list[Result]:
    p50, p99 = (idle.percentile(kind, percent) for percent in (50, 99))
    loaded_p50, loaded_p99 = (loaded.percentile(kind, percent) for percent in (50, 99))
    return [
        Result(f"{name}: p99 under load, times p99 idle", loaded_p99 / p99),
        Result(f"{name}: p99 under load, times p50 idle", loaded_p99 / p50),
        Result(f"{name}: p50 under load, times p50 idle", loaded_p50 / p50),
        Result(f"  {name} idle, p50", p50, "ms"),
        Result(f"  {name} idle, p99", p99, "ms"),
        Result(f"  {name} under load, p50", loaded_p50, "ms"),
        Result(f"  {name} under load, p99", loaded_p99, "ms"),
    ]
