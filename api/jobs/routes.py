"""Jobs: making them, watching them, stopping and repeating them."""

import json
from codecs import BOM_UTF8
from collections.abc import Mapping
from itertools import groupby

from flask import Response, request
from pydantic import BaseModel

from api.context import services
from api.http.auth import requires
from api.http.openapi import component, make_blueprint, string_headers
from api.http.request_body import UPLOAD_SETTING, Body
from api.jobs import events, listing
from api.jobs.answers import accepted, item_answer, job_answer
from api.jobs.ingest import MAX_JSON_BYTES, check_options, ingest_json, ingest_lines, metadata_of_all
from api.jobs.multipart import ingest_multipart
from api.jobs.requests import ItemsQuery, JobForm, JobHeaders, JobPath, JobQuery, JobRequest, JobsQuery
from api.jobs.tables import ingest_table_body, refuse_table_options
from image_search import models
from image_search.models.jobs import JOB_EXAMPLE
from shared.errors import JobNotFound, UnsupportedMediaType
from shared.models import ItemState, Job, Label
from shared.services import Services
from shared.storage.manifest import SEGMENT_ITEMS, read_items, read_results
from shared.tracing.tracing import cause

STREAMED_TYPES = ("application/x-ndjson", "text/plain")
TABLE_TYPES = {
    "text/csv": "url,key,Product Name\nhttps://example.com/a.jpg,sku-1234,Boat\n",
    "text/tab-separated-values": "url\tkey\nhttps://example.com/a.jpg\tsku-1234\n",
    "application/jsonl": '{"url": "https://example.com/a.jpg", "key": "sku-1234", "price": 9.5}\n',
    "application/vnd.apache.parquet": "(bytes)",
}  # with an example of each
_HEAD_BYTES = 1024

blueprint = make_blueprint("jobs", __name__)

_BODY = {
    "required": True,
    "description": "Exactly one of the forms. A streamed body takes its options from the query string.",
    "content": {
        "application/json": component(blueprint, JobRequest),
        "application/x-ndjson": {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "one item object (`url`, `key`, `metadata`) a line",
            },
            "example": '{"url": "https://example.com/a.jpg", "key": "sku-1234"}\n',
        },
        "text/plain": {
            "schema": {"type": "string", "format": "binary", "description": "one URL a line"},
            "example": "https://example.com/a.jpg\nhttps://example.com/b.jpg\n",
        },
        **{
            media_type: {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "a table: one column has the URLs, the others become metadata",
                },
                "example": example,
            }
            for media_type, example in TABLE_TYPES.items()
        },
        "multipart/form-data": component(blueprint, JobForm),
    },
}
_EVENTS = {
    "description": "`status` events, each with the job as JSON, then one `end` event with the last.",
    "content": {
        "text/event-stream": {
            # Without a type: some readers take it for each event, others for the whole text.
            "schema": {
                "description": "Server-Sent Events: `event` is `status` or `end`, `data` a Job as JSON."
            },
            "example": f"event: status\ndata: {json.dumps(JOB_EXAMPLE)}\n\n",
        }
    },
}
_PREVIEWED = {
    "description": "With `preview`: what the table has, and what becomes of it.",
    "content": {"application/json": component(blueprint, models.TablePreview)},
}
_ACCEPTED = {
    "description": "The job was made, or the one that this Idempotency-Key made before.",
    "headers": string_headers({"Location": "The job."}),
    "content": {"application/json": component(blueprint, models.Job)},
}


@blueprint.post(
    "/v1/jobs",
    summary="Create a job that ingests pictures",
    responses={200: _PREVIEWED, 202: _ACCEPTED},
    openapi_extensions={"requestBody": _BODY},
)
@requires("ingest")
def create_job(query: JobQuery, header: JobHeaders) -> Response:
    """Take URLs or files and answer at once with a job that brings them into a collection.

    JSON: at most 100,000 items and 64 MiB. A stream of lines (NDJSON or plain text): at most 5,000,000, read
    as it comes; a malformed line among the first 1,024 refuses the request with a pointer to its number, a
    later one becomes a failed item. A body that breaks off ends as a job of what was read, `truncated`.

    A table (CSV, TSV, JSON lines, a JSON array of objects, Parquet) of at most 5,000,000 rows has the URLs in
    one column; the job's `notes` say what was changed or left out. With `preview` no job is made.

    With `on_near_duplicate=skip` a picture that is nearly one in the collection already is not added. With
    `since` a list that was sent before costs what has changed in it.
    """
    body = Body(request.environ, *_size_limit(request.mimetype))
    try:
        made = _ingest(query, header, body)
    finally:
        body.drain()
    return accepted(services().ledger.get(made)) if isinstance(made, str) else _json(made)


def _size_limit(media_type: str) -> tuple[int | None, str]:
    if media_type in STREAMED_TYPES:
        return None, ""
    most = services().settings.max_upload_bytes
    if media_type == "application/json" and most < MAX_JSON_BYTES:
        return MAX_JSON_BYTES, ""
    return most, UPLOAD_SETTING


