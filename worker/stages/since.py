"""The option `since` of a job: what its URLs brought in an earlier job, and what a 304 then means.

A picture that has not changed is not downloaded. It goes to the writer only if its item says anything of it
that the collection does not have.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from shared.errors import Unavailable
from shared.index.provenance import StoredImage
from shared.ledger.leases import JOIN_LEASE_SECONDS, renewing
from shared.models import Claim, Item, JobKind, MetadataValue
from shared.services import Services
from shared.storage.validators import Earlier, read_earlier
from shared.validation import nfc
from worker.recovery.lease import SUSPICIOUS_DELIVERIES
from worker.stages.url_join import give_up, join

WAIT_SECONDS = 5.0  # for another process to compare the lists; longer, and the slot is given to another chunk
NEW_SECONDS = 10.0
POLL_SECONDS = (0.01, 0.2)  # a comparison takes 0.1 s, or minutes

log = structlog.get_logger(__name__)


def earlier_of(services: Services, claim: Claim, lost: threading.Event | None = None) -> dict[int, Earlier]:
    """Return what the claim's items had in the earlier job, by index.

    Whoever comes first compares the lists. Raises Unavailable while somebody else does, while the body of the
    job is still being read, and once `lost` is set, as when the job was cancelled.
    """
    since = claim.options.get("since")
    if claim.kind is JobKind.SYNC:  # compared when the sync began
        found = read_earlier(services.blobs, claim.chunk.job_id, claim.first_item, claim.last_item)
    else:
        found = _found(services, claim, since, lost) if since else {}
    if not found or services.ledger.joins.is_oldest(claim.chunk.job_id, claim.collection):
        return found
    return {index: replace(one, unsettled=True) for index, one in found.items()}


def _found(services: Services, claim: Claim, since: str, lost: threading.Event | None) -> dict[int, Earlier]:
    job_id, joins = claim.chunk.job_id, services.ledger.joins
    until: float | None = None
    pause, longest = POLL_SECONDS
    while True:
        with suppress(KeyError):
            return read_earlier(services.blobs, job_id, claim.first_item, claim.last_item)
        if until is None:  # what a job that is not new waits for takes long, and other jobs need the slot
            age_s = time.time() - services.ledger.get(job_id).created_at
            until = time.monotonic() + (WAIT_SECONDS if age_s < NEW_SECONDS else 0.0)
        if joins.acquire(job_id, claim.token):
            with renewing(lambda: joins.renew(job_id, claim.token), JOIN_LEASE_SECONDS) as taken:
                try:
                    return _compared(services, claim, since, [taken] if lost is None else [taken, lost])
                finally:
                    joins.release(job_id, claim.token)
        if time.monotonic() > until:
            raise Unavailable(f"The job's list is being read, or compared with that of job {since}.")
        time.sleep(pause)
        pause = min(2 * pause, longest)


def _compared(
    services: Services, claim: Claim, since: str, ends: Sequence[threading.Event]
) -> dict[int, Earlier]:
    def check() -> None:
        if any(end.is_set() for end in ends):
            raise Unavailable("The job was cancelled, or another process compares its list now.")

    blobs, job_id = services.blobs, claim.chunk.job_id
    span = (claim.first_item, claim.last_item)
    with suppress(KeyError):  # by another, right before
        return read_earlier(blobs, job_id, *span)
    total = services.ledger.get(job_id).total
    if claim.deliveries >= SUSPICIOUS_DELIVERIES:  # it takes more memory or time than there is
        log.error("lists_not_compared", job_id=job_id, since=since, deliveries=claim.deliveries)
        give_up(blobs, job_id, total)
    else:
        join(blobs, job_id, total, since, check)
    return read_earlier(blobs, job_id, *span)


def adds_nothing(item: Item, stored: StoredImage, earlier: Earlier) -> bool:
    """Return whether the collection has all that the item says of its picture, and keeps it.

    Of several items with one picture or key the last one counts, and only the writer sees them all; so it is
    with what older jobs have still to change or delete. What an entry of a source says is kept by itself.
    """
    if item.of is not None:
        others = {*item.before} - {earlier.image_id}  # of which only the writer takes it away
        return not earlier.unsettled and not others and says_the_same(item, stored)
    if earlier.unsettled or (earlier.shared and (item.metadata or item.key is not None)):
        return False
    key = None if item.key is None else nfc(item.key)
    return any(one.source == item.source and one.key == key for one in stored.contributions) and all(
        _same(value, stored.image.metadata.get(name)) for name, value in item.metadata.items()
    )


def says_the_same(item: Item, stored: StoredImage) -> bool:
    """Return whether the item's source has said exactly this of the picture, by the same entry."""
    key = None if item.key is None else nfc(item.key)
    return any(
        (one.of, one.source, one.key) == (item.of, item.source, key)
        and one.metadata.keys() == item.metadata.keys()
        and all(_same(value, one.metadata[name]) for name, value in item.metadata.items())
        for one in stored.contributions
    )


def _same(one: MetadataValue, other: MetadataValue | None) -> bool:
    return type(one) is type(other) and one == other  # 1 is neither 1.0 nor True
