"""A job as its status shows it, the same in HTTP answers, event streams and callbacks."""

from dataclasses import asdict

from shared.models import ItemState, Job, JsonObject, Retrying
from shared.rfc3339 import rfc3339


def job_document(job: Job) -> JsonObject:
    """Return the JSON object of `GET /v1/jobs/{id}`; `progress` is the finished share, in [0, 1]."""
    still_open = job.counts[ItemState.PENDING] + job.counts[ItemState.FETCHED]
    return {
        "job_id": job.job_id,
        "kind": job.kind,
        "status": job.status,
        "collection": job.collection,
        **asdict(job.label),
        "total": job.total,
        "counts": dict(job.counts),
        "progress": round(1 - still_open / job.total, 4) if job.total else 0.0,
        "rate_per_s": None if job.rate_per_s is None else round(job.rate_per_s, 2),
        "eta_s": None if job.eta_s is None else round(job.eta_s, 1),
        "truncated": job.truncated,
        "created_at": rfc3339(job.created_at),
        "started_at": None if job.started_at is None else rfc3339(job.started_at),
        "finished_at": None if job.finished_at is None else rfc3339(job.finished_at),
        "retrying": None if job.retrying is None else _retrying(job.retrying),
        "notes": [asdict(note) for note in job.notes],
        "failures": [asdict(failure) for failure in job.failures],
        "errors": [asdict(error) for error in job.errors],
        "result": job.result,
    }


def _retrying(retrying: Retrying) -> JsonObject:
    return {**asdict(retrying), "in_s": round(retrying.in_s, 1)}
