"""Sources: what collections are kept in step with."""

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from flask import Response, request, url_for

from api.context import services
from api.http import auth
from api.http.auth import requires
from api.http.openapi import component, make_blueprint, string_headers
from api.http.problems import parse, refuse
from api.jobs.answers import accepted
from api.jobs.ingest import CALLBACK_CHECK_SECONDS, check_options, digest_of
from api.jobs.requests import JobHeaders
from api.sources.answers import source_answer
from api.sources.requests import (
    DefinedPath,
    SourceDeleteQuery,
    SourcePath,
    SourceRequest,
    SourcesQuery,
    SyncRequest,
    seconds_of,
)
from image_search import models
from image_search.models.jobs import JOB_EXAMPLE
from shared.errors import Conflict, InvalidRequest, ItemError, SourceExists, SourceNotFound, SyncRunning
from shared.services import Services
from shared.sources import store
from shared.sources.definition import Source
from shared.sources.permission import canonical, check_location
from shared.sources.syncs import start_sync
from shared.urls.redaction import redacted

blueprint = make_blueprint("sources", __name__)

_CREATED = {
    "description": "The source was defined anew.",
    "headers": string_headers({"Location": "The source."}),
    "content": {"application/json": component(blueprint, models.Source)},
}
_SYNC_BODY = {"content": {"application/json": component(blueprint, SyncRequest)}}
_JOB = JOB_EXAMPLE | {
    "kind": "sync",
    "status": "queued",
    "collection": "shop",
    "name": "shop-feed",
    "origin": "source",
    "made_of": "shop-feed",
    "total": 0,
    "counts": dict.fromkeys([*JOB_EXAMPLE["counts"], "unchanged", "updated", "removed"], 0),
    "progress": 0.0,
    **dict.fromkeys(("rate_per_s", "eta_s", "started_at", "retrying")),
    **{name: [] for name in ("notes", "failures", "errors")},
}


def _accepted_response(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": string_headers({"Location": "The job."}),
        "content": {"application/json": component(blueprint, models.Job) | {"example": _JOB}},
    }


@blueprint.put("/v1/sources/<name>", summary="Define a source", responses={200: models.Source, 201: _CREATED})
@requires("admin")
def put_source(path: DefinedPath, body: SourceRequest) -> Response:
    """Define a source, or define it otherwise: a sync that runs goes on as it began.

    Nothing is read yet; the first sync is the one that is asked for, or `every` from now. `from` and
    `collection` of a source that is there cannot be changed: `409 source_exists`. Credentials do not belong
    into `from`: those for buckets are the workers' (`AWS_*`, say), those for web servers in FETCH_HEADERS;
    a token in a URL's query is kept, not shown, and can be changed.

    At most 1,000 sources.
    """
    parts = services()
    parts.ledger.ping()  # so that nothing is stored that cannot be scheduled
    source = _checked(parts, path.name, body)
    known = _known(parts, source)
    if known is None:
        store.new_source(parts.blobs, source)
    else:
        source = replace(source, created_at=known.created_at)
        if source.location == redacted(known.location):  # as GET shows it
            source = replace(source, location=known.location)
        if known.callback_url and source.callback_url == redacted(known.callback_url):
            source = replace(source, callback_url=known.callback_url)
        store.put_source(parts.blobs, source)
    if source.every_s is None:
        parts.ledger.sources.unschedule(source.name)
    elif known is None or known.every_s != source.every_s:
        parts.ledger.sources.schedule(source.name, time.time() + source.every_s)
    if known is not None:
        return _json(_described(parts, source))
    location = url_for("sources.get_source", name=source.name)
    return _json(_described(parts, source), 201, {"Location": location})


def _checked(parts: Services, name: str, given: SourceRequest) -> Source:
    """Return the source that a request defines. Raises InvalidRequest."""
    check_location(parts.settings, given.from_)
    location = canonical(given.from_)
    options = check_options(parts, given.collection, given.callback_url, None)
    source = Source(
        name=name,
        location=location,
        collection=options.collection,
        every_s=None if given.every is None else seconds_of(given.every),
        every=given.every,
        delete_missing=given.delete_missing,
        max_delete_share=given.max_delete_share,
        refetch=given.refetch,
        callback_url=options.callback_url,
        table=given.table,
        made_by=options.made_by,
        created_at=time.time(),
    )
    if source.kind != "url":
        refuse(
            "A bucket or folder is no table.",
            ({"pointer": f"/{name}", "message": "is for feeds alone"} for name in given.table),
        )
        return source
    try:
        parts.downloader.check(location, CALLBACK_CHECK_SECONDS)
    except ItemError as error:
        raise InvalidRequest(f"`from` cannot be used: {error.detail}", code=error.code).at("/from") from None
    return source


