"""The operations that make and follow jobs."""

import json
import secrets
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from image_search._bodies import Form, Lines, batches, pieces
from image_search._core import RETRIES, TIMEOUT, UNREACHABLE, ApiError, Flow, Pause, Request, Work
from image_search._operations import Calls, Term, collection_path, with_metadata
from image_search._progress import Progress, combined, showing
from image_search._sources import Sources, collect
from image_search.models.jobs import ItemsOut, JobOut, JobsOut
from shared.models import Metadata

# The answer to an upload comes when the server has stored the last byte of it.
UPLOAD_TIMEOUT_S = 600.0
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 120.0
# What SOURCE of `image-search ingest` may be; files and folders; or items as they come: URLs, or objects with
# `url`, `key` and `metadata`.
Source = str | Path | Sequence[Path] | Sources | Iterable[Term] | AsyncIterable[Term]


class JobCalls(Calls):
    """Ingesting, jobs, and moving collections, which are jobs too.

    `synchronous` turns an asynchronous source into another; it is called where requests are sent.
    """

    def __init__(
        self,
        retries: int = RETRIES,
        synchronous: Callable[[AsyncIterable[Term]], Iterable[Term]] | None = None,
    ) -> None:
        super().__init__(retries)
        self._synchronous = synchronous

    def ingest(
        self,
        source: Source,
        *,
        collection: str | None = None,
        metadata: Metadata | None = None,
        key_column: str | None = None,
        on_near_duplicate: str | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
        on_job: Callable[[JobOut], None] = lambda job: None,
        on_sent: Callable[[int], None] = lambda count: None,
    ) -> Flow[list[JobOut]]:
        """Brings pictures in: files and archives are uploaded, URLs and items sent in one streamed request.

        More files than one request takes make several jobs; `on_job` is called as each is made, `on_sent`
        with the bytes of files as they go (less than none where they go again). With an `idempotency_key` of
        your own, a stream that breaks off is not sent again: that needs another key.
        """
        options = _options(collection, on_near_duplicate, callback_url)
        if isinstance(source, AsyncIterable):
            if self._synchronous is None:
                raise TypeError("an asynchronous source is for AsyncClient")
            source = self._synchronous(source)
        collected: Sources | None = yield Work(partial(_collected, source, key_column))
        fields = {**options, **({"metadata": json.dumps(metadata)} if metadata else {})}
        jobs: list[JobOut] = []
        for batch in batches(collected.files if collected else []):
            key = idempotency_key and _numbered(idempotency_key, len(jobs))
            jobs.append((yield from self._ingest_form(Form(batch, fields, on_sent), key)))
            on_job(jobs[-1])
        items = collected.items(metadata or {}) if collected else with_metadata(source, metadata or {})  # type: ignore[arg-type]
        if collected is None or collected.has_urls:
            key = idempotency_key and _numbered(idempotency_key, len(jobs))
            jobs.append((yield from self._ingest_lines(items, options, key)))
            on_job(jobs[-1])
        return jobs

    def ingest_urls(
        self,
        items: Iterable[Term],
        *,
        collection: str | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
        on_near_duplicate: str | None = None,
    ) -> Flow[JobOut]:
        """One job of URLs or items, streamed however many there are."""
        options = _options(collection, on_near_duplicate, callback_url)
        return self._ingest_lines(items, options, idempotency_key)

    def job(self, job_id: str) -> Flow[JobOut]:
        return self.ask(JobOut, Request("GET", _job(job_id)))

    def jobs(self, status: str | None = None, *, limit: int = 50, cursor: str | None = None) -> Flow[JobsOut]:
        """One page of the jobs, newest first."""
        return self.ask(JobsOut, Request("GET", "/v1/jobs", _page(status, limit, cursor)))

    def items(
        self, job_id: str, status: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Flow[ItemsOut]:
        """One page of a job's items."""
        return self.ask(ItemsOut, Request("GET", _job(job_id, "items"), _page(status, limit, cursor)))

    def wait(self, job_id: str, progress: Progress = False, timeout: float | None = None) -> Flow[JobOut]:
        """The job once it has finished. `progress`: True shows a bar; a function is given each status.

        A server that does not answer for less than PATIENCE_SECONDS is waited for.
        """
        return self.wait_for([job_id], progress, timeout)

    def wait_for(
        self, job_ids: Sequence[str], progress: Progress = False, timeout: float | None = None
    ) -> Flow[JobOut]:
        """The same for several jobs, added up."""
        started = heard = time.monotonic()
        known: dict[str, JobOut] = {}
        with showing(progress) as show:
            while True:
                try:
                    for job_id in job_ids:
                        if job_id not in known or not known[job_id].status.finished:
                            known[job_id] = yield from self.job(job_id)
                except ApiError as error:
                    if not error.transient or time.monotonic() - heard > PATIENCE_SECONDS:
                        raise
                else:
                    heard = time.monotonic()
                    job = combined([*known.values()])
                    show(job)
                    if job.status.finished:
                        return job
                if timeout is not None and time.monotonic() - started > timeout:
                    raise ApiError(0, TIMEOUT, f"job {', '.join(job_ids)} goes on after {timeout:g} s")
                yield Pause(POLL_SECONDS)

    def cancel(self, job_id: str) -> Flow[JobOut]:
        return self.ask(JobOut, Request("DELETE", _job(job_id)))

    def retry(self, job_id: str) -> Flow[JobOut]:
        """The failed items once more, in the same job."""
        return self.ask(JobOut, Request("POST", _job(job_id, "retry"), repeatable=False))

    def export(self, collection: str, include: Sequence[str] = ()) -> Flow[JobOut]:
        return self._move(collection, "export", json={"include": [*include]})

    def download_export(self, job_id: str, path: Path) -> Flow[None]:
        """Writes the Parquet file of a finished export to `path`, which appears when it is whole."""
        unfinished = path.with_name(f"{path.name}.part")
        yield from self.send(Request("GET", _job(job_id, "export"), into=unfinished))
        unfinished.replace(path)

    def import_file(self, path: Path, collection: str) -> Flow[JobOut]:
        kind, size = "application/vnd.apache.parquet", str(path.stat().st_size)
        headers = {"Content-Type": kind, "Content-Length": size}
        return self._move(collection, "import", headers=headers, body=lambda: pieces(path))

    def import_export(self, job_id: str, collection: str) -> Flow[JobOut]:
        """What an export job on the same server has written, without a download."""
        return self._move(collection, "import", json={"export": job_id})

    def reindex(self, collection: str, model: str, *, allow_missing: bool = False) -> Flow[JobOut]:
        """The server may download the model first."""
        return self._move(collection, "reindex", json={"model": model, "allow_missing": allow_missing})

    def _move(
        self, collection: str, move: str, headers: Mapping[str, str] | None = None, **body: Any
    ) -> Flow[JobOut]:
        keyed = {"Idempotency-Key": _new_key(), **(headers or {})}
        path = collection_path(collection, move)
        return self.ask(JobOut, Request("POST", path, headers=keyed, timeout=UPLOAD_TIMEOUT_S, **body))

    def _ingest_form(self, form: Form, idempotency_key: str | None) -> Flow[JobOut]:
        headers = {"Content-Type": form.content_type, "Idempotency-Key": idempotency_key or _new_key()}
        request = Request("POST", "/v1/jobs", headers=headers, body=form, timeout=UPLOAD_TIMEOUT_S)
        return self.ask(JobOut, request)

    def _ingest_lines(
        self, items: Iterable[Term], options: Mapping[str, str], idempotency_key: str | None
    ) -> Flow[JobOut]:
        lines = Lines(items)

        def renewed(request: Request, error: ApiError) -> Request | None:
            """A body that was cut off has made a job of its beginning, which its key would lead back to."""
            lost_answer = error.code == UNREACHABLE and lines.whole
            if not lines.begun or lost_answer:
                return request
            if idempotency_key is not None:
                return None
            return replace(request, headers={**request.headers, "Idempotency-Key": _new_key()})

        request = Request(
            "POST",
            "/v1/jobs",
            options,
            {"Content-Type": "application/x-ndjson", "Idempotency-Key": idempotency_key or _new_key()},
            body=lines,
            timeout=UPLOAD_TIMEOUT_S,
        )
        return self.ask(JobOut, request, renewed)


def _collected(source: Source, key_column: str | None) -> Sources | None:
    """None for items as they come. Faults in a table are found before anything is sent."""
    if isinstance(source, Sources):
        source.check()
        return source
    if isinstance(source, str | Path):
        names = [str(source)]
    elif isinstance(source, Sequence) and source and all(isinstance(one, Path) for one in source):
        names = [str(one) for one in source]
    else:
        return None
    collected = collect(names, key_column)
    collected.check()
    return collected


def _options(
    collection: str | None, on_near_duplicate: str | None, callback_url: str | None
) -> dict[str, str]:
    options = {
        "collection": collection,
        "on_near_duplicate": on_near_duplicate,
        "callback_url": callback_url,
    }
    return {name: value for name, value in options.items() if value is not None}


def _page(status: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
    page = {"status": status, "limit": limit, "cursor": cursor}
    return {name: value for name, value in page.items() if value is not None}


def _job(job_id: str, *more: str) -> str:
    return "/".join(["/v1/jobs", quote(job_id, safe=""), *more])


def _new_key() -> str:
    return secrets.token_hex(16)


def _numbered(key: str, number: int) -> str:
    return f"{key}-{number}" if number else key
