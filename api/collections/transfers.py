"""Transfers: exports, their download, imports, and reindexing with another model, as jobs for the workers."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain
from typing import IO, Any

from flask import Response, request

from api.collections.named_models import named_model
from api.collections.requests import (
    CollectionPath,
    ExportRequest,
    ImportQuery,
    ImportRequest,
    ReindexRequest,
)
from api.context import main_model, services
from api.http.auth import requires
from api.http.openapi import bytes_answer, component, make_blueprint, string_headers
from api.http.problems import parse
from api.http.request_body import UPLOAD_SETTING, Body
from api.jobs.answers import accepted
from api.jobs.ingest import Options, check_options, digest_of, discard, launch
from api.jobs.requests import JobHeaders, JobPath
from image_search import models
from image_search.models.jobs import JOB_EXAMPLE
from shared.errors import (
    CollectionNotFound,
    Conflict,
    InvalidRequest,
    JobRunning,
    ModelMismatch,
    NewerFormat,
    NotFound,
    UnsupportedMediaType,
)
from shared.index.collection import Collection
from shared.ledger.ledger import new_job_id
from shared.ledger.writer_lease import writing
from shared.models import Item, Job, JobKind, JobStatus, Stage
from shared.services import Services
from shared.storage import parquet
from shared.storage.blobs import export_prefix, rows_key, upload_key
from shared.storage.parquet import Header, Source

PARQUET = "application/vnd.apache.parquet"
# Items a chunk: a part of an export, and what an import hands to the writer at once.
CHUNK_ROWS = 1024
_READ_BYTES = 256 * 1024

blueprint = make_blueprint("transfers", __name__)


_COUNTS = {"pending": 60000, "fetched": 0, "indexed": 0, "duplicate": 0, "failed": 0, "cancelled": 0}
_EXAMPLE = JOB_EXAMPLE | {
    "kind": "export",
    "status": "queued",
    "total": 60000,
    "counts": _COUNTS,
    "progress": 0.0,
    "rate_per_s": None,
    "eta_s": None,
    "started_at": None,
    "errors": [],
}


def _accepted_response(example: dict[str, Any]) -> dict[str, Any]:
    content = component(blueprint, models.Job) | {"example": _EXAMPLE | example}
    return {
        "description": "The job; follow it at its `Location`.",
        "headers": string_headers({"Location": "The job."}),
        "content": {"application/json": content},
    }


_EXPORT_BODY = {"content": {"application/json": component(blueprint, ExportRequest)}}
_IMPORT_BODY = {
    "required": True,
    "content": {
        PARQUET: {"schema": {"type": "string", "format": "binary"}},
        "application/json": component(blueprint, ImportRequest),
    },
}
_REINDEX_BODY = {"required": True, "content": {"application/json": component(blueprint, ReindexRequest)}}
_SWITCHED = {
    "kind": "reindex",
    "status": "succeeded",
    "counts": _COUNTS | {"pending": 0, "indexed": 60000},
    "progress": 1.0,
    "started_at": "2026-11-24T13:20:51.310Z",
    "finished_at": "2026-11-24T13:51:00.000Z",
    "result": {
        "switched": True,
        "detail": "Switched to openai/clip-vit-large-patch14.",
    },
}
_FILE = bytes_answer(
    "One Parquet file, streamed.",
    PARQUET,
    headers={"Content-Disposition": "The collection's name as the file's."},
)


@blueprint.post(
    "/v1/collections/<name>/export",
    summary="Export a collection to Parquet",
    responses={202: _accepted_response({})},
    openapi_extensions={"requestBody": _EXPORT_BODY},
)
@requires("admin")
def export_collection(path: CollectionPath, header: JobHeaders) -> Response:
    """Start a job that writes the pictures that the collection has now, for `GET /v1/jobs/{id}/export`.

    One row per picture: `id`, `vector` (fixed-size list of float32), all that is known of it (times in
    seconds since the epoch, `metadata` as a JSON object in a string), and the WebP files that `include`
    names. The file's own metadata has under `image_search` the model, its fingerprint, the dimension and the
    format's version. A picture that is deleted before it is read is a failed item. The files expire with the
    job.
    """
    parts = services()
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    given = parse(ExportRequest, request.get_json()) if has_body else ExportRequest.model_validate({})
    options = _options(parts, path.name, given.callback_url, header)
    digest = digest_of(["export", given.include], options)
    if repeated := _repeated(parts, options, digest):
        return accepted(repeated)
    collection = parts.index.collection(path.name)
    if not collection.count():
        raise InvalidRequest(f"The collection {path.name!r} is empty: there is nothing to export.")
    pointer = collection.pointer
    head = Header(path.name, pointer.model, pointer.fingerprint, pointer.dimension)
    job_options = {"header": asdict(head), "include": sorted(set(given.include))}
    job: Any = {"chunk_size": CHUNK_ROWS, "kind": JobKind.EXPORT, "job_options": job_options}
    return _started(parts, options, digest, collection, **job)


@blueprint.get("/v1/jobs/<job_id>/export", summary="Download an export", responses={200: _FILE})
@requires("admin")
def download_export(path: JobPath) -> Response:
    """Return the Parquet file of an export job. 409 while it is running or when it was cancelled."""
    parts = services()
    job = _finished_export(parts, path.job_id)
    response = Response(_stream(parts, job.job_id), mimetype=PARQUET)
    response.headers["Content-Disposition"] = f'attachment; filename="{job.collection}.parquet"'
    return response


def _stream(parts: Services, job_id: str) -> Iterator[bytes]:
    keys = parts.blobs.list(export_prefix(job_id))
    pieces = parquet.joined(parts.blobs.open_read(key) for key in keys)
    first = next(pieces)  # trouble of the blob store is an answer of its own while it still can be
    return chain([first], pieces)


def _finished_export(parts: Services, job_id: str) -> Job:
    """Return a finished export job that has written something.

    Raises JobNotFound, NotFound for a job of another kind, Conflict for one that has written nothing.
    """
    job = parts.ledger.get(job_id)
    if job.kind is not JobKind.EXPORT:
        raise NotFound(f"Job {job_id} is no export, but an {job.kind}.")
    if not job.status.finished:
        raise JobRunning(f"The export {job_id} is still running; come back when it has finished.")
    if job.status not in (JobStatus.SUCCEEDED, JobStatus.PARTIAL):
        raise Conflict(f"The export {job_id} has {job.status} and has no file; export the collection again.")
    return job


@blueprint.post(
    "/v1/collections/<name>/import",
    summary="Import an exported collection",
    responses={202: _accepted_response({"kind": "import", "collection": "copy"})},
    openapi_extensions={"requestBody": _IMPORT_BODY},
)
@requires("admin")
def import_collection(path: CollectionPath, query: ImportQuery, header: JobHeaders) -> Response:
    """Start a job that brings the rows of a Parquet file into a collection, made if it does not exist.

    The file is the body, or the export job on this server that JSON names. It must be of the collection's
    model, for a new one the server's default, else `409 model_mismatch`; of the columns that an export has,
    else `422`. A row whose vector, metadata or another value breaks the rules is a failed item with its
    reason; a picture that is there already is `duplicate`.
    """
    parts = services()
    parts.ledger.ping()  # so that nothing is stored for a job that cannot be made
    if request.mimetype == "application/json":
        given = parse(ImportRequest, request.get_json())
        options = check_options(parts, path.name, given.callback_url, header.idempotency_key)
        keys = parts.blobs.list(export_prefix(_finished_export(parts, given.export).job_id))
        return accepted(_import(parts, options, new_job_id(), keys, given.export))
    if request.mimetype not in (PARQUET, "application/octet-stream"):
        raise UnsupportedMediaType(f"The body's Content-Type must be {PARQUET} or application/json.")
    options = check_options(parts, path.name, query.callback_url, header.idempotency_key)
    body = Body(request.environ, parts.settings.max_upload_bytes, UPLOAD_SETTING)
    job_id = new_job_id()
    try:
        key, digest, size = _receive(parts, job_id, body)
        return accepted(_import(parts, options, job_id, [key], digest, uploaded=size))
    except BaseException as error:
        discard(parts, job_id, after=error)
        raise
    finally:
        body.drain()


def _receive(parts: Services, job_id: str, body: Body) -> tuple[str, str, int]:
    """Store the body; return its key, its SHA-256 and its length in bytes."""
    key, digest, size = upload_key(job_id, 0), hashlib.sha256(), 0
    with parts.blobs.open_write(key) as file:
        while data := body.read(_READ_BYTES):
            digest.update(data)
            file.write(data)
            size += len(data)
    if body.truncated:
        raise InvalidRequest("The body broke off before its end; send the file again.")
    return key, digest.hexdigest(), size


def _import(
    parts: Services, options: Options, job_id: str, keys: list[str], content: str, *, uploaded: int = 0
) -> Job:
    """Check the files and start the job; `content` tells this request from another."""
    counts: list[tuple[str, int]] = []
    bound = _binding(parts, options.collection)
    for key in keys:
        with parts.blobs.open_read(key) as file:
            source = _opened(file)
        if not counts:
            _check_model(options.collection, source.header, bound)
        counts.append((key, sum(source.group_rows)))
    total = sum(count for _, count in counts)
    if not total:
        raise InvalidRequest("The file has no rows.")
    parts.blobs.put(rows_key(job_id), json.dumps(counts).encode())
    owner = launch(
        parts,
        options,
        job_id,
        (Item(source=f"row {number}") for number in range(total)),
        digest=digest_of(["import", content], options),
        uploaded=uploaded,
        chunk_size=CHUNK_ROWS,
        kind=JobKind.IMPORT,
        job_options={"model": bound.model, "fingerprint": bound.fingerprint},
    )
    return parts.ledger.get(owner)


def _opened(file: IO[bytes]) -> Source:
    try:
        return Source(file)
    except NewerFormat as newer:  # sent again, it is as new: the request's fault
        raise InvalidRequest(newer.detail) from None


def _binding(parts: Services, collection: str) -> Header:
    """Return the model that the collection is of, or would be made with."""
    with suppress(CollectionNotFound):
        pointer = parts.index.collection(collection).pointer
        return Header(collection, pointer.model, pointer.fingerprint, pointer.dimension)
    main = main_model()
    return Header(collection, main.name, main.fingerprint, main.dimension)


def _check_model(collection: str, header: Header, bound: Header) -> None:
    """Raise ModelMismatch unless the collection's model wrote the file."""
    if (header.fingerprint, header.dimension) == (bound.fingerprint, bound.dimension):
        return
    other = f"other weights named {bound.model}" if header.model == bound.model else bound.model
    raise ModelMismatch(
        f"The file was written with the model {header.model:.200}, the collection {collection!r} is of "
        f"{other}: import it into one of its model (`image-search collections create NAME --model "
        f"{header.model:.200}`), or run `image-search reindex` where the file comes from and export it again."
    )


