"""Clients of the HTTP API: `Client`, and `AsyncClient` with the same methods to await.

Both send what operations.py and job_operations.py say, by the rules of core.py.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from image_search._bodies import PIECE_BYTES, PIECE_SECONDS
from image_search._core import (
    RETRIES,
    TIMEOUT,
    UNREACHABLE,
    ApiError,
    Flow,
    Pause,
    Request,
    Steps,
    Work,
    refusal,
)
from image_search._handles import AsyncJobHandle, JobHandle
from image_search._job_operations import JobCalls
from image_search._operations import Term
from image_search.models.images import ImageOut, ImagesOut
from image_search.models.jobs import ItemOut, ItemsOut, JobOut

URL = "http://127.0.0.1:8000"
TIMEOUT_S = 30.0
_PAGE = 500
_TAKEN_AT_ONCE = 256

P = ParamSpec("P")
T = TypeVar("T")
Page = TypeVar("Page", ImagesOut, ItemsOut)


def _sync(make: Callable[Concatenate[JobCalls, P], Flow[T]]) -> Callable[Concatenate["Client", P], T]:
    @functools.wraps(make)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(make(self._calls, *args, **kwargs))

    return method


def _async(
    make: Callable[Concatenate[JobCalls, P], Flow[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    @functools.wraps(make)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(make(self._calls, *args, **kwargs))

    return method


def _sync_handle(
    make: Callable[Concatenate[JobCalls, P], Flow[list[JobOut]]],
) -> Callable[Concatenate["Client", P], JobHandle]:
    @functools.wraps(make)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> JobHandle:
        return JobHandle(self, [job.job_id for job in self._run(make(self._calls, *args, **kwargs))])

    return method


def _async_handle(
    make: Callable[Concatenate[JobCalls, P], Flow[list[JobOut]]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, AsyncJobHandle]]:
    @functools.wraps(make)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncJobHandle:
        return AsyncJobHandle(
            self, [job.job_id for job in await self._run(make(self._calls, *args, **kwargs))]
        )

    return method


class Client:
    """One server, one key. Every method raises ApiError. Use as a context manager, or `close` it.

    What can be repeated safely is sent up to `retries` times more when the connection fails or the server
    answers 429, 502, 503 or 504.
    """

    def __init__(
        self,
        url: str = URL,
        api_key: str | None = None,
        timeout: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
        retries: int = RETRIES,
    ) -> None:
        self._calls = JobCalls(retries)
        self._url = url.rstrip("/")
        with _address(url):
            self._http = httpx.Client(transport=transport, **_settings(self._url, api_key, timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    search = _sync(JobCalls.search)
    similar = _sync(JobCalls.similar)
    compare = _sync(JobCalls.compare)
    explain = _sync(JobCalls.explain)
    duplicates = _sync(JobCalls.duplicates)
    image = _sync(JobCalls.image)
    images = _sync(JobCalls.images)
    update_image = _sync(JobCalls.update_image)
    delete_image = _sync(JobCalls.delete_image)
    delete_key = _sync(JobCalls.delete_key)
    thumbnail = _sync(JobCalls.thumbnail)
    rendition = _sync(JobCalls.rendition)
    embedding = _sync(JobCalls.embedding)
    collections = _sync(JobCalls.collections)
    collection = _sync(JobCalls.collection)
    create_collection = _sync(JobCalls.create_collection)
    delete_collection = _sync(JobCalls.delete_collection)
    ready = _sync(JobCalls.ready)
    system = _sync(JobCalls.system)
    ingest_urls = _sync(JobCalls.ingest_urls)
    job = _sync(JobCalls.job)
    jobs = _sync(JobCalls.jobs)
    items = _sync(JobCalls.items)
    wait = _sync(JobCalls.wait)
    wait_for = _sync(JobCalls.wait_for)
    cancel = _sync(JobCalls.cancel)
    retry = _sync(JobCalls.retry)
    export = _sync(JobCalls.export)
    download_export = _sync(JobCalls.download_export)
    import_file = _sync(JobCalls.import_file)
    import_export = _sync(JobCalls.import_export)
    reindex = _sync(JobCalls.reindex)

    ingest = _sync_handle(JobCalls.ingest)

    def iter_items(self, job_id: str, status: str | None = None) -> Iterator[ItemOut]:
        """Every item of a job, or those in one state."""
        for page in _pages(lambda cursor: self.items(job_id, status, limit=_PAGE, cursor=cursor)):
            yield from page.items

    def iter_images(
        self, *, filters: Mapping[str, Any] | None = None, collection: str | None = None
    ) -> Iterator[ImageOut]:
        """Every picture of a collection, or those that match, in the order of their ids."""
        options: dict[str, Any] = {"filters": filters, "collection": collection, "limit": _PAGE}
        for page in _pages(lambda cursor: self.images(cursor=cursor, **options)):
            yield from page.images

    def _run(self, flow: Flow[T]) -> T:
        with closing(Steps(flow)) as steps:
            while (step := steps.next) is not None:
                try:
                    answer = self._do(step)
                except ApiError as error:
                    steps.fail(error)
                else:
                    steps.answer(answer)
            return steps.value

    def _do(self, step: Request | Pause | Work) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Work):
            return step.call()
        content = step.body() if step.body else None
        with _translated(self._url), self._http.stream(**_options(step), content=content) as response:
            if step.into is None or not response.is_success:
                response.read()
            else:
                with step.into.open("wb") as file:
                    for piece in response.iter_bytes(PIECE_BYTES):
                        file.write(piece)
        return _checked(response, step)


class AsyncClient:
    """The same to await: one server, one key, every method raises ApiError.

    What `ingest` is given may also be an asynchronous iterator. Files are read in threads.
    """

    def __init__(
        self,
        url: str = URL,
        api_key: str | None = None,
        timeout: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
        retries: int = RETRIES,
    ) -> None:
        self._calls = JobCalls(retries, synchronous=_synchronous)
        self._url = url.rstrip("/")
        with _address(url):
            self._http = httpx.AsyncClient(transport=transport, **_settings(self._url, api_key, timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    search = _async(JobCalls.search)
    similar = _async(JobCalls.similar)
    compare = _async(JobCalls.compare)
    explain = _async(JobCalls.explain)
    duplicates = _async(JobCalls.duplicates)
    image = _async(JobCalls.image)
    images = _async(JobCalls.images)
    update_image = _async(JobCalls.update_image)
    delete_image = _async(JobCalls.delete_image)
    delete_key = _async(JobCalls.delete_key)
    thumbnail = _async(JobCalls.thumbnail)
    rendition = _async(JobCalls.rendition)
    embedding = _async(JobCalls.embedding)
    collections = _async(JobCalls.collections)
    collection = _async(JobCalls.collection)
    create_collection = _async(JobCalls.create_collection)
    delete_collection = _async(JobCalls.delete_collection)
    ready = _async(JobCalls.ready)
    system = _async(JobCalls.system)
    ingest_urls = _async(JobCalls.ingest_urls)
    job = _async(JobCalls.job)
    jobs = _async(JobCalls.jobs)
    items = _async(JobCalls.items)
    wait = _async(JobCalls.wait)
    wait_for = _async(JobCalls.wait_for)
    cancel = _async(JobCalls.cancel)
    retry = _async(JobCalls.retry)
    export = _async(JobCalls.export)
    download_export = _async(JobCalls.download_export)
    import_file = _async(JobCalls.import_file)
    import_export = _async(JobCalls.import_export)
    reindex = _async(JobCalls.reindex)
    ingest = _async_handle(JobCalls.ingest)

    async def iter_items(self, job_id: str, status: str | None = None) -> AsyncIterator[ItemOut]:
        """Every item of a job, or those in one state."""
        async for page in _async_pages(lambda cursor: self.items(job_id, status, limit=_PAGE, cursor=cursor)):
            for item in page.items:
                yield item

    async def iter_images(
        self, *, filters: Mapping[str, Any] | None = None, collection: str | None = None
    ) -> AsyncIterator[ImageOut]:
        """Every picture of a collection, or those that match, in the order of their ids."""
        options: dict[str, Any] = {"filters": filters, "collection": collection, "limit": _PAGE}
        async for page in _async_pages(lambda cursor: self.images(cursor=cursor, **options)):
            for image in page.images:
                yield image

    async def _run(self, flow: Flow[T]) -> T:
        with closing(Steps(flow)) as steps:
            while (step := steps.next) is not None:
                try:
                    answer = await self._do(step)
                except ApiError as error:
                    steps.fail(error)
                else:
                    steps.answer(answer)
            return steps.value

    async def _do(self, step: Request | Pause | Work) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.call)
        content = _threaded(step.body()) if step.body else None
        with _translated(self._url):
            async with self._http.stream(**_options(step), content=content) as response:
                if step.into is None or not response.is_success:
                    await response.aread()
                else:
                    with step.into.open("wb") as file:
                        async for piece in response.aiter_bytes(PIECE_BYTES):
                            await asyncio.to_thread(file.write, piece)
        return _checked(response, step)


def _settings(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": url, "headers": headers, "timeout": timeout, "trust_env": False}


@contextmanager
def _address(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.InvalidURL, ValueError) as error:
        raise ApiError(0, "invalid_url", f"{url!r} is not the address of a server: {error}") from None


def _options(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": request.params,
        "headers": request.headers,
        "json": request.json,
        "files": request.files,
    }
    return options if request.timeout is None else {**options, "timeout": request.timeout}


def _checked(response: httpx.Response, request: Request) -> httpx.Response:
    if response.is_success or response.status_code in request.expected:
        return response
    raise refusal(response)


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout):
        hint = "is it running? IMAGE_SEARCH_URL says where"
        raise ApiError(0, UNREACHABLE, f"no server answers at {url} ({hint})") from None
    except httpx.TimeoutException:
        raise ApiError(0, TIMEOUT, f"{url} did not answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ApiError(0, UNREACHABLE, f"talking to {url} failed: {error}") from None


def _pages(ask: Callable[[str | None], Page]) -> Iterator[Page]:
    page = ask(None)
    yield page
    while page.next_cursor is not None:
        page = ask(page.next_cursor)
        yield page


async def _async_pages(ask: Callable[[str | None], Coroutine[Any, Any, Page]]) -> AsyncIterator[Page]:
    page = await ask(None)
    yield page
    while page.next_cursor is not None:
        page = await ask(page.next_cursor)
        yield page


async def _threaded(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces that are read from files, without holding up whatever else the loop has to do."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _synchronous(items: AsyncIterable[Term]) -> Iterator[Term]:
    """The items for a thread that reads them while the loop that they are made on goes on.

    Called on that loop.
    """
    loop, source = asyncio.get_running_loop(), aiter(items)

    async def take() -> list[Term]:
        taken: list[Term] = []
        begun = time.monotonic()
        async for item in source:
            taken.append(item)
            if len(taken) == _TAKEN_AT_ONCE or time.monotonic() - begun > PIECE_SECONDS:
                break
        return taken

    def each() -> Iterator[Term]:
        while taken := asyncio.run_coroutine_threadsafe(take(), loop).result():
            yield from taken

    return each()
