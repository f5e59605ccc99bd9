"""The state of the system in one answer: what works, what waits, who works on it, what failed last."""

import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TypeVar

from flask import Response, jsonify

from api.collections.answers import collection_answer
from api.context import context, main_model, services
from api.http.auth import requires
from api.http.openapi import make_blueprint
from api.http.request_models import QueryModel
from api.operations.models import model_states
from image_search import models
from image_search.models.system import MAX_ERRORS, MAX_ERRORS_PER_JOB, NEWEST_JOBS
from shared.errors import ImageSearchError
from shared.job_document import job_document
from shared.ledger.ledger import Ledger
from shared.ledger.processes import slots_of
from shared.metrics.bottleneck import limit_of
from shared.rfc3339 import rfc3339

_DISTRIBUTIONS = ("image-search", "torch", "transformers", "chromadb", "celery")
T = TypeVar("T")

blueprint = make_blueprint("system", __name__, tag="operations")


class SystemQuery(QueryModel):
    """The query of `GET /v1/system`, which has no parameters."""


@blueprint.get("/v1/system", summary="Get the state of the system", responses={200: models.System})
@requires("ingest")
def get_system(query: SystemQuery) -> Response:
    """Return readiness, model, collections, queues, workers and the last errors, as far as known now.

    Needs `ingest`, as jobs do: the errors name what they were asked for.
    """
    parts, readiness = services(), context().probe.look()
    missing: dict[str, str] = {}

    def told(name: str, dependency: models.Dependency, read: Callable[[], T]) -> T | None:
        """Return what `read` finds, unless its dependency is down: a hanging one is not waited for."""
        try:
            if dependency.ok:
                return read()
            missing[name] = dependency.detail or "It cannot be had now."
        except ImageSearchError as error:
            missing[name] = error.detail
        return None

    collections = told(
        "collections", readiness.chroma, lambda: [collection_answer(i) for i in parts.index.collections()]
    )
    bound = {one.model: one.dimension for one in collections or []}
    work = told("jobs", readiness.redis, lambda: _work(parts.ledger))
    if work is None:
        missing["ingestion"] = missing["jobs"]
    answer = models.System(
        readiness=readiness,
        model=told("model", readiness.model, main_model),
        models=[one for one in model_states(bound) if one.state != "absent" or one.detail],
        collections=collections,
        jobs=work and work[0],
        ingestion=work and work[1],
        errors=told("errors", readiness.redis, lambda: _last_errors(parts.ledger)),
        versions=_versions(),
        missing=missing,
    )
    return jsonify(answer.model_dump())


def _work(ledger: Ledger) -> tuple[models.JobsState, models.Ingestion]:
    backlog, workers = ledger.workers.backlog(), ledger.workers.seen()
    limit = limit_of(backlog, slots_of(workers))
    jobs = models.JobsState(
        open=backlog.open_jobs,
        queues=[models.Queue.model_validate(queue, from_attributes=True) for queue in backlog.queues],
        workers=[
            models.Worker(**asdict(worker) | {"seen_at": rfc3339(worker.seen_at)})
            for worker in sorted(workers, key=lambda worker: worker.id)
        ],
    )
    return jobs, models.Ingestion(limited_by=limit.by, detail=limit.detail)


def _last_errors(ledger: Ledger) -> list[models.LastError]:
    jobs, _ = ledger.list_jobs(None, None, NEWEST_JOBS)
    found = (
        models.LastError(**error, job_id=job.job_id, created_at=rfc3339(job.created_at))
        for job in jobs
        for error in job_document(job)["errors"][:MAX_ERRORS_PER_JOB]
    )
    return list(islice(found, MAX_ERRORS))


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
