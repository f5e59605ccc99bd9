"""Making a job of the body of POST /v1/jobs: JSON and streamed lines; beside it multipart.py, tables.py."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from api.http import auth
from api.http.problems import field_errors, refuse
from api.http.request_body import MAX_LINE_BYTES, Body, json_text, read_lines
from api.jobs.requests import ItemRequest, JobRequest
from image_search.models.jobs import MAX_ERRORS
from shared.errors import (
    FieldError,
    InvalidRequest,
    ItemError,
    JobFinished,
    JobNotFound,
    JobRunning,
    Unavailable,
)
from shared.ledger.connection import retry_while_unavailable
from shared.ledger.ledger import new_job_id
from shared.models import (
    COLLECTION_NAME,
    DEFAULT_COLLECTION,
    SHOWN_CHARS,
    Item,
    JobKind,
    JsonObject,
    Label,
    Metadata,
    Note,
    Stage,
    url_item,
)
from shared.services import Services
from shared.storage.blobs import job_prefix
from shared.storage.manifest import SEGMENT_ITEMS, ManifestWriter
from shared.tracing.tracing import cause
from shared.urls.redaction import redacted
from shared.validation import metadata_faults

MAX_JSON_BYTES = 64 * 2**20
MAX_LINES = 5_000_000
COMMIT_SECONDS = 2.0
CALLBACK_CHECK_SECONDS = 2.0  # a name server that hangs does not hold a thread for longer
LEDGER_RETRY_SECONDS = 30.0  # a long upload should not be lost to a restart
_ITEM = TypeAdapter(ItemRequest)


@dataclass(frozen=True, slots=True)
class Options:
    """The options that hold for the whole job; already checked."""

    collection: str
    callback_url: str | None
    idempotency_key: str | None
    on_near_duplicate: str = "keep"
    since: str | None = (
        None  # the earlier job; looked at once it is known that no other request made this one
    )
    label: Label = field(default_factory=Label)
    made_by: str = ""  # the id of the caller's API key, if he has one
    metadata: Metadata = field(default_factory=dict)  # under each item's own

    def applied(self, item: Item) -> Item:
        """Return the item with the options that concern each item."""
        if self.metadata:
            metadata = {**self.metadata, **item.metadata}
            faults = [fault["message"] for fault in metadata_faults(metadata, "metadata")]
            error = (
                f"invalid_url: The item's metadata, with that for all items, {faults[0]}."
                if faults
                else item.error
            )
            item = replace(item, metadata={} if faults else metadata, error=error)
        return replace(item, skip_near=True) if self.on_near_duplicate == "skip" else item


def check_options(
    services: Services,
    collection: str | None,
    callback_url: str | None,
    idempotency_key: str | None,
    on_near_duplicate: str | None = None,
    *,
    since: str | None = None,
    label: Label | None = None,
    metadata: Metadata | None = None,
) -> Options:
    """Check a job's options. Raises InvalidRequest for a malformed one or a forbidden callback."""
    collection = DEFAULT_COLLECTION if collection is None else collection
    if not COLLECTION_NAME.fullmatch(collection):
        message = "1 to 63 of letters, digits, `.`, `_`, `-`; the first and last a letter or digit"
        raise InvalidRequest(
            "The collection's name is malformed.", [{"pointer": "/collection", "message": message}]
        )
    if callback_url is not None:
        try:
            services.downloader.check(callback_url, CALLBACK_CHECK_SECONDS)
        except ItemError as error:
            fault: FieldError = {"pointer": "/callback_url", "message": error.detail}
            raise InvalidRequest(
                f"The callback_url cannot be used: {error.detail}", [fault], code=error.code
            ) from error
    if on_near_duplicate not in (None, "keep", "skip"):
        message = "must be `keep` or `skip`"
        raise InvalidRequest(
            f"on_near_duplicate {message}.", [{"pointer": "/on_near_duplicate", "message": message}]
        )
    return Options(
        collection,
        callback_url,
        idempotency_key,
        on_near_duplicate or "keep",
        since,
        label or Label(),
        auth.caller_id(),
        metadata or {},
    )


