"""One job of URLs, timed."""

import time
from collections.abc import Iterable
from datetime import datetime

from image_search import Client
from shared.models import DEFAULT_COLLECTION, ItemState


def ingest_rate(client: Client, urls: Iterable[str], collection: str = DEFAULT_COLLECTION) -> float:
    """Pictures per second from the POST to the job's end, when each is searchable; all must be new there."""
    every = list(urls)
    started = time.time()
    job = client.wait(client.ingest_urls(every, collection=collection).job_id)
    if job.counts[ItemState.INDEXED] != len(every) or job.finished_at is None:
        raise RuntimeError(f"not every picture was indexed: {job.counts}")
    return len(every) / (datetime.fromisoformat(job.finished_at).timestamp() - started)
