"""Changes of many pictures as one job: deleting them, or merging into their metadata."""

import json
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar

from flask import Response, request
from pydantic import ValidationError

from api.context import open_collection, services
from api.http.auth import requires
from api.http.openapi import component, make_blueprint, string_headers
from api.http.problems import invalid_request, refuse
from api.http.request_body import Body, json_text
from api.http.request_models import MAX_ITEMS
from api.images.requests import PICTURE_ID, ImagesDelete, ImagesUpdate, Pictures
from api.jobs.answers import accepted
from api.jobs.ingest import MAX_JSON_BYTES, check_options, digest_of, launch
from api.jobs.requests import JobHeaders
from api.search.nsfw_filter import visible
from api.search.unknown_names import warnings_of
from image_search import models
from image_search.models.jobs import JOB_EXAMPLE
from shared.errors import FieldError, InvalidRequest
from shared.filters.conditions import Not, Where
from shared.filters.parsing import parse_where
from shared.index.collection import Collection
from shared.ledger.ledger import new_job_id
from shared.models import Item, JobKind, JsonObject, Label, Note, Stage
from shared.storage.blobs import change_key
from shared.validation import json_bytes, metadata_faults, nfc

CHUNK_ITEMS = 1_000  # what one write of Chroma takes well, and others wait for at most
CHUNKS = 16  # of an ingest, whose pictures are decoded, are one of changes
CHUNK_BYTES = 8 * 2**20  # of changes of metadata that are written at once
PAGE = 1_000
COUNTING_SECONDS = 10.0  # for which more matches than may be are counted

Given = TypeVar("Given", bound=Pictures)

blueprint = make_blueprint("changes", __name__, tag="images")

_BODIES = {
    model: {"required": True, "content": {"application/json": component(blueprint, model)}}
    for model in (ImagesDelete, ImagesUpdate)
}
_COUNTS = {"pending": 2, "fetched": 0, "failed": 0, "cancelled": 0, "unchanged": 0}


def _accepted_response(**example: Any) -> dict[str, Any]:
    shown = JOB_EXAMPLE | {"status": "queued", "total": 2, "progress": 0.0, "name": None, "origin": "api"}
    shown |= dict.fromkeys(("made_of", "rate_per_s", "eta_s", "started_at", "retrying"))
    shown |= {"notes": [], "failures": [], "errors": []} | example
    return {
        "description": "The job; follow it at its `Location`.",
        "headers": string_headers({"Location": "The job."}),
        "content": {"application/json": component(blueprint, models.Job) | {"example": shown}},
    }


@blueprint.post(
    "/v1/images/delete",
    summary="Delete many pictures",
    responses={202: _accepted_response(kind="delete", counts=_COUNTS | {"removed": 0})},
    openapi_extensions={"requestBody": _BODIES[ImagesDelete]},
)
@requires("ingest")
def delete_images(header: JobHeaders) -> Response:
    """Start a job that deletes pictures by `ids`, `keys` or `filters`, with their files.

    What is deleted is what was there when the job was made: pictures that are ingested after that stay. A key
    goes as by `DELETE /v1/images?key=`: its picture too, unless another key or an item without one has
    brought it. An item ends `removed`, or `unchanged` where there was nothing. `filters` that match every
    picture need `"all": true`; with `NSFW_MAX` set they leave out what is above that, unless they name
    `nsfw`.
    """
    return _start(JobKind.DELETE, ImagesDelete, header)


@blueprint.post(
    "/v1/images/update",
    summary="Change the metadata of many pictures",
    responses={202: _accepted_response(kind="update", counts=_COUNTS | {"updated": 0})},
    openapi_extensions={"requestBody": _BODIES[ImagesUpdate]},
)
@requires("ingest")
def update_images(header: JobHeaders) -> Response:
    """Start a job that merges `metadata` into that of pictures, by `ids`, `keys` or `filters` (RFC 7396).

    Each is changed as by `PATCH /v1/images/{id}`. An item ends `updated`, `unchanged` where its picture is
    not there or said the same already, `failed` where its picture would have too much metadata. `filters` are
    as for a deletion.
    """
    return _start(JobKind.UPDATE, ImagesUpdate, header)