def _since_option(services: Services, options: Options) -> JsonObject:
    """Return the ledger's option for `since`; none without it.

    Raises InvalidRequest where it names no job that can be followed, and JobRunning.
    """
    if not options.since:
        return {}
    try:
        earlier = services.ledger.get(options.since)
    except JobNotFound:
        fault = f"there is no job {options.since!r:.80}; finished jobs expire. Send the list without `since`"
    else:
        if not earlier.status.finished:
            raise JobRunning(
                f"The job {earlier.job_id} that `since` names is still running: wait for its end."
            ).at("/since")
        if earlier.kind is JobKind.INGEST and earlier.collection == options.collection:
            return {"since": earlier.job_id}
        what = "an ingest" if earlier.kind is not JobKind.INGEST else f"of collection {options.collection}"
        fault = f"job {earlier.job_id} is not {what}: its kind is {earlier.kind}, of {earlier.collection}"
    raise InvalidRequest(f"The job that `since` names cannot be followed: {fault}.").at("/since")


def metadata_of_all(text: str) -> Metadata:
    """Parse the JSON object that a parameter or part `metadata` has for all items. Raises InvalidRequest."""
    try:
        given: Any = from_json(text.removeprefix("\ufeff"))
    except ValueError:
        raise InvalidRequest("The metadata is malformed: not JSON.").at("/metadata") from None
    if not isinstance(given, dict):
        raise InvalidRequest("The metadata must be a JSON object.").at("/metadata")
    refuse("Some metadata is malformed.", metadata_faults(given, "metadata"))
    return given


def ingest_json(services: Services, defaults: Options, data: bytes) -> str:
    """Make a job of a JSON body's items; return its id. `defaults` hold where the body does not say."""
    try:
        request = JobRequest.model_validate_json(json_text(data))
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8.") from None
    except ValidationError as error:
        raise InvalidRequest("The body does not describe a job.", field_errors(error)) from None
    if (request.items is None) == (request.urls is None):
        raise InvalidRequest("The body must have exactly one of `items` and `urls`.")
    given = [ItemRequest.model_construct(url=url) for url in request.urls] if request.urls else request.items
    if not given:
        name = "items" if request.urls is None else "urls"
        fault: FieldError = {"pointer": f"/{name}", "message": "must have at least one item"}
        raise InvalidRequest(f"The request has no items: `{name}` {fault['message']}.", [fault])
    refuse(
        "Some metadata is malformed.",
        (
            fault
            for index, item in enumerate(given)
            for fault in metadata_faults(item.metadata or {}, "items", index, "metadata")
        ),
    )
    options = replace(defaults, label=request.over(defaults.label))
    own = (request.collection, request.callback_url, request.on_near_duplicate, request.since)
    if any(option is not None for option in own):
        options = check_options(
            services,
            request.collection if request.collection is not None else defaults.collection,
            request.callback_url if request.callback_url is not None else defaults.callback_url,
            defaults.idempotency_key,
            request.on_near_duplicate or defaults.on_near_duplicate,
            since=request.since or defaults.since,
            label=options.label,
            metadata=options.metadata,
        )
    content = [_content(item) for item in given] if options.idempotency_key else None
    return launch(
        services,
        options,
        new_job_id(),
        (url_item(item.url, item.metadata, item.key) for item in given),
        digest=digest_of(content, options),
    )


def _content(item: ItemRequest) -> list[Any]:
    return [item.url, item.metadata or {}, *([] if item.key is None else [item.key])]


