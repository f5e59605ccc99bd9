"""Whether the process lives, whether it can do its work, and its numbers."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any, Literal

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from api.context import context, services
from api.http.auth import requires
from api.http.metrics import CONTENT_TYPE
from api.http.problems import problem
from api.models.base import QueryModel
from api.models.health import Dependency, Readiness, Workers
from shared.embedding.encoder import Encoder
from shared.errors import ImageSearchError

CHECK_TIMEOUT_S = 4.0
CACHE_S = 1.0
PROOF_S = 10.0  # how long one encode proves that the encoder works

blueprint = APIBlueprint("health", __name__, abp_tags=[Tag(name="operations", description="Operations")])


class ReadyQuery(QueryModel):
    purpose: Literal["search", "ingest"] = Field(
        "search", alias="for", description="503 when this cannot work"
    )


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Probe:
    """The dependencies' states, asked for at once, within CHECK_TIMEOUT_S together, and kept for CACHE_S."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(max_workers=5, thread_name_prefix="probe")
        self._asked: dict[str, Future[Any]] = {}
        self._found: Readiness | None = None
        self._asked_at = 0.0
        self._proven_at = 0.0

    def look(self) -> Readiness:
        with self._lock:
            if self._found is None or time.monotonic() - self._asked_at > CACHE_S:
                self._found = self._ask()
                self._asked_at = time.monotonic()
            return self._found

    def _ask(self) -> Readiness:
        parts, loader = services(), context().loader
        checks: dict[str, Callable[[], Any]] = {
            "redis": parts.ledger.ping,
            "chroma": parts.index.ping,
            "blobs": lambda: parts.blobs.exists("deployment/model.json"),
            "model": lambda: self._prove_encode(loader.get()),
            "workers": parts.ledger.workers.seen,
        }
        for name, check in checks.items():
            # A check that hangs is not started again: it would take the others' threads.
            if name not in self._asked or self._asked[name].done():
                self._asked[name] = self._pool.submit(check)
        wait(self._asked.values(), CHECK_TIMEOUT_S)
        states = {name: _state(answer) for name, answer in self._asked.items()}
        slots = Counter[str]()
        if states.pop("workers").ok:
            for worker in self._asked["workers"].result():
                slots.update(dict.fromkeys(worker.queues, worker.slots))
        ready = states["chroma"].ok and states["model"].ok
        return Readiness(ready=ready, workers=Workers(**slots), **states)

    def _prove_encode(self, model: Encoder) -> None:
        if time.monotonic() - self._proven_at > PROOF_S:
            model.encode_texts(["a photo"])
            self._proven_at = time.monotonic()


def _state(answer: Future[Any]) -> Dependency:
    if not answer.done():
        return Dependency(ok=False, detail=f"no answer within {CHECK_TIMEOUT_S:g} s")
    error = answer.exception()
    if error is None:
        return Dependency(ok=True)
    return Dependency(
        ok=False, detail=error.detail if isinstance(error, ImageSearchError) else type(error).__name__
    )


@blueprint.get("/healthz", summary="The process is alive", responses={200: Alive})
def healthz() -> Response:
    """Answers 200 as long as the process serves at all."""
    return jsonify(Alive().model_dump())


@blueprint.get("/readyz", summary="Search works", responses={200: Readiness})
def readyz(query: ReadyQuery) -> Response:
    """200 when search works, proven by an encode; `?for=ingest`: when jobs can be taken.

    Else 503, a problem document with the same members.
    """
    found = context().probe.look()
    ready = found.ready if query.purpose == "search" else found.redis.ok and found.blobs.ok
    if ready:
        return jsonify({**found.model_dump(), "ready": True})
    what = "Search does not work" if query.purpose == "search" else "Jobs cannot be taken"
    detail = f"{what} now: see which dependency is not ok."
    members = {**found.model_dump(), "ready": False}
    return problem(503, "not_ready", "Not ready", detail, headers={"Retry-After": "5"}, **members)


@blueprint.get(
    "/metrics",
    summary="Prometheus metrics",
    responses={200: {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
@requires("admin")
def get_metrics() -> Response:
    """Requests, searches, queues and totals. Needs `admin` once a key exists."""
    return Response(context().metrics.render(), content_type=CONTENT_TYPE)