def _known(parts: Services, source: Source) -> Source | None:
    """Return the source of this name that is there. Raises SourceExists where that is another."""
    try:
        known = store.get_source(parts.blobs, source.name)
    except SourceNotFound:
        return None
    if known.removing:
        raise SourceExists(f"The source {known.name!r} is being deleted with its pictures: wait for its end.")
    # A token that the URL may have is not shown, and may be another one day: it is the same source.
    if redacted(source.location) != redacted(known.location):
        fault = f"reads from {redacted(known.location)}"
    elif source.collection != known.collection:
        fault = f"goes into the collection {known.collection!r}"
    else:
        return known
    raise SourceExists(
        f"The source {known.name!r} {fault}, which cannot be changed: choose another name for this one, or "
        "delete that one first."
    )


@blueprint.get("/v1/sources", summary="List sources", responses={200: models.SourcePage})
@requires("admin")
def list_sources(query: SourcesQuery) -> Response:
    """List sources by name, each with its next run and what the last one did."""
    parts = services()
    page, next_cursor = store.source_page(parts.blobs, query.cursor or "", query.limit)
    due = parts.ledger.sources.next_due([source.name for source, _ in page])
    return _json(
        models.SourcePage(
            sources=[
                source_answer(
                    source,
                    last_run,
                    next_due=due.get(source.name),
                    running_job=parts.ledger.sources.running(source.name),
                )
                for source, last_run in page
            ],
            next_cursor=next_cursor,
        )
    )


@blueprint.get("/v1/sources/<name>", summary="Get a source", responses={200: models.Source})
@requires("admin")
def get_source(path: SourcePath) -> Response:
    """Return a source with its latest runs, at most 20."""
    return _json(_described(services(), store.get_source(services().blobs, path.name)))


@blueprint.delete(
    "/v1/sources/<name>",
    summary="Delete a source",
    responses={
        202: _accepted_response("With `images=delete`: the job that removes its pictures, then the source."),
        204: None,
    },
)
@requires("admin")
def delete_source(path: SourcePath, query: SourceDeleteQuery) -> Response | tuple[str, int]:
    """Delete a source; its pictures stay as they are, or go by a job. 409 while a sync of it runs.

    That job takes this source from all that it has brought, `max_delete_share` or not, and what no other
    source, key or item has brought goes. The source is gone once it has ended; if it was cancelled or has
    failed, delete the source again.
    """
    parts = services()
    if not store.source_exists(parts.blobs, path.name):
        raise SourceNotFound(f"There is no source {path.name!r:.80}.")
    if running := parts.ledger.sources.running(path.name):
        raise SyncRunning(
            f"The sync {running} of this source is running: cancel it, or wait for its end, and delete the "
            "source then."
        )
    if query.images == "keep":
        parts.ledger.sources.unschedule(path.name)
        store.delete_source(parts.blobs, path.name)
        return "", 204
    return accepted(parts.ledger.get(_remove(parts, store.get_source(parts.blobs, path.name))))


def _remove(parts: Services, source: Source) -> str:
    """Start the job that removes a source with its pictures; return its id."""
    doomed = replace(source, removing=True)
    store.put_source(parts.blobs, doomed)  # first: the job, once it has ended, deletes it
    try:
        job_id = start_sync(parts, doomed, removing=True, made_by=auth.caller_id())
    except BaseException:
        with suppress(Exception):
            store.put_source(parts.blobs, source)
        raise
    parts.ledger.sources.unschedule(source.name)
    return job_id


@blueprint.post(
    "/v1/sources/<name>/sync",
    summary="Sync a source now",
    responses={202: _accepted_response("The job; follow it at its `Location`.")},
    openapi_extensions={"requestBody": _SYNC_BODY},
)
@requires("admin")
def sync_source(path: SourcePath, header: JobHeaders) -> Response:
    """Start a job of kind `sync`: bring what is new or changed, and take away what is gone.

    Its counts have `unchanged`, `updated` (metadata changed, the picture not) and `removed` besides. A
    listing that breaks off ends it `failed` before anything is removed; removals that would be more than
    `max_delete_share` are withheld, and it ends `partial`. 409 `sync_running` while one runs.
    """
    parts = services()
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    given = parse(SyncRequest, request.get_json() if has_body else {})
    options = check_options(parts, None, None, header.idempotency_key)
    digest = digest_of(["sync", path.name, given.dry_run, given.max_delete_share], options)
    key = options.idempotency_key
    job_id = parts.ledger.idempotent_job(key, digest) if key else None
    if job_id is None:
        source = store.get_source(parts.blobs, path.name)
        if source.removing:
            raise Conflict(f"The source {source.name!r} is being deleted with its pictures.")
        job_id = start_sync(
            parts,
            source,
            dry_run=given.dry_run,
            max_delete_share=given.max_delete_share,
            made_by=options.made_by,
            idempotency=(key, digest) if key else None,
        )
    return accepted(parts.ledger.get(job_id))


def _described(parts: Services, source: Source) -> models.Source:
    runs = store.runs(parts.blobs, source.name)
    return source_answer(
        source,
        next((run for run in runs if not run.dry_run), None),
        next_due=parts.ledger.sources.next_due([source.name]).get(source.name),
        running_job=parts.ledger.sources.running(source.name),
        runs=runs,
    )


def _json(
    model: models.Source | models.SourcePage, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    return Response(model.model_dump_json(), status, headers, mimetype="application/json")
