"""One job of URLs, timed."""

from collections.abc import Iterable

from api.client import Client
from benchmarks.results import wall_seconds
from shared.models import DEFAULT_COLLECTION, ItemState


def ingest_rate(client: Client, urls: Iterable[str], collection: str = DEFAULT_COLLECTION) -> float:
    """Pictures a second from the POST to the job's end, when each is searchable; all must be new there."""
    every = list(urls)
    counts = {}

    def ingest() -> None:
        job = client.wait(client.ingest_urls(every, collection=collection).job_id)
        counts.update(job.counts)

    seconds = wall_seconds(ingest)
    if counts[ItemState.INDEXED] != len(every):
        raise RuntimeError(f"not every picture was indexed: {counts}")
    return len(every) / seconds
