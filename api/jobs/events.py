"""A job's status as Server-Sent Events."""

from collections.abc import Iterator
from time import monotonic, sleep

from flask import Response

from api.http import concurrency
from api.jobs.answers import job_answer
from shared.errors import JobNotFound, Unavailable
from shared.ledger.ledger import Ledger
from shared.models import Job

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
STREAM_SECONDS = 600.0
RECONNECT_MS = 2000


def respond(ledger: Ledger, job_id: str) -> Response:
    """Stream a job's changes. Raises JobNotFound, and Unavailable when too many streams are open."""
    ledger.get(job_id)
    release = concurrency.take("event streams")
    response = Response(_events(ledger, job_id), mimetype="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    # Not the generator's business: one that is closed before its first step never runs its `finally`.
    response.call_on_close(release)
    return response


def _events(ledger: Ledger, job_id: str) -> Iterator[str]:
    shown: object = None
    started = sent_at = monotonic()
    yield f"retry: {RECONNECT_MS}\n\n"
    while monotonic() - started < STREAM_SECONDS:
        try:
            job = ledger.get(job_id)
        except JobNotFound:
            return
        except Unavailable:
            job = None
        if job is not None and (state := _state(job)) != shown:
            shown, sent_at = state, monotonic()
            yield _event("status", job)
        if job is not None and job.finished_at is not None:
            yield _event("end", job)
            return
        if monotonic() - sent_at > HEARTBEAT_SECONDS:
            sent_at = monotonic()
            yield ": heartbeat\n\n"
        sleep(POLL_SECONDS)


def _state(job: Job) -> object:
    waits = job.retrying and (job.retrying.items, job.retrying.attempt)
    return job.status, job.total, job.counts, job.errors, waits


def _event(name: str, job: Job) -> str:
    return f"event: {name}\ndata: {job_answer(job).model_dump_json()}\n\n"