@blueprint.post(
    "/v1/collections/<name>/reindex",
    summary="Encode a collection again, with another model",
    responses={202: _accepted_response(_SWITCHED)},
    openapi_extensions={"requestBody": _REINDEX_BODY},
)
@requires("admin")
def reindex_collection(path: CollectionPath, header: JobHeaders) -> Response:
    """Start a job that encodes what was kept of every picture with `model` and switches the collection to it.

    Searches and ingests go on with the old model until the switch, which is one write; what arrives or
    changes meanwhile is carried over. A picture of which nothing was kept (KEEP=none) is a failed item, and
    the collection is then switched only with `allow_missing`; `result` says whether it was. Every server
    loads the new model beside the old one before the switch, so that no search is lost and nothing is
    restarted. 409 if the collection is of that model already.
    """
    parts = services()
    given = parse(ReindexRequest, request.get_json())
    options = _options(parts, path.name, given.callback_url, header)
    digest = digest_of(["reindex", given.model, given.allow_missing], options)
    if repeated := _repeated(parts, options, digest):
        return accepted(repeated)
    collection = parts.index.collection(path.name)
    bound = named_model(parts.settings, given.model, anywhere=True)
    if bound.fingerprint == collection.pointer.fingerprint:
        raise Conflict(f"The collection {path.name!r} is of the model {given.model} already.")
    if not collection.count():
        raise InvalidRequest(f"The collection {path.name!r} is empty: delete it and create it anew.")
    _make_room(parts, path.name, bound.fingerprint)
    names = {"model": bound.name, "fingerprint": bound.fingerprint}
    parts.index.stage(path.name, **names, dimension=bound.dimension)
    bound.fetch()
    job_options = {**names, "allow_missing": given.allow_missing}
    job: Any = {"kind": JobKind.REINDEX, "job_options": job_options, "final_stage": Stage.ENCODE}
    return _started(parts, options, digest, collection, **job)


