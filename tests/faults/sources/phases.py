"""The phases of a sync, as they are seen from outside, and what makes each long enough to be met."""

import contextlib
import time
from collections.abc import Callable, Iterator

from redis.exceptions import RedisError

from shared.errors import ImageSearchError
from shared.ledger.ledger import BEGIN, FINAL
from shared.models import ItemState
from shared.storage.blobs import listing_key, log_prefix, source_prefix
from tests.faults.again import join_folders
from tests.faults.rig import JOB_SECONDS, Rig
from tests.faults.sources.catalogues import Bucket, Feed
from tests.faults.sources.synced import Synced
from worker.stages.changes import REMOVALS

Fault = Callable[[Rig], None]

FEED_SECONDS = 3.0  # that a listing takes which is to be met in its middle
CALL_SECONDS = 0.4  # of each call to Chroma
PIECE_SECONDS = 1.0  # of each piece of data that a bucket sends


def begun(source: Synced, phase: str, fault: Fault, start: Callable[[], str] | None = None) -> str:
    """Start a sync, or what `start` does, break something at a phase of it, and return the job's id."""
    reached = PHASES[phase](source)
    with _slow(source, phase):
        job_id = (start or source.start)()
        ledger = source.rig.ledger
        _until(lambda: reached(job_id) or ledger.get(job_id).finished_at)
        fault(source.rig)
    return job_id


@contextlib.contextmanager
def _slow(source: Synced, phase: str) -> Iterator[None]:
    rig, catalogue = source.rig, source.catalogue
    if isinstance(catalogue, Feed):
        catalogue.seconds = FEED_SECONDS if phase == "listing" else 0.0
    if isinstance(catalogue, Bucket):
        rig.bucket.proxy.delay_s = PIECE_SECONDS if phase == "listing" else 0.0
    rig.chroma.delay_s = CALL_SECONDS if phase in ("plan", "writing", "removals") else 0.0
    try:
        yield
    finally:
        rig.chroma.delay_s = 0.0
        if isinstance(catalogue, Feed):
            catalogue.seconds = 0.0
        if isinstance(catalogue, Bucket):
            rig.bucket.proxy.delay_s = 0.0


def _until(reached: Callable[[], object]) -> None:
    """Wait without sparing the cores, as some phases are short; not for ever: another fault may be about."""
    deadline = time.monotonic() + JOB_SECONDS / 4
    while time.monotonic() < deadline:
        with contextlib.suppress(RedisError, ImageSearchError):  # another fault
            if reached():
                return
        time.sleep(0.01)


def _payloads(rig: Rig, job_id: str) -> set[str]:
    """What the chunks of a job are to do that some worker is at."""
    return {one["payload"] for one in rig.chunks(job_id) if one.get("state") == "running"}


Reached = Callable[[str], object]


def _listing(source: Synced) -> Reached:
    catalogue = source.catalogue
    if isinstance(catalogue, Feed):
        before = catalogue.asked
        return lambda _: catalogue.asked > before
    return lambda job_id: BEGIN in _payloads(source.rig, job_id)


def _plan(source: Synced) -> Reached:
    """The comparison, or its end: Chroma, which is slow, is asked what it has of a bucket or folder."""
    blobs = source.rig.services.blobs
    return lambda job_id: blobs.exists(listing_key(job_id)) and join_folders(job_id)


def _fetching(source: Synced) -> Reached:
    ledger = source.rig.ledger
    return lambda job_id: ledger.get(job_id).counts[ItemState.FETCHED]


def _writing(source: Synced) -> Reached:
    blobs = source.rig.services.blobs
    return lambda job_id: any(job_id in key for key in blobs.list(log_prefix(source.name)))


def _removals(source: Synced) -> Reached:
    return lambda job_id: REMOVALS in _payloads(source.rig, job_id)


def _final(source: Synced) -> Reached:
    return lambda job_id: FINAL in _payloads(source.rig, job_id)


def _record(source: Synced) -> Reached:
    """The end of the final chunk: what was brought is written, the run and the job's end are not."""
    blobs, prefix = source.rig.services.blobs, source_prefix(source.name)
    before = blobs.modified_at(prefix)
    return lambda _: blobs.modified_at(prefix) != before


PHASES: dict[str, Callable[[Synced], Reached]] = {
    "listing": _listing,
    "plan": _plan,
    "fetching": _fetching,
    "writing": _writing,
    "removals": _removals,
    "final chunk": _final,
    "record": _record,
}
