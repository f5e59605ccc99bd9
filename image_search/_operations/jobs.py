"""Operations that make jobs and follow them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from image_search._bodies import (
    Form,
    LocalFile,
    NothingSent,
    Stream,
    Unsent,
    arriving_on_stdin,
    batches,
    is_of_content,
    lines_of,
    media_type,
    pieces,
)
from image_search._core import PARQUET, PATIENCE_SECONDS, Flow, Pause, Renew, Request, Work, given, path_of
from image_search._handles import AsyncJobHandle, JobHandle, Progress
from image_search._operations.images import ImageOperations, collection_path, with_metadata
from image_search._operations.search import Term
from image_search._runners import Operation, operation
from image_search._sources import Sources, sources_of, table_options
from image_search.errors import INVALID_REQUEST, TIMEOUT, UNREACHABLE, ApiError, InvalidSource
from image_search.models.images import Metadata
from image_search.models.jobs import ItemPage, Job, JobPage, combined
from image_search.models.tables import TablePreview

# The answer to an upload comes when the server has stored the last byte of it.
UPLOAD_TIMEOUT_SECONDS = 600.0
POLL_SECONDS = 0.5
MAX_GROUP_JOBS = 1_000  # that the server adds up
NDJSON = "application/x-ndjson"
PREVIEWED_BYTES = 2**20
PARQUET_START = b"PAR1"
# What SOURCE of `image-search ingest` may be; files and folders; or items as they come: URLs, or objects with
# `url`, `key` and `metadata`.
Source = str | Path | Sequence[str | Path] | Sources | Iterable[Term] | AsyncIterable[Term]
P = ParamSpec("P")
T = TypeVar("T")


def _handled(
    flow: Callable[Concatenate[Any, P], Flow[tuple[list[str], list[Unsent], str]]],
) -> Operation[P, JobHandle, AsyncJobHandle]:
    """Make a method of both clients that returns a handle of the jobs."""
    return Operation(flow, (JobHandle, AsyncJobHandle))


class JobOperations(ImageOperations):
    """Ingesting, jobs, and transfers of whole collections, which are jobs too."""

    @_handled
    def ingest(
        self,
        source: Source,
        *,
        collection: str | None = None,
        metadata: Metadata | None = None,
        url_column: str | None = None,
        key_column: str | None = None,
        columns: str | Sequence[str] = (),
        skip_columns: str | Sequence[str] = (),
        number_columns: str | Sequence[str] = (),
        on_near_duplicate: str | None = None,
        since: str | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
        name: str | None = None,
        origin: str = "client",
        on_job: Callable[[Job], None] | None = None,
        on_sent: Callable[[int], None] | None = None,
    ) -> Flow[tuple[list[str], list[Unsent], str]]:
        """Ingest images: upload files, folders and archives, or have the server fetch URLs.

        More files than one request takes (1,000, or 1 GiB), an archive and a table make a job each, which the
        handle adds up. A file that cannot be read when it is to be sent, and a table or an archive that is
        refused, is in the handle's `unsent`.

        Args:
            source: a file, a folder, an archive (zip, tar), a URL, a table (.csv, .tsv, .json, .jsonl,
                .parquet) or a list of URLs (.txt); a list of files and folders; or an iterable of URLs and of
                objects with `url`, `key` and `metadata`, which is streamed, however long it is.
            collection: where the images go; `images` by default.
            metadata: for every image, under what a table or an item says itself.
            url_column: a table's column with the URLs; `url`, in any case, by default.
            key_column: a table's column with your own names for the images, such as SKUs; a new image under
                a key replaces the old one. `key`, if there is one, by default.
            columns: a table's columns that become metadata; all others by default.
            skip_columns: a table's columns that do not become metadata.
            number_columns: a table's columns that hold numbers however they are spelled, as `19.90`.
            on_near_duplicate: `skip` leaves out near-duplicates of what the collection has; `keep` does not.
            since: the id of an earlier job of the collection: what has not changed at its URL since then is
                not downloaded, and ends as `unchanged`. For URLs and tables.
            callback_url: gets each job's final status by POST.
            idempotency_key: a repeat with the same key within 24 h makes no second job. With a key of your
                own a stream that breaks off is not sent again.
            name: what to call the job where jobs are listed; by default the source's name.
            origin: what makes it: `client`, `command_line`, `page` or `api`.
            on_job: is called with each job as it is made.
            on_sent: is called with the bytes of files as they go, less than 0 where they go again.

        Raises:
            InvalidSource: for what is not there, before anything is sent, and where no file could be read.
            ApiError: where the server refuses, of several files all.
        """
        on_job, on_sent = on_job or _ignore, on_sent or _ignore
        options = _options(collection, on_near_duplicate, callback_url, since)
        of_tables = table_options(url_column, key_column, columns, skip_columns, number_columns)
        if isinstance(source, Mapping):  # one item
            source = [source]
        if isinstance(source, AsyncIterable):
            source = self._synchronous(source)
        collected: Sources | None = yield Work(partial(sources_of, source))
        found = collected or Sources(kinds={"urls"})
        _check_fits(found, of_tables, since)
        fields = {**options, **({"metadata": json.dumps(metadata)} if metadata else {})}
        bodies: list[Form | Stream] = [*_forms(found, fields, of_tables, on_sent)]
        if found.from_stdin:
            bodies.append(Stream(arriving_on_stdin(), "text/plain", fields))
        if collected is None or found.urls:
            items: Any = with_metadata(found.urls if collected else source, metadata or {})  # type: ignore[arg-type]
            bodies.append(Stream(lines_of(items), NDJSON, options))
        label = given(
            {
                "name": name or found.name,
                "origin": origin,
                "made_of": found.made_of,
                "group": secrets.token_hex(8) if len(bodies) > 1 else None,
            }
        )
        made: list[str] = []
        refusal: ApiError | None = None
        for number, body in enumerate(bodies):
            key = idempotency_key and _numbered(idempotency_key, number)
            try:
                job = yield from self._make_job(body, _label(label, number), key)
            except NothingSent:
                pass  # the others go; which it was stands in `unsent`
            except ApiError as error:
                if not (isinstance(body, Form) and body.is_to_blame(error)):
                    raise
                refusal = refusal or error
            else:
                made.append(job.job_id)
                on_job(job)
            found.unsent += body.unsent
            found.broken_off |= body.broken_off
        if not made and refusal:
            raise refusal
        if not made:
            first, *others = found.unsent
            more = f" (and {len(others):,} more)" if others else ""
            raise InvalidSource(f"nothing could be sent: {first.path}{more}: {first.detail}")
        return made, found.unsent, str(found.left_out)

    @operation
    def ingest_urls(
        self,
        items: Iterable[Term],
        *,
        collection: str | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
        on_near_duplicate: str | None = None,
        since: str | None = None,
        name: str | None = None,
    ) -> Flow[Job]:
        """Ingest URLs, or objects with `url`, `key` and `metadata`, as one job, however many there are.

        `name` is what to call the job where jobs are listed; the others are as for `ingest`.
        """
        options = _options(collection, on_near_duplicate, callback_url, since)
        label = given({"name": name, "origin": "client", "made_of": "urls"})
        return self._make_job(Stream(lines_of(items), NDJSON, options), label, idempotency_key)

    @operation
    def preview_table(
        self,
        path: str | Path,
        *,
        url_column: str | None = None,
        key_column: str | None = None,
        columns: str | Sequence[str] = (),
        skip_columns: str | Sequence[str] = (),
        number_columns: str | Sequence[str] = (),
        rows: int = 20,
    ) -> Flow[TablePreview]:
        """Return what a table's columns are taken for, its first rows and the notes on them; makes no job.

        Of a text table over 1 MiB only that much is sent: the answer is `partial`, and types are guesses. The
        other arguments are those of `ingest`; `rows` is 1 to 100.
        """
        file = Path(path)
        of_table = table_options(url_column, key_column, columns, skip_columns, number_columns)
        params: dict[str, Any] = {**of_table, "preview": rows}
        head, size = yield Work(partial(_beginning, file))
        if head.startswith(PARQUET_START) or size == len(head):
            form = Form([LocalFile(file, file.name, size)], {}, _ignore, "table")
            headers = {"Content-Type": form.content_type}
            request = Request("POST", "/v1/jobs", params, headers, body=form, timeout=UPLOAD_TIMEOUT_SECONDS)
        else:
            part = ("table", (file.name.encode(errors="replace").decode(), head, media_type(file.name)))
            request = Request("POST", "/v1/jobs", params | {"partial": "true"}, files=[part])
        return (yield from _naming(file, self._ask(TablePreview, request)))

    @operation
    def job(self, job_id: str) -> Flow[Job]:
        """Return a job's status: how far it is, its counts, its first 20 errors."""
        return self._job(job_id)

    @operation
    def jobs(
        self,
        status: str | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        collection: str | None = None,
        group: str | None = None,
        grouped: bool = False,
    ) -> Flow[JobPage]:
        """Return one page of the jobs, newest first, or of those with one status, collection or group.

        With `grouped` the jobs of one upload or command are one, added up; its `parts` says how many.
        """
        which = given({"collection": collection, "group": group, "grouped": "true" if grouped else None})
        return self._ask(JobPage, Request("GET", "/v1/jobs", {**_page(status, limit, cursor), **which}))

    @operation
    def items(
        self, job_id: str, status: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Flow[ItemPage]:
        """Return one page of a job's items, or of those in one state; `iter_items` gives all."""
        return self._ask(ItemPage, Request("GET", _job_path(job_id, "items"), _page(status, limit, cursor)))

    @operation
    def wait(self, job_id: str, progress: Progress = False, timeout: float | None = None) -> Flow[Job]:
        """Wait for a job to finish and return it.

        Args:
            progress: True shows a bar on a terminal and a line per tenth elsewhere; or a function that is
                called with each status.
            timeout: seconds, after which ApiError is raised with the code `timeout`; the job goes on.

        A server that does not answer for less than two minutes is waited for.
        """
        return self._wait([job_id], progress, timeout)

    @operation
    def wait_for(
        self, job_ids: Sequence[str], progress: Progress = False, timeout: float | None = None
    ) -> Flow[Job]:
        """Wait for several jobs to finish and return them as one, added up. The rest is as for `wait`."""
        if not job_ids:
            raise ApiError(0, INVALID_REQUEST, "there is no job to wait for")
        return self._wait([job_ids] if isinstance(job_ids, str) else job_ids, progress, timeout)

    @operation
    def cancel(self, job_id: str) -> Flow[Job]:
        """Cancel a job; what is indexed already stays."""
        return self._ask(Job, Request("DELETE", _job_path(job_id)))

    @operation
    def retry(self, job_id: str) -> Flow[Job]:
        """Take a finished job's failed items once more, in the same job."""
        return self._ask(Job, Request("POST", _job_path(job_id, "retry"), repeatable=False))

    @operation
    def export(self, collection: str, include: Sequence[str] = ()) -> Flow[Job]:
        """Start an export of a collection as a Parquet file; `download_export` gets it once it is done.

        `include` may name `rendition` and `thumbnail`: the files of each image to put in, too.
        """
        return self._transfer(collection, "export", json={"include": [*include]})

    @operation
    def download_export(self, job_id: str, path: str | Path) -> Flow[None]:
        """Write the Parquet file of a finished export to `path`, which appears when it is whole."""
        path = Path(path)
        unfinished = path.with_name(f"{path.name}.part")
        yield from self._send(Request("GET", _job_path(job_id, "export"), into=unfinished, media=PARQUET))
        unfinished.replace(path)

    @operation
    def import_file(self, path: str | Path, collection: str) -> Flow[Job]:
        """Start an import of an exported Parquet file into a collection."""
        file = Path(path)
        if not file.is_file():
            raise InvalidSource(f"{file}: there is no such file")
        headers = {"Content-Type": PARQUET, "Content-Length": str(file.stat().st_size)}
        return self._transfer(collection, "import", headers=headers, body=lambda: pieces(file))

    @operation
    def import_export(self, job_id: str, collection: str) -> Flow[Job]:
        """Start an import of what an export job of the same server has written, without a download."""
        return self._transfer(collection, "import", json={"export": job_id})

    @operation
    def reindex(self, collection: str, model: str, *, allow_missing: bool = False) -> Flow[Job]:
        """Start encoding a collection again with another model, which the server may download first.

        Searches go on with the old one until all is encoded. `allow_missing` goes on without the images whose
        pixels were not kept.
        """
        return self._transfer(collection, "reindex", json={"model": model, "allow_missing": allow_missing})

    def _synchronous(self, items: AsyncIterable[Term]) -> Iterable[Term]:
        """Turn an asynchronous source into another one; called where requests are sent."""
        raise TypeError("an asynchronous source is for AsyncClient")

    def _job(self, job_id: str) -> Flow[Job]:
        return self._ask(Job, Request("GET", _job_path(job_id)))

    def _wait(self, job_ids: Sequence[str], progress: Progress, timeout: float | None) -> Flow[Job]:
        started = heard = time.monotonic()
        known: dict[str, Job] = {}
        with _showing(progress) as show:
            while True:
                try:
                    for job_id in job_ids:
                        if job_id not in known or not known[job_id].finished:
                            known[job_id] = yield from self._job(job_id)
                except ApiError as error:
                    if not error.transient or time.monotonic() - heard > PATIENCE_SECONDS:
                        raise
                else:
                    heard = time.monotonic()
                    job = combined([*known.values()])
                    show(job)
                    if job.finished:
                        return job
                if timeout is not None and time.monotonic() - started > timeout:
                    raise ApiError(0, TIMEOUT, f"job {', '.join(job_ids)} goes on after {timeout:g} s")
                yield Pause(POLL_SECONDS)

    def _transfer(
        self, collection: str, kind: str, headers: Mapping[str, str] | None = None, **body: Any
    ) -> Flow[Job]:
        keyed = {"Idempotency-Key": _new_key(), **(headers or {})}
        path = collection_path(collection, kind)
        return self._ask(Job, Request("POST", path, headers=keyed, timeout=UPLOAD_TIMEOUT_SECONDS, **body))

    def _make_job(
        self, body: Form | Stream, label: Mapping[str, str], idempotency_key: str | None
    ) -> Flow[Job]:
        headers = {"Content-Type": body.content_type, "Idempotency-Key": idempotency_key or _new_key()}
        request = Request("POST", "/v1/jobs", body.params, headers, body=body, timeout=UPLOAD_TIMEOUT_SECONDS)
        if isinstance(body, Form):
            return _naming(body.only_file and body.only_file.path, self._ask_labelled(request, label))
        stream = body

        def renewed(request: Request, error: ApiError) -> Request | None:
            """Send it under a new key: what was cut off has made a job, which the old key leads back to."""
            lost_answer = error.code == UNREACHABLE and stream.whole
            if not stream.begun or lost_answer:
                return request
            if idempotency_key is not None:
                return None
            return replace(request, headers={**request.headers, "Idempotency-Key": _new_key()})

        return self._ask_labelled(request, label, renewed)

    def _ask_labelled(
        self,
        request: Request,
        label: Mapping[str, str],
        renewed: Renew | None = None,
    ) -> Flow[Job]:
        """Ask for a job with a label; a server of an earlier version, which knows none, is asked without."""
        labelled = replace(request, params={**request.params, **label})
        try:
            return (yield from self._ask(Job, labelled, renewed))
        except ApiError as error:
            unknown = {one["pointer"] for one in error.errors if "unknown" in one["message"]}
            if error.code != INVALID_REQUEST or not unknown or unknown - {f"/{name}" for name in label}:
                raise
        return (yield from self._ask(Job, request, renewed))


def _forms(
    found: Sources, fields: dict[str, str], of_tables: dict[str, str], on_sent: Callable[[int], None]
) -> Iterator[Form]:
    for batch in batches(found.files):
        yield Form(batch, fields, on_sent)
    tables = [one for one in found.tables if media_type(one.name) != "text/plain"] or found.tables
    for one in found.tables:
        of_one = of_tables if one in tables else {}  # a list of URLs beside a table has no columns
        yield Form([one], fields | of_one, on_sent, "table")


def _naming(file: Path | None, flow: Flow[T]) -> Flow[T]:
    """Have what the server says of a file's content begin with the file's name."""
    try:
        return (yield from flow)
    except ApiError as error:
        if file is None or not is_of_content(error):
            raise
        detail = f"{file}: {error.detail}"
        raise ApiError(error.http_status, error.code, detail, error.errors, error.retry_after) from None


def _beginning(file: Path) -> tuple[bytes, int]:
    """Return the start of a table, as much as a preview of a text table needs, and its size."""
    try:
        with file.open("rb") as opened:
            return opened.read(PREVIEWED_BYTES), file.stat().st_size
    except OSError as error:
        raise InvalidSource(f"{file}: {error.strerror or error}") from None


def _ignore(_: object) -> None: ...


def _showing(progress: Progress) -> AbstractContextManager[Callable[[Job], None]]:
    if progress is True:
        from image_search._progress import showing  # noqa: PLC0415 - rich, for those who look

        return showing()
    return nullcontext(progress or _ignore)


def _check_fits(found: Sources, of_tables: Mapping[str, str], since: str | None) -> None:
    """Raise InvalidSource for an option that is not for such sources."""
    if of_tables and not found.tables:
        option = next(iter(of_tables))
        raise InvalidSource(f"`{option}` is for tables (.csv, .json …), and no source is one")
    if since and found.files:
        raise InvalidSource(f"`since` is for URLs and tables of URLs, which {found.files[0].path} is not")


def _options(
    collection: str | None, on_near_duplicate: str | None, callback_url: str | None, since: str | None
) -> dict[str, str]:
    return given(
        {
            "collection": collection,
            "on_near_duplicate": on_near_duplicate,
            "callback_url": callback_url,
            "since": since,
        }
    )


def _label(label: Mapping[str, str], number: int) -> dict[str, str]:
    """Return the label of a command's next job: of very many, the later ones are another group."""
    group = label.get("group")
    return {**label, **({"group": f"{group}-{number // MAX_GROUP_JOBS}"} if group else {})}


def _page(status: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
    return given({"status": status, "limit": limit, "cursor": cursor})


def _job_path(job_id: str, *more: str) -> str:
    return path_of("/v1/jobs", job_id, *more)


def _new_key() -> str:
    return secrets.token_hex(16)


def _numbered(key: str, number: int) -> str:
    return f"{key}-{number}" if number else key