def _started(parts: Services, options: Options, digest: str, collection: Collection, **job: Any) -> Response:
    """Answer with a new job that has an item per picture of the collection; `job` goes to `launch`."""
    items = (Item(source=image_id) for image_id in collection.ids())
    job_id = launch(parts, options, new_job_id(), items, digest=digest, **job)
    return accepted(parts.ledger.get(job_id))


def _make_room(parts: Services, name: str, fingerprint: str) -> None:
    """Delete the shadow collections of other models, which a reindex that was given up has left."""
    try:
        parts.index.staged(name, fingerprint)
    except CollectionNotFound:
        with writing(parts.ledger.writer, parts.dispatcher.wake_writer):  # no switch to it meanwhile
            parts.index.unstage(name)


def _options(parts: Services, name: str, callback_url: str | None, header: JobHeaders) -> Options:
    """Check a job's options. A malformed `name` is left to fail as a collection that does not exist."""
    return replace(check_options(parts, None, callback_url, header.idempotency_key), collection=name)


def _repeated(parts: Services, options: Options, digest: str) -> Job | None:
    """Return the job that this request made before, whatever has become of the collection since."""
    if options.idempotency_key is None:
        return None
    job_id = parts.ledger.idempotent_job(options.idempotency_key, digest)
    return None if job_id is None else parts.ledger.get(job_id)
