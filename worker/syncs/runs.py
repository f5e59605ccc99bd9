"""The record of a sync, which outlives its job."""

import time

from shared.models import Claim, ItemState, Job, JobStatus
from shared.services import Services
from shared.sources.definition import Run
from shared.sources.store import add_run

WITHHELD = "too_many_deletions"


def record_run(services: Services, claim: Claim, failed: str | None = None) -> None:
    """Keep what a sync came to, once all its items have; `failed` says why there was no listing."""
    job = services.ledger.get(claim.chunk.job_id)
    withheld = sum(note.count for note in job.notes if note.code == WITHHELD)
    status = JobStatus.FAILED if failed else _status(job, withheld)
    counts = {str(state): count for state, count in job.counts.items()}
    run = Run(
        job_id=job.job_id,
        status=status,
        dry_run=bool(claim.options["dry_run"]),
        started_at=job.started_at or job.created_at,
        finished_at=job.finished_at or time.time(),
        counts=counts,
        withheld=withheld,
        detail=failed,
    )
    add_run(services.blobs, claim.options["source"], run)


def _status(job: Job, withheld: int) -> JobStatus:
    """Return what the job's will be, which ends after its run was recorded."""
    if job.status is JobStatus.CANCELLED:
        return job.status
    failed = job.counts[ItemState.FAILED]
    if failed and failed == job.total:
        return JobStatus.FAILED
    return JobStatus.PARTIAL if failed or withheld else JobStatus.SUCCEEDED
