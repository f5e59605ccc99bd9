"""Making a job of a multipart body, whose files go to the blob store as they arrive."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData, State

from api.archives.file_names import bounded, fit_names
from api.archives.reading import archive_kind, read_archive
from api.archives.unpacking import ArchiveLimits, Content, LeftOut
from api.http.problems import field_errors, parse, refuse
from api.http.request_body import Body, json_text
from api.http.request_models import MAX_ITEMS, Key
from api.jobs.ingest import Options, check_options, digest_of, discard, launch, metadata_of_all
from api.jobs.requests import JobLabel, TableQuery
from api.jobs.tables import Spooled, ingest_table, refuse_table_options
from image_search import models
from shared.errors import FieldError, InvalidRequest, RequestTooLarge
from shared.image_files.archives import HEAD_BYTES, archive_name
from shared.ledger.ledger import new_job_id
from shared.models import Item
from shared.services import Services
from shared.storage.blobs import upload_key
from shared.validation import metadata_faults

FIELDS = (
    "metadata",
    "keys",
    "collection",
    "callback_url",
    "on_near_duplicate",
    "since",
    *JobLabel.model_fields,
)
FILE_PARTS = ("files", "table")
TABLE_FIELDS = tuple(TableQuery.model_fields)
_KEYS = TypeAdapter(list[Key | None])
MAX_FIELD_BYTES = 16 * 2**20
_READ_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 2**20
_MAX_PARTS = MAX_ITEMS + 10
_SPOOL_BYTES = 2**20
_HEADER_END = re.compile(rb"\r\n\r\n|\r\r|\n\n")
# A header's bytes that are no UTF-8, on their way through the decoder: it would refuse them.
_MARKED = {0xDC00 + byte: f"\ufdd0{byte:02X}" for byte in range(0x80, 0x100)}
_MARK = re.compile("\ufdd0([89A-F][0-9A-F])")


@dataclass(frozen=True, slots=True)
class _Part:
    """One whole part of the body; `content` is at its start, and open until the next part is asked for."""

    name: str
    filename: str | None
    media_type: str
    content: IO[bytes]
    size: int
    sha256: str


class _File(NamedTuple):
    """A file under its name as sent: the `upload` that it is stored as, or the `error` of its item."""

    name: str
    upload: str | None = None
    error: str | None = None


@dataclass(slots=True)
class _Received:
    """The parts received: the files, in their order, and the fields.

    `unread` says what archive a file is that is not read as one.
    """

    files: list[_File] = field(default_factory=list)
    hashes: list[list[str]] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    archive: bool = False
    unread: str | None = None
    left_out: LeftOut = field(default_factory=LeftOut)
    table: Spooled | None = None
    size: int = 0  # of what was stored, in bytes


def ingest_multipart(
    services: Services, defaults: Options, query: TableQuery, body: Body, content_type: Mapping[str, str]
) -> str | models.TablePreview:
    """Make a job of a multipart body's files or table; return its id, or the preview that was asked for.

    `content_type` has the header's `boundary`. A body that breaks off is a job of the files that arrived
    whole.
    """
    boundary = content_type.get("boundary", "")
    if not boundary or not boundary.isascii():
        raise InvalidRequest("The multipart body's Content-Type names no boundary.")
    job_id = new_job_id()
    received = _Received()
    with ExitStack() as kept:
        try:
            for part in _parts(body, boundary.encode(), kept):
                _receive(services, job_id, part, received)
            options = _options(services, defaults, received.fields)
            query = parse(type(query), query.model_dump(exclude_unset=True) | _of_tables(received.fields))
            if received.table:
                received.table = replace(received.table, truncated=body.truncated)
                return _ingest_table(services, options, query, received)
            refuse_table_options(query)
            if options.since:
                raise InvalidRequest("`since` is for URLs, and files have none.").at("/since")  # noqa: TRY301
            if not received.files:
                raise InvalidRequest("The request has no file.", [_fault("files", "no file")])  # noqa: TRY301
            if received.unread and len(received.files) == 1:
                raise _unread(received.unread)  # noqa: TRY301
            metadata, keys = _metadata(received), _keys(received)
            content = [received.hashes, metadata, *([keys] if any(keys) else [])]
            sources = fit_names([file.name for file in received.files], distinct=received.archive)
            items = [
                Item(source, upload=file.upload, error=file.error, metadata=one, key=key)
                for file, source, one, key in zip(received.files, sources, metadata, keys, strict=True)
            ]
            digest = digest_of(content, options)
        except BaseException as error:
            discard(services, job_id, after=error)
            raise
    return launch(
        services,
        options,
        job_id,
        items,
        digest=digest,
        truncated=body.truncated,
        uploaded=received.size,
        notes=received.left_out.notes(),
    )


def _of_tables(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: fields[name] for name in TABLE_FIELDS if fields.get(name)}


def _ingest_table(
    services: Services, options: Options, query: TableQuery, received: _Received
) -> str | models.TablePreview:
    table = received.table
    if table is None or received.files:
        raise InvalidRequest("A table must be the only file.", [_fault("table", "a table and other files")])
    if "keys" in received.fields:
        raise InvalidRequest("Keys are for files.", [_fault("keys", "a table has its keys in a column")])
    if metadata := received.fields.get("metadata"):
        options = replace(options, metadata=metadata_of_all(metadata))
    return ingest_table(services, options, query, table)


def _receive(services: Services, job_id: str, part: _Part, received: _Received) -> None:
    if part.name in (*FIELDS, *TABLE_FIELDS):
        if part.name in received.fields:
            message = "given more than once"
            raise InvalidRequest(f"The part `{part.name}` is {message}.", [_fault(part.name, message)])
        received.fields[part.name] = _text(part)
        return
    if part.name not in FILE_PARTS:
        raise InvalidRequest(
            f"The body has an unknown part, {part.name!r}.", [_fault(part.name, "unknown part")]
        )
    if part.filename is None:
        raise InvalidRequest("A part is no file.", [_fault(part.name, "must be a file, with a file name")])
    if not part.filename and not part.size:
        return  # what a browser sends for a file field that was left empty
    name = bounded(_unmarked(part.filename))
    if part.name == "table":
        if received.table:
            raise InvalidRequest("A job is of one table.", [_fault("table", "given more than once")])
        (name,) = fit_names([name], distinct=False)
        received.table = Spooled(part.content, part.size, part.sha256, name, part.media_type)
        return
    received.hashes.append([name, part.sha256])
    kind = archive_kind(part.content)
    if received.archive or (kind and received.files):
        raise InvalidRequest(
            "An archive must be the only file.", [_fault("files", "an archive and other files")]
        )
    part.content.seek(0)
    limits = ArchiveLimits(
        entry_bytes=services.settings.max_image_bytes,
        total_bytes=services.settings.max_upload_bytes,
        entries=MAX_ITEMS,
    )
    if kind is None:
        received.unread = archive_name(part.content.read(HEAD_BYTES)) or received.unread
        part.content.seek(0)
        fits = part.size <= limits.entry_bytes
        _store(services, job_id, received, name, part.content.read() if fits else limits.too_large)
        return
    received.archive = True
    part.content.seek(part.size)
    try:
        for name, content in read_archive(part.content, kind, limits, received.left_out):
            _store(services, job_id, received, name, content)
    except InvalidRequest as error:
        raise error.at("/files")  # noqa: B904 - the same error


def _store(services: Services, job_id: str, received: _Received, name: str, content: Content) -> None:
    index = len(received.files)
    if index >= MAX_ITEMS:
        raise RequestTooLarge(f"The request has more than {MAX_ITEMS:,} files.")
    if isinstance(content, str):
        received.files.append(_File(bounded(name), error=content))
        return
    upload = upload_key(job_id, index)
    services.blobs.put(upload, content)
    received.size += len(content)
    received.files.append(_File(bounded(name), upload))


def _unread(archive: str) -> InvalidRequest:
    way = "zip, tar and tar.gz are the archives that are read: unpack it, or pack it as one of these"
    return InvalidRequest(f"The file is {archive}; {way}.").at("/files")


def _parts(body: Body, boundary: bytes, kept: ExitStack) -> Iterator[_Part]:
    """Yield the whole parts of a multipart body; a table's content stays open until `kept` is closed.

    Raises InvalidRequest for a malformed body, not for one that breaks off.
    """
    decoder = MultipartDecoder(boundary, max_form_memory_size=_MAX_HEADER_BYTES, max_parts=_MAX_PARTS)
    events = _events(decoder, body)
    for head in events:
        if not isinstance(head, Field | File):
            continue  # what stands before the first part
        with ExitStack() as of_part:
            content = (kept if head.name == "table" else of_part).enter_context(
                SpooledTemporaryFile(_SPOOL_BYTES)
            )
            digest = hashlib.sha256()
            for event in events:
                assert isinstance(event, Data)  # noqa: S101 - a part's head is followed by its data
                content.write(event.data)
                digest.update(event.data)
                size = content.tell()
                if head.name not in FILE_PARTS and size > MAX_FIELD_BYTES:
                    raise RequestTooLarge(f"The part {head.name!r} is larger than {MAX_FIELD_BYTES:,} bytes.")
                if not event.more_data:
                    content.seek(0)
                    filename = head.filename if isinstance(head, File) else None
                    media_type = head.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                    yield _Part(head.name or "", filename, media_type, content, size, digest.hexdigest())
                    break


def _events(decoder: MultipartDecoder, body: Body) -> Iterator[Event]:
    # The decoder takes the line end before a boundary for content where its buffer ends in the middle of what
    # follows the boundary, so there it gets more first.
    mark = b"--" + decoder.boundary
    ended = False
    try:
        while data := body.read(_READ_BYTES):
            if ended:
                continue  # the epilogue, which means nothing
            decoder.receive_data(data)
            if mark in decoder.buffer[-len(mark) - 1 :]:
                continue
            yield from _drained(decoder)
            ended = decoder.state is State.EPILOGUE
        yield from _drained(decoder)
    except RequestEntityTooLarge:
        raise RequestTooLarge(
            f"The multipart body has more than {_MAX_PARTS:,} parts, or a header of over "
            f"{_MAX_HEADER_BYTES:,} bytes."
        ) from None
    except (ValueError, AttributeError):
        raise InvalidRequest("The multipart body is malformed.") from None
    if decoder.state is not State.EPILOGUE and not body.truncated:
        raise InvalidRequest("The multipart body has no closing boundary.")


def _drained(decoder: MultipartDecoder) -> Iterator[Event]:
    while True:
        try:
            event = decoder.next_event()
        except UnicodeDecodeError:  # of the part's header, which still stands in the buffer
            _mark_odd_bytes(decoder.buffer)
            continue
        if isinstance(event, NeedData | Epilogue):
            return
        yield event


def _mark_odd_bytes(buffer: bytearray) -> None:
    end = match.start() if (match := _HEADER_END.search(buffer)) else len(buffer)
    header = buffer[:end].decode("utf-8", "surrogateescape")
    marked = header.translate(_MARKED)
    if marked == header:
        raise ValueError("not of the header")
    buffer[:end] = marked.encode()


def _unmarked(name: str) -> str:
    return _MARK.sub(lambda mark: chr(0xDC00 + int(mark[1], 16)), name)


def _text(part: _Part) -> str:
    try:
        return json_text(part.content.read())
    except UnicodeDecodeError:
        raise InvalidRequest("A part is malformed.", [_fault(part.name, "not UTF-8")]) from None


def _options(services: Services, defaults: Options, fields: Mapping[str, str]) -> Options:
    label = parse(JobLabel, {name: fields[name] for name in JobLabel.model_fields if fields.get(name)})
    return check_options(
        services,
        fields.get("collection", defaults.collection),
        fields.get("callback_url") or defaults.callback_url,
        defaults.idempotency_key,
        fields.get("on_near_duplicate", defaults.on_near_duplicate),
        since=fields.get("since") or defaults.since,
        label=label.over(defaults.label),
        metadata=defaults.metadata,
    )


def _metadata(received: _Received) -> list[dict[str, Any]]:
    """Return each file's metadata; the `metadata` part is one object for all, or a list of one per file."""
    try:
        given: Any = from_json(received.fields.get("metadata", "{}"))
    except ValueError:
        raise InvalidRequest("The metadata is malformed.", [_fault("metadata", "not JSON")]) from None
    count = len(received.files)
    if isinstance(given, dict):
        refuse("Some metadata is malformed.", metadata_faults(given, "metadata"))
        return [given] * count
    if not isinstance(given, list) or not all(one is None or isinstance(one, dict) for one in given):
        message = "must be a JSON object, or a list of one for each file"
        raise InvalidRequest("The metadata is malformed.", [_fault("metadata", message)])
    if len(given) != count:
        message = f"needs an object or null for each file, and has {len(given)} for {count}"
        raise InvalidRequest("The metadata does not fit the files.", [_fault("metadata", message)])
    metadata = [one or {} for one in given]
    faults = (
        fault for index, one in enumerate(metadata) for fault in metadata_faults(one, "metadata", index)
    )
    refuse("Some metadata is malformed.", faults)
    return metadata


def _keys(received: _Received) -> list[str | None]:
    """Return each file's key: the `keys` part is a JSON list of a key, or null, per file."""
    count = len(received.files)
    if "keys" not in received.fields:
        return [None] * count
    try:
        given = _KEYS.validate_json(received.fields["keys"])
    except ValidationError as error:
        raise InvalidRequest("The keys are malformed.", field_errors(error, "keys")) from None
    if len(given) != count:
        message = f"needs a key or null for each file, and has {len(given)} for {count}"
        raise InvalidRequest("The keys do not fit the files.", [_fault("keys", message)])
    return given


def _fault(name: str, message: str) -> FieldError:
    return {"pointer": f"/{name}", "message": message}