def digest_of(content: object, options: Options) -> str:
    """Return the SHA-256 of what a request asks for; neither its label nor the order of names counts."""
    whole = [content, options.collection, options.callback_url, options.on_near_duplicate]
    whole += [options.metadata] if options.metadata else []
    whole += [options.since] if options.since else []
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def launch(
    services: Services,
    options: Options,
    job_id: str,
    items: Iterable[Item],
    *,
    digest: str,
    truncated: bool = False,
    uploaded: int = 0,
    chunk_size: int | None = None,
    kind: JobKind = JobKind.INGEST,
    job_options: JsonObject | None = None,
    final_stage: Stage | None = None,
    notes: Sequence[Note] = (),
) -> str:
    """Write the manifest, create the job and start it; `uploaded` bytes of its files are stored already.

    Returns the id of the job that answers this request: an earlier one's if its Idempotency-Key repeats.
    Files of `job_id` that no job owns then (the manifest, uploads) are deleted.
    """
    key = options.idempotency_key if not truncated else None  # a repeat is to bring what this one lost
    try:
        if options.since and not (key and services.ledger.idempotent_job(key, digest)):
            job_options = _since_option(services, options)
        writer = ManifestWriter(services.blobs, job_id)
        for item in items:
            writer.add(options.applied(item))
        writer.flush()
        reading = truncated or not writer.count  # one of no item ends when it is closed
        owner = services.ledger.create(
            job_id,
            collection=options.collection,
            total=writer.count,
            callback_url=options.callback_url,
            reading=reading,
            chunk_size=chunk_size or services.settings.chunk_size,
            idempotency=(key, digest) if key else None,
            kind=kind,
            options=job_options,
            final_stage=final_stage,
            made_by=options.made_by,
            size=writer.size + uploaded,
            label=options.label,
            notes=notes,
            cause=cause(),
        )
        if reading and owner == job_id:
            services.ledger.close(job_id, truncated=truncated)
    except BaseException as error:
        discard(services, job_id, after=error)
        raise
    if owner != job_id:
        discard(services, job_id)
    services.dispatcher.pump()
    return owner


def discard(services: Services, job_id: str, *, after: BaseException | None = None) -> None:
    """Delete the files of a job that was never made.

    After an Unavailable they stay: the job may have been made although the answer did not arrive.
    """
    if isinstance(after, Unavailable):
        return
    with suppress(Unavailable):
        services.blobs.delete_prefix(job_prefix(job_id))


