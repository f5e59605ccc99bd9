"""Clients of the HTTP API: `Client`, and `AsyncClient` with the same methods to await.

Their methods are the operations of _operations/ (_runners.py says how).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from image_search._core import MAX_RETRIES, Step
from image_search._operations.search import Term
from image_search._operations.sources import SourceOperations
from image_search._runners import AsyncRunner, SyncRunner, with_operations
from image_search.models.images import Image, ImagePage
from image_search.models.jobs import Item, ItemPage

if TYPE_CHECKING:
    import httpx

URL = "http://127.0.0.1:8000"
TIMEOUT_SECONDS = 30.0
_PAGE_LIMIT = 500

Page = TypeVar("Page", ImagePage, ItemPage)


@with_operations
class Client(SourceOperations, SyncRunner):
    """A client of one image-search server.

        with Client("http://127.0.0.1:8000") as client:
            client.ingest("photos").wait(progress=True)
            for hit in client.search("a red car").results:
                print(hit.score, hit.source)

    Every method raises ApiError when the server refuses or does not answer. What can be repeated safely is
    sent up to `retries` times more when the connection fails or the server answers 429, 502, 503 or 504. Use
    it as a context manager, or `close` it. Threads may share one.

    In the signatures below a Term is a text or an object of the API such as `{"image_id": "…", "weight":
    0.5}`, an ImageLike a file (Path), its bytes, a URL or a stored image's id, and `collection` is `images`
    where it is None.

    Args:
        url: the server's address.
        api_key: the key, where the server has any.
        timeout: seconds that the server may be silent; uploads and comparisons of all images get more.
        transport: how requests are sent, for tests (`httpx.MockTransport`, `httpx.WSGITransport`).
        retries: how often a request is repeated at most.

    Raises:
        ApiError: with the code `invalid_url`, for what is not the address of a server.
    """

    def __init__(
        self,
        url: str = URL,
        api_key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
        retries: int = MAX_RETRIES,
    ) -> None:
        from image_search._http import SyncHttp  # noqa: PLC0415 - _http.py says why

        super().__init__(retries)
        self._http = SyncHttp(url, api_key, timeout, transport)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._http.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def iter_items(self, job_id: str, status: str | None = None) -> Iterator[Item]:
        """Yield every item of a job, or those in one state."""
        for page in _pages(lambda cursor: self.items(job_id, status, limit=_PAGE_LIMIT, cursor=cursor)):
            yield from page.items

    def iter_images(
        self,
        *,
        filters: Mapping[str, Any] | None = None,
        order_by: Literal["-created_at"] | None = None,
        collection: str | None = None,
    ) -> Iterator[Image]:
        """Yield every image of a collection, or those that match, as `images` orders them."""
        options = _listing(filters, order_by, collection)
        for page in _pages(lambda cursor: self.images(cursor=cursor, **options)):
            yield from page.images

    def _do(self, step: Step) -> Any:
        return self._http.do(step)


@with_operations
class AsyncClient(SourceOperations, AsyncRunner):
    """A client of one image-search server, whose methods are awaited. The rest is as for `Client`.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            job = await client.ingest("photos")
            await job.wait()
            answer = await client.search("a red car")

    What `ingest` is given may also be an asynchronous iterator. Files are read in threads.
    """

    def __init__(
        self,
        url: str = URL,
        api_key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        retries: int = MAX_RETRIES,
    ) -> None:
        from image_search._http import AsyncHttp  # noqa: PLC0415 - _http.py says why

        super().__init__(retries)
        self._http = AsyncHttp(url, api_key, timeout, transport)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._http.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def iter_items(self, job_id: str, status: str | None = None) -> AsyncIterator[Item]:
        """Yield every item of a job, or those in one state."""
        async for page in _async_pages(
            lambda cursor: self.items(job_id, status, limit=_PAGE_LIMIT, cursor=cursor)
        ):
            for item in page.items:
                yield item

    async def iter_images(
        self,
        *,
        filters: Mapping[str, Any] | None = None,
        order_by: Literal["-created_at"] | None = None,
        collection: str | None = None,
    ) -> AsyncIterator[Image]:
        """Yield every image of a collection, or those that match, as `images` orders them."""
        options = _listing(filters, order_by, collection)
        async for page in _async_pages(lambda cursor: self.images(cursor=cursor, **options)):
            for image in page.images:
                yield image

    async def _do(self, step: Step) -> Any:
        return await self._http.do(step)

    def _synchronous(self, items: AsyncIterable[Term]) -> Iterable[Term]:
        return self._http.synchronous(items)


def _listing(
    filters: Mapping[str, Any] | None, order_by: Literal["-created_at"] | None, collection: str | None
) -> dict[str, Any]:
    return {"filters": filters, "order_by": order_by, "collection": collection, "limit": _PAGE_LIMIT}


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