def _ingest(query: JobQuery, header: JobHeaders, body: Body) -> str | models.TablePreview:
    """Return the id of the job that was made of the body, or the preview that was asked for."""
    parts = services()
    media_type = request.mimetype
    if media_type not in _BODY["content"]:  # type: ignore[operator]
        accepted = ", ".join(_BODY["content"])  # type: ignore[arg-type]
        raise UnsupportedMediaType(f"The body's Content-Type must be one of {accepted}.")
    parts.ledger.ping()  # so that nothing is stored for a job that cannot be made
    options = check_options(
        parts,
        query.collection,
        query.callback_url,
        header.idempotency_key,
        query.on_near_duplicate,
        since=query.since,
        label=query.over(Label(origin="api")),
        metadata=metadata_of_all(query.metadata) if query.metadata else {},
    )
    if media_type == "multipart/form-data":
        return ingest_multipart(parts, options, query, body, request.mimetype_params)
    if _is_table(media_type, query, body):
        body.limit_to(parts.settings.max_upload_bytes, UPLOAD_SETTING)
        return ingest_table_body(parts, options, query, body, media_type)
    refuse_table_options(query)
    if media_type in STREAMED_TYPES:
        return ingest_lines(parts, options, body, media_type)
    body.limit_to(MAX_JSON_BYTES)
    return ingest_json(parts, options, body.read_all())


def _is_table(media_type: str, query: JobQuery, body: Body) -> bool:
    """Tell a table, as a JSON array is one and a list of URLs to preview, from other bodies."""
    if media_type == "application/json":
        head = body.peek(_HEAD_BYTES).removeprefix(BOM_UTF8).replace(b"\0", b"")
        return head.lstrip(b" \t\r\n\xff\xfe")[:1] == b"["
    return media_type in TABLE_TYPES or (media_type == "text/plain" and query.preview is not None)


@blueprint.get("/v1/jobs", summary="List jobs", responses={200: models.JobPage})
@requires("ingest")
def list_jobs(query: JobsQuery) -> Response:
    """List jobs, newest first; with `grouped` those of one upload as one, whose counts are added up."""
    return _json(listing.list_jobs(services().ledger, query))


@blueprint.get("/v1/jobs/<job_id>", summary="Get a job's status", responses={200: models.Job})
@requires("ingest")
def get_job(path: JobPath) -> Response:
    """Return how far a job is, and its first 20 errors."""
    return _json(job_answer(services().ledger.get(path.job_id)))


@blueprint.delete("/v1/jobs/<job_id>", summary="Cancel a job", responses={200: models.Job})
@requires("ingest")
def cancel_job(path: JobPath) -> Response:
    """Cancel a job: what is not yet indexed becomes `cancelled`. 409 for a job that has finished."""
    return _json(job_answer(services().ledger.cancel(path.job_id)))


@blueprint.post("/v1/jobs/<job_id>/retry", summary="Retry a job's failed items", responses={202: _ACCEPTED})
@requires("ingest")
def retry_job(path: JobPath) -> Response:
    """Take the failed items once more, in the same job. 409 while it is running or when none failed."""
    job = services().ledger.retry(path.job_id, cause())
    services().dispatcher.pump()
    return accepted(job)


@blueprint.get("/v1/jobs/<job_id>/items", summary="List a job's items", responses={200: models.ItemPage})
@requires("ingest")
def list_job_items(path: JobPath, query: ItemsQuery) -> Response:
    """List every item with what became of it, in order; `status` leaves only those in that state."""
    parts = services()
    job = parts.ledger.get(path.job_id)
    start = int(query.cursor or 0)
    rows, next_start = parts.ledger.items(path.job_id, query.status, start, query.limit)
    return _json(
        models.ItemPage(
            items=_describe(parts, job, rows), next_cursor=None if next_start is None else str(next_start)
        )
    )


def _describe(parts: Services, job: Job, rows: list[tuple[int, ItemState]]) -> list[models.Item]:
    described: list[models.Item] = []
    # A page of failed items may be spread over the whole job: read only the manifest files that it touches.
    for _, group in groupby(rows, key=lambda row: row[0] // SEGMENT_ITEMS):
        segment = list(group)
        start, stop = segment[0][0], segment[-1][0] + 1
        try:
            items = read_items(parts.blobs, job.job_id, start, stop)
        except KeyError:
            raise JobNotFound(f"The items of job {job.job_id!r} are gone; finished jobs expire.") from None
        results = read_results(parts.blobs, job.job_id, job.chunk_size, start, stop)
        described += [
            item_answer(index, state, items[index - start].source, results.get(index))
            for index, state in segment
        ]
    return described


@blueprint.get(
    "/v1/jobs/<job_id>/events",
    summary="Follow a job by Server-Sent Events",
    responses={200: _EVENTS},
)
@requires("ingest")
def stream_job_events(path: JobPath) -> Response:
    """Stream the job's status whenever it changes, until it has finished; comments keep it alive.

    At most a quarter of a server's threads serve streams; past that 503 with `Retry-After`. A stream ends
    after 10 minutes, without an `end` event: connect again, as an EventSource does by itself.
    """
    return events.respond(services().ledger, path.job_id)


def _json(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(), status, headers, mimetype="application/json")
