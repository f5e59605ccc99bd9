"""The list of jobs: each by itself, or those of one upload or command as one."""

from functools import partial

from api.jobs.answers import job_answer
from api.jobs.requests import JobsQuery
from image_search import models
from image_search.models.jobs import combined
from shared.ledger.ledger import Ledger
from shared.models import MAX_GROUP_JOBS, Job


def list_jobs(ledger: Ledger, query: JobsQuery) -> models.JobPage:
    """List jobs, newest first, as the query asks for them."""
    matching = partial(ledger.list_jobs, collection=query.collection, group=query.group)
    if not query.grouped:
        jobs, cursor = matching(query.status, query.cursor, query.limit)
        return models.JobPage(jobs=[job_answer(job) for job in jobs], next_cursor=cursor)
    rows: list[models.Job] = []
    parts: dict[tuple[str | None, str], list[Job]] = {}

    def begins_a_row(job: Job) -> bool:
        """Add the row that a job begins, which is that of the newest of its group in its collection."""
        group, collection = job.label.group, job.collection
        if group is None:
            own = [job]
        else:
            if (group, collection) not in parts:
                found, _ = ledger.list_jobs(None, None, MAX_GROUP_JOBS, collection=collection, group=group)
                parts[group, collection] = found
            own = parts[group, collection] or [job]
        if own[0].job_id != job.job_id:
            return False
        row = combined([job_answer(one) for one in reversed(own)])
        row.job_id = own[-1].job_id
        if query.status not in (None, row.status):
            return False
        rows.append(row)
        return True

    _, cursor = matching(None, query.cursor, query.limit, wanted=begins_a_row)
    return models.JobPage(jobs=rows, next_cursor=cursor)