class _GrowingJob:
    """A job that is made while its body is still being read, a segment at a time.

    `job_id` is the job that answers the request. `over` becomes true when the rest of the body is not wanted:
    the Idempotency-Key repeats an earlier request (whose job `job_id` is then), or the job was cancelled.
    """

    def __init__(self, services: Services, options: Options, digest: str) -> None:
        self._services = services
        self._options = options
        self._digest = digest
        self._since = _since_option(services, options)
        self.job_id = new_job_id()
        self._writer = ManifestWriter(services.blobs, self.job_id)
        self._committed = self._committed_bytes = 0
        self._last_commit = monotonic()
        self.started = False
        self.over = False

    @property
    def count(self) -> int:
        return self._writer.count

    def add(self, item: Item) -> None:
        self._writer.add(self._options.applied(item))
        waiting = self.count - self._committed
        if waiting >= SEGMENT_ITEMS or monotonic() - self._last_commit > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Send what was added so far to the workers."""
        self._writer.flush()
        key = self._options.idempotency_key
        if self.started:
            retry_while_unavailable(self._extend, LEDGER_RETRY_SECONDS)
        else:
            owner = self._services.ledger.create(
                self.job_id,
                collection=self._options.collection,
                total=self.count,
                callback_url=self._options.callback_url,
                reading=True,
                chunk_size=self._services.settings.chunk_size,
                idempotency=(key, self._digest) if key else None,
                options=self._since,
                made_by=self._options.made_by,
                size=self._writer.size,
                label=self._options.label,
                cause=cause(),
            )
            if owner != self.job_id:
                discard(self._services, self.job_id)
                self.job_id, self.over = owner, True
                return
            self.started = True
        self._committed, self._committed_bytes = self.count, self._writer.size
        self._last_commit = monotonic()
        self._services.dispatcher.pump()

    def close(self, *, truncated: bool) -> None:
        if self.count > self._committed and not self.over:
            self.commit()
        if self.started:
            ledger = self._services.ledger
            retry_while_unavailable(
                lambda: ledger.close(self.job_id, truncated=truncated), LEDGER_RETRY_SECONDS
            )
            self._services.dispatcher.pump()

    def _extend(self) -> None:
        # Counted from what the ledger has, so that a repeat after a lost answer adds nothing twice.
        missing = self.count - self._services.ledger.get(self.job_id).total
        if missing <= 0:
            return
        try:
            self._services.ledger.extend(self.job_id, missing, self._writer.size - self._committed_bytes)
        except JobFinished:
            self.over = True

    def abandon(self, error: BaseException) -> None:
        """End after a failure: what was sent to the workers stays a job, `truncated`; delete the rest."""
        if self.started:
            with suppress(Unavailable):
                self._services.ledger.close(self.job_id, truncated=True)
        elif not self.over:
            discard(self._services, self.job_id, after=error)


def ingest_lines(services: Services, options: Options, body: Body, media_type: str) -> str:
    """Make a job of a streamed body's lines while they arrive; return its id.

    A malformed line among the first SEGMENT_ITEMS raises InvalidRequest and no job is made; one that comes
    after the job was started becomes a failed item of it.
    """
    digest = digest_of(media_type, options)
    if options.idempotency_key and (
        job_id := services.ledger.idempotent_job(options.idempotency_key, digest)
    ):
        return job_id
    job = _GrowingJob(services, options, digest)
    try:
        truncated = _fill(job, body, as_json=media_type == "application/x-ndjson")
        if not job.count:
            raise InvalidRequest("The request has no items.")  # noqa: TRY301 - `abandon` is for this one too
        job.close(truncated=truncated)
    except BaseException as error:
        job.abandon(error)
        raise
    return job.job_id


def _fill(job: _GrowingJob, body: Body, *, as_json: bool) -> bool:
    """Add the body's lines to the job; return whether something of it was not read."""
    faults: list[FieldError] = []
    for number, line in enumerate(read_lines(body), 1):
        if job.over:
            return False
        if number > MAX_LINES:
            return True
        if not line.strip() or (line.lstrip().startswith(b"#") and not as_json):  # no URL begins with it
            continue
        parsed = _parse_line(line, number, as_json=as_json)
        if isinstance(parsed, list) and job.started:
            parsed = _failed_item(line, number, parsed[0]["message"])
        if isinstance(parsed, list):
            faults += parsed
        elif not faults:
            job.add(parsed)
        if len(faults) >= MAX_ERRORS or (faults and number >= SEGMENT_ITEMS):
            break
    refuse("Some lines are malformed.", faults)
    return body.truncated


def _failed_item(line: bytes, number: int, message: str) -> Item:
    shown = redacted(line.decode(errors="replace").strip())[
        :SHOWN_CHARS
    ]  # what is cut off may say what it is
    return Item(source=shown, error=f"invalid_url: Line {number} is malformed: {message}")


def _parse_line(line: bytes, number: int, *, as_json: bool) -> Item | list[FieldError]:
    def at_line(message: str) -> list[FieldError]:
        return [{"pointer": f"/{number}", "message": message}]

    if len(line) > MAX_LINE_BYTES:
        return at_line(f"longer than {MAX_LINE_BYTES:,} bytes")
    if not as_json:
        try:
            return url_item(line.decode().strip())
        except UnicodeDecodeError:
            return at_line("not UTF-8")
    try:
        item = _ITEM.validate_json(json_text(line))
    except UnicodeDecodeError:
        return at_line("not UTF-8")
    except ValidationError as error:
        return field_errors(error, number)
    return list(metadata_faults(item.metadata or {}, number, "metadata")) or url_item(
        item.url, item.metadata, item.key
    )