def _start(kind: JobKind, model: type[Given], header: JobHeaders) -> Response:
    parts = services()
    body = Body(request.environ, MAX_JSON_BYTES)
    try:
        if name := next(iter(request.args), None):  # a dry run, or another collection, that it would not be
            detail = f"The query has `{name}`; what to change, where and how, is said in the body."
            raise InvalidRequest(detail).at(f"/{name}")
        given = _parsed(model, body)
    finally:
        body.drain()
    change = given.metadata if isinstance(given, ImagesUpdate) else {}
    where = _check(given, change, is_update=kind is JobKind.UPDATE)
    options = check_options(
        parts,
        given.collection,
        given.callback_url,
        header.idempotency_key,
        label=given.over(Label(origin="api")),
    )
    asked = [kind, given.ids, given.keys, given.filters, given.all, change, given.dry_run]
    digest = digest_of(asked, options)
    key = options.idempotency_key
    job_id = parts.ledger.idempotent_job(key, digest) if key else None
    if job_id is None:
        parts.ledger.ping()  # so that nothing is stored for a job that cannot be made
        items, notes = _items(given, where)
        job_id = new_job_id()
        if change:
            parts.blobs.put(change_key(job_id), json.dumps(change).encode())
        most = min(CHUNK_ITEMS, CHUNKS * parts.settings.chunk_size, CHUNK_BYTES // json_bytes(change))
        job_id = launch(
            parts,
            options,
            job_id,
            items,
            digest=digest,
            kind=kind,
            job_options={"dry_run": given.dry_run},
            chunk_size=max(1, most),
            final_stage=Stage.FETCH if given.dry_run else None,
            notes=notes,
        )
    return accepted(parts.ledger.get(job_id))


def _parsed(model: type[Given], body: Body) -> Given:
    if not request.is_json:
        request.get_json()  # refuses it in a sentence
    data = body.read_all()
    if body.truncated:
        raise InvalidRequest("The body broke off before its end.")
    try:
        return model.model_validate_json(json_text(data))
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8.") from None
    except ValidationError as error:
        if model is ImagesDelete and any(fault["loc"] == ("metadata",) for fault in error.errors()):
            detail = "A deletion takes no metadata; POST /v1/images/update changes that."
            raise InvalidRequest(detail).at("/metadata") from None
        raise invalid_request(error) from None


def _check(given: Pictures, change: JsonObject, *, is_update: bool) -> Where | None:
    """Return the filters' condition, if they say which pictures. Raises InvalidRequest."""
    named = [name for name in ("ids", "keys", "filters") if getattr(given, name) is not None]
    if len(named) != 1:
        said = f"not {' and '.join(f'`{name}`' for name in named)}" if named else "it has none"
        raise InvalidRequest(f"The body must have exactly one of `ids`, `keys` and `filters`: {said}.")
    if given.all and given.filters is None:
        raise InvalidRequest("`all` goes with `filters`; ids and keys name each picture.").at("/all")
    for name, values in (("ids", given.ids), ("keys", given.keys)):
        if values is not None and not values:
            raise InvalidRequest(f"`{name}` is empty: name at least one picture.").at(f"/{name}")
        if values is not None and len(values) > MAX_ITEMS:
            raise InvalidRequest(
                f"`{name}` has {len(values):,} entries; one job takes at most {MAX_ITEMS:,}: send several."
            ).at(f"/{name}")
    refuse("Some ids are no picture's.", _id_faults(given.ids or ()))
    if is_update and not change:
        raise InvalidRequest("`metadata` is empty: say what is to change.").at("/metadata")
    set_to = {name: value for name, value in change.items() if value is not None}
    names = metadata_faults({name: "" for name in change if name not in set_to}, "metadata")
    refuse("The metadata is malformed.", chain(metadata_faults(set_to, "metadata"), names))
    if given.filters is None:
        return None
    if not given.filters and not given.all:
        raise _not_meant("`filters` are empty, and so match every picture")
    return parse_where(given.filters)


def _id_faults(ids: Sequence[str]) -> Iterable[FieldError]:
    for place, one in enumerate(ids):
        if not PICTURE_ID.fullmatch(one):
            message = "is no picture's id: that is 64 hexadecimal digits, in lower case"
            yield {"pointer": f"/ids/{place}", "message": message}


def _not_meant(what: str) -> InvalidRequest:
    return InvalidRequest(f'{what}: say that this is meant by `"all": true`.').at("/all")


def _items(given: Pictures, where: Where | None) -> tuple[list[Item], list[Note]]:
    """Return an item for each picture or key, and what there is to say of them. Raises InvalidRequest."""
    collection = open_collection(given.collection)
    named: Sequence[str] = given.ids or given.keys or ()
    notes: list[Note] = []
    if where is not None and collection is not None:
        named = _matching(collection, where, meant=given.all)
        warnings = [] if named else warnings_of(where, (), (), collection, is_full=False)
        notes = [Note("no_match", one.removeprefix("/filters: "), 1) for one in warnings]
    if given.keys is None:
        items = [Item(source=image_id) for image_id in dict.fromkeys(named)]
    else:
        items = [Item(source=key, key=key) for key in dict.fromkeys(map(nfc, named))]
    repeated = len(named) - len(items)
    if repeated:
        notes.append(Note("repeated", "Named more than once, and taken once.", repeated))
    return items, notes


def _matching(collection: Collection, where: Where, *, meant: bool) -> list[str]:
    """Return the ids of what matches. Raises InvalidRequest for too many, and for all unless it is meant."""
    seen = visible(where)
    found: list[str] = []
    count, after, until = 0, "", time.monotonic() + COUNTING_SECONDS
    while True:
        page = collection.page(after, PAGE, seen)
        count += len(page)
        if count <= MAX_ITEMS:
            found += [image.id for image in page]
            until = time.monotonic() + COUNTING_SECONDS
        if len(page) < PAGE or time.monotonic() > until:
            break
        after = page[-1].id
    if count > MAX_ITEMS:
        at_least = "" if len(page) < PAGE else "at least "
        raise InvalidRequest(
            f"The filters match {at_least}{count:,} pictures; one job changes at most {MAX_ITEMS:,}: narrow "
            "them (by `created_at`, say), and send a job for each part."
        ).at("/filters")
    if found and not meant and not collection.page("", 1, visible(Not(where))):
        raise _not_meant(f"`filters` match every picture of the collection, {count:,}")
    return found
