"""The record of a sync, which outlives its job."""

import time

from shared.models import Claim, ItemState, Job, JobStatus
from shared.services import Services
from shared.sources.definition import Run
from shared.sources.store import add_run

WITHHELD = "too_many_deletions"


def record_run(
    services: Services,
    claim: Claim,
    status: JobStatus | None = None,
    *,
    withheld: int = 0,
    detail: str | None = None,
) -> None:
    """Keep what a sync came to; its `status` follows from its items, where there are some."""
    job = services.ledger.get(claim.chunk.job_id)
    run = Run(
        job_id=job.job_id,
        status=status or _status(job, withheld),
        dry_run=claim.options["dry_run"],
        started_at=job.created_at,  # the same, however often it is recorded
        finished_at=job.finished_at or time.time(),
        counts={str(state): count for state, count in job.counts.items()},
        withheld=withheld,
        detail=detail,
    )
    add_run(services.blobs, claim.options["source"], run)


def _status(job: Job, withheld: int) -> JobStatus:
    """Return what the job's status will be: it ends after its run was recorded."""
    if job.status is JobStatus.CANCELLED:
        return job.status
    failed = job.counts[ItemState.FAILED]
    if failed and failed == job.total:
        return JobStatus.FAILED
    return JobStatus.PARTIAL if failed or withheld else JobStatus.SUCCEEDED
