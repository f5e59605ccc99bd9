"""A small client of the HTTP API."""

import json
import mimetypes
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from api.job_schemas import ItemsOut, JobOut, JobsOut
from shared.errors import FieldError, ImageSearchError
from shared.models import ItemState, JobStatus, JsonObject, Metadata

BATCH_FILES = 1000
BATCH_BYTES = 2**30
# The answer to an upload comes when the server has stored the last byte of it.
UPLOAD_TIMEOUT_S = 600.0
COMPARE_TIMEOUT_S = 300.0
MOST_GROUPS = 200  # in one answer
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 120.0
_PIECE = 64 * 1024


class ApiError(ImageSearchError):
    """What the server refused; `status` is 0 when it could not be reached at all."""

    def __init__(self, status: int, code: str, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.http_status = status
        self.code = code
        self.errors = list(errors)

    @property
    def transient(self) -> bool:
        return self.http_status in (0, 429, 502, 503, 504)


class Client:
    """One server, one key. Every method raises ApiError. Use as a context manager, or `close` it."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._http = httpx.Client(
                base_url=self._url, headers=headers, timeout=timeout, transport=transport, trust_env=False
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise ApiError(0, "invalid_url", f"{url!r} is not the address of a server: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def ingest_urls(
        self,
        items: Iterable[str | JsonObject],
        *,
        collection: str | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
        on_near_duplicate: str | None = None,
    ) -> JobOut:
        """One job of URLs, or of objects with `url` and `metadata`, streamed however many there are."""
        options = {
            "collection": collection,
            "callback_url": callback_url,
            "on_near_duplicate": on_near_duplicate,
        }
        headers = {"Content-Type": "application/x-ndjson"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        response = self._send(
            "POST",
            "/v1/jobs",
            params={name: value for name, value in options.items() if value is not None},
            headers=headers,
            content=_ndjson(items),
            timeout=UPLOAD_TIMEOUT_S,
        )
        return JobOut.model_validate_json(response.content)

    def ingest_files(
        self,
        files: Iterable[tuple[Path, str]],
        *,
        collection: str | None = None,
        metadata: Metadata | None = None,
        on_near_duplicate: str | None = None,
    ) -> Iterator[JobOut]:
        """Uploads (path, name to show) pairs: one job for at most BATCH_FILES files and BATCH_BYTES bytes.

        An archive goes alone, since the server takes it as the only file of a request.
        """
        fields = {
            "collection": collection or "",
            "metadata": json.dumps(metadata) if metadata else "",
            "on_near_duplicate": on_near_duplicate or "",
        }
        for batch in _batches(files):
            boundary = secrets.token_hex(16)
            response = self._send(
                "POST",
                "/v1/jobs",
                headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
                content=_multipart(batch, {k: v for k, v in fields.items() if v}, boundary),
                timeout=UPLOAD_TIMEOUT_S,
            )
            yield JobOut.model_validate_json(response.content)

    def job(self, job_id: str) -> JobOut:
        return JobOut.model_validate_json(self._send("GET", _job_path(job_id)).content)

    def jobs(self, status: JobStatus | None = None, *, limit: int = 50, cursor: str | None = None) -> JobsOut:
        params = {"status": status, "limit": limit, "cursor": cursor}
        response = self._send("GET", "/v1/jobs", params={k: v for k, v in params.items() if v is not None})
        return JobsOut.model_validate_json(response.content)

    def items(
        self, job_id: str, status: ItemState | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> ItemsOut:
        params = {"status": status, "limit": limit, "cursor": cursor}
        known = {k: v for k, v in params.items() if v is not None}
        return ItemsOut.model_validate_json(
            self._send("GET", _job_path(job_id) + "/items", params=known).content
        )

    def wait(self, job_id: str, progress: Callable[[JobOut], None] = lambda job: None) -> JobOut:
        """The job once it has finished; `progress` is called with each status until then, the last included.

        A server that does not answer for less than PATIENCE_SECONDS is waited for.
        """
        heard = time.monotonic()
        while True:
            try:
                job = self.job(job_id)
            except ApiError as error:
                if not error.transient or time.monotonic() - heard > PATIENCE_SECONDS:
                    raise
            else:
                heard = time.monotonic()
                progress(job)
                if job.status.finished:
                    return job
            time.sleep(POLL_SECONDS)

    def cancel(self, job_id: str) -> JobOut:
        return JobOut.model_validate_json(self._send("DELETE", _job_path(job_id)).content)

    def retry(self, job_id: str) -> JobOut:
        return JobOut.model_validate_json(self._send("POST", _job_path(job_id) + "/retry").content)

    def export(self, collection: str, include: Sequence[str] = ()) -> JobOut:
        body = {"include": list(include)}
        response = self._send("POST", _move_path(collection, "export"), json=body, timeout=UPLOAD_TIMEOUT_S)
        return JobOut.model_validate_json(response.content)

    def download_export(self, job_id: str, path: Path) -> None:
        """Writes the Parquet file of a finished export to `path`, which appears when it is whole."""
        unfinished = path.with_name(f"{path.name}.part")
        with self._streamed("GET", _job_path(job_id) + "/export") as response, unfinished.open("wb") as file:
            for piece in response.iter_bytes(_PIECE):
                file.write(piece)
        unfinished.replace(path)

    def import_file(self, path: Path, collection: str) -> JobOut:
        response = self._send(
            "POST",
            _move_path(collection, "import"),
            headers={
                "Content-Type": "application/vnd.apache.parquet",
                "Content-Length": str(path.stat().st_size),
            },
            content=_pieces(path),
            timeout=UPLOAD_TIMEOUT_S,
        )
        return JobOut.model_validate_json(response.content)

    def reindex(self, collection: str, model: str, *, allow_missing: bool = False) -> JobOut:
        """The server may download the model first."""
        body = {"model": model, "allow_missing": allow_missing}
        path = _move_path(collection, "reindex")
        response = self._send("POST", path, json=body, timeout=UPLOAD_TIMEOUT_S)
        return JobOut.model_validate_json(response.content)

    def search(self, query: JsonObject, images: Sequence[Path] = ()) -> JsonObject:
        """`query` is the body of POST /v1/search; `images` are example pictures' files."""
        if not images:
            return self._json("POST", "/v1/search", json=query)
        files = [("image", (path.name, path.read_bytes(), _media_type(path.name))) for path in images]
        part = ("query", (None, json.dumps(query).encode(), "application/json"))
        return self._json("POST", "/v1/search", files=[part, *files])

    def duplicates(self, options: JsonObject, limit: int) -> JsonObject:
        """The first `limit` groups of GET /v1/duplicates; `options` are its parameters, None left out."""
        params = {name: value for name, value in options.items() if value is not None}
        answer: JsonObject = {}
        groups: list[JsonObject] = []
        while len(groups) < limit and answer.get("next_cursor", "first"):
            place = {"cursor": answer["next_cursor"]} if answer else {}
            size = {"limit": min(limit - len(groups), MOST_GROUPS)}
            answer = self._json(
                "GET", "/v1/duplicates", params={**params, **size, **place}, timeout=COMPARE_TIMEOUT_S
            )
            groups += answer["groups"]
        return {**answer, "groups": groups}

    def collections(self) -> list[JsonObject]:
        found: list[JsonObject] = self._json("GET", "/v1/collections")["collections"]
        return found

    def create_collection(self, name: str) -> JsonObject:
        return self._json("POST", "/v1/collections", json={"name": name})

    def delete_collection(self, name: str) -> None:
        self._send("DELETE", f"/v1/collections/{quote(name, safe='')}", timeout=UPLOAD_TIMEOUT_S)

    def ready(self, *, ingest: bool = False) -> tuple[bool, JsonObject]:
        """Whether the server can search (or take jobs), and what its dependencies say."""
        params = {"for": "ingest"} if ingest else {}
        response = self._request("GET", "/readyz", params=params)
        try:
            body: JsonObject = response.json()
        except ValueError:
            body = {}
        return response.status_code == 200, body

    def _json(self, method: str, path: str, **options: Any) -> JsonObject:
        body: JsonObject = self._send(method, path, **options).json()
        return body

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self._request(method, path, **options)
        if response.is_success:
            return response
        raise _refusal(response)

    @contextmanager
    def _streamed(self, method: str, path: str) -> Iterator[httpx.Response]:
        with self._translated(), self._http.stream(method, path) as response:
            if not response.is_success:
                response.read()
                raise _refusal(response)
            yield response

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._translated():
            return self._http.request(method, path, **options)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            raise ApiError(0, "timeout", f"{self._url} did not answer in time") from None
        except httpx.ConnectError:
            hint = "is it running? IMAGE_SEARCH_URL says where"
            raise ApiError(0, "unreachable", f"no server answers at {self._url} ({hint})") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ApiError(0, "unreachable", f"talking to {self._url} failed: {error}") from None


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def _refusal(response: httpx.Response) -> ApiError:
    try:
        problem = response.json()
        return ApiError(response.status_code, problem["code"], problem["detail"], problem.get("errors", ()))
    except (ValueError, KeyError, TypeError):
        detail = f"the server answered {response.status_code} {response.reason_phrase}"
        return ApiError(response.status_code, "http_status", detail)


def _job_path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _move_path(collection: str, move: str) -> str:
    return f"/v1/collections/{quote(collection, safe='')}/{move}"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _ndjson(items: Iterable[str | JsonObject]) -> Iterator[bytes]:
    piece = bytearray()
    for item in items:
        piece += json.dumps({"url": item} if isinstance(item, str) else item).encode() + b"\n"
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _batches(files: Iterable[tuple[Path, str]]) -> Iterator[list[tuple[Path, str]]]:
    batch: list[tuple[Path, str]] = []
    size = 0
    for path, name in files:
        alone = is_archive(path)
        length = path.stat().st_size
        if batch and (alone or len(batch) == BATCH_FILES or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        if alone:
            yield [(path, name)]
            continue
        batch.append((path, name))
        size += length
    if batch:
        yield batch


# httpx would open every file of a batch at once, which can be more than a process may.
def _multipart(files: Sequence[tuple[Path, str]], fields: dict[str, str], boundary: str) -> Iterator[bytes]:
    for name, value in fields.items():
        yield f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    for path, name in files:
        shown = "".join(f"%{ord(char):02X}" if char in '"\r\n\\' else char for char in name)
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{shown}"\r\n'
            f"Content-Type: {_media_type(name)}\r\n\r\n"
        ).encode(errors="replace")
        yield from _pieces(path)
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
