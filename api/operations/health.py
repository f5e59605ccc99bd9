"""Health: whether the process lives, whether it can do its work, and its metrics."""

from typing import Literal

from flask import Response, jsonify
from pydantic import BaseModel, ConfigDict, Field

from api.context import context
from api.http.auth import requires
from api.http.openapi import make_blueprint
from api.http.problems import problem
from api.http.request_models import QueryModel
from image_search import models
from shared.metrics.page_server import CONTENT_TYPE

blueprint = make_blueprint("health", __name__, tag="operations")
_METRICS = {
    "schema": {"type": "string", "description": "Prometheus' text format, version 0.0.4"},
    "example": "# TYPE image_search_ledger_up gauge\nimage_search_ledger_up 1.0\n",
}


class ReadyQuery(QueryModel):
    purpose: Literal["search", "ingest"] = Field(
        "search", alias="for", description="503 when this cannot work"
    )


class Alive(BaseModel):
    """The process lives."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"] = "ok"


@blueprint.get("/healthz", summary="Check that the process is alive", responses={200: Alive})
def get_health() -> Response:
    """Answer 200 as long as the process serves at all."""
    return jsonify(Alive().model_dump())


@blueprint.get("/readyz", summary="Check that search works, or ingestion", responses={200: models.Readiness})
def get_readiness(query: ReadyQuery) -> Response:
    """Answer 200 when search works, proven by an encode; with `?for=ingest`, when jobs can be taken.

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
    summary="Get metrics for Prometheus",
    responses={200: {"description": "Metrics.", "content": {"text/plain": _METRICS}}},
)
@requires("metrics")
def get_metrics() -> Response:
    """Return what this server and the ledger count. Needs the scope `metrics` once a key exists."""
    return Response(context().metrics.render(), content_type=CONTENT_TYPE)
