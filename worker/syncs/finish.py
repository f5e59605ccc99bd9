"""The end of a sync: what the source has brought by now, for the next one to compare its listing with.

It runs also after a sync was cancelled, and may run twice: what it writes follows from what stood there and
from what became of the job's items, and from what it has written follows the same.
"""

from shared.models import Claim, ItemState, JobStatus
from shared.services import Services
from shared.sources.store import delete_source, source_exists
from worker.stages.transition import end_chunk
from worker.syncs.brought import write_brought
from worker.syncs.runs import WITHHELD, record_run


def finish(services: Services, claim: Claim) -> None:
    """Write what the source has brought and what the run came to; a source that was to go is then gone."""
    job, name = services.ledger.get(claim.chunk.job_id), claim.options["source"]
    withheld = next((note for note in job.notes if note.code == WITHHELD), None)
    went_well = job.status is not JobStatus.CANCELLED and not job.counts[ItemState.FAILED]
    if claim.options["removing"] and went_well:
        services.ledger.sources.unschedule(name)
        delete_source(services.blobs, name)
    elif source_exists(services.blobs, name):
        write_brought(services, job, name)
        record_run(
            services,
            claim,
            withheld=withheld.count if withheld else 0,
            detail=withheld.detail if withheld else None,
        )
    end_chunk(services, claim, [], complete=not withheld)
