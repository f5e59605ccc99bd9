"""How the steps of a flow are done: requests go over the wire with httpx.

The clients import this when one is made, so that `import image_search` does not wait for httpx.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from image_search._answers import VERSION, check_version, refusal
from image_search._bodies import PIECE_BYTES, PIECE_SECONDS
from image_search._core import Pause, Request, Step, Work
from image_search._operations import Term
from image_search.errors import TIMEOUT, UNREACHABLE, ApiError

_MAX_BATCH = 256


class SyncHttp:
    """One server, asked in the calling thread."""

    def __init__(
        self, url: str, api_key: str | None, timeout: float, transport: httpx.BaseTransport | None
    ) -> None:
        self._url = url
        with _checked_settings(url, api_key, timeout) as settings:
            self._http = httpx.Client(transport=transport, **settings)

    def do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Work):
            return step.call()
        return self._send(step)

    def close(self) -> None:
        self._http.close()

    def _send(self, request: Request) -> httpx.Response:
        content = request.body() if request.body else None
        with _translated(self._url), self._http.stream(**_options(request), content=content) as response:
            if request.into is None or not response.is_success:
                response.read()
            else:
                with request.into.open("wb") as file:
                    for piece in response.iter_bytes(PIECE_BYTES):
                        file.write(piece)
        return _checked(response, request)


class AsyncHttp:
    """One server, asked on the running loop; files are read and written in threads."""

    def __init__(
        self, url: str, api_key: str | None, timeout: float, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        self._url = url
        with _checked_settings(url, api_key, timeout) as settings:
            self._http = httpx.AsyncClient(transport=transport, **settings)

    async def do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.call)
        return await self._send(step)

    async def close(self) -> None:
        await self._http.aclose()

    def synchronous(self, items: AsyncIterable[Term]) -> Iterator[Term]:
        """Return the items for a thread that reads them while the loop that they are made on goes on."""
        loop, source = asyncio.get_running_loop(), aiter(items)

        async def take() -> list[Term]:
            taken: list[Term] = []
            begun = time.monotonic()
            async for item in source:
                taken.append(item)
                if len(taken) == _MAX_BATCH or time.monotonic() - begun > PIECE_SECONDS:
                    break
            return taken

        def each() -> Iterator[Term]:
            while taken := asyncio.run_coroutine_threadsafe(take(), loop).result():
                yield from taken

        return each()

    async def _send(self, request: Request) -> httpx.Response:
        content = _threaded(request.body()) if request.body else None
        with _translated(self._url):
            async with self._http.stream(**_options(request), content=content) as response:
                if request.into is None or not response.is_success:
                    await response.aread()
                else:
                    with request.into.open("wb") as file:
                        async for piece in response.aiter_bytes(PIECE_BYTES):
                            await asyncio.to_thread(file.write, piece)
        return _checked(response, request)


@contextmanager
def _checked_settings(url: str, api_key: str | None, timeout: float) -> Iterator[dict[str, Any]]:
    """Yield httpx's settings. Raises ApiError for what is no address of a server, or no key."""
    headers = {"User-Agent": f"image-search/{VERSION}"}
    if api_key:
        if not (api_key.isascii() and api_key.isprintable()):
            raise ApiError(
                0, "invalid_key", "the API key has characters that no key has: is it copied whole?"
            )
        headers["Authorization"] = f"Bearer {api_key.strip()}"
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it has to begin with http:// or https:// and a host name")  # noqa: TRY301
        if parts.query or parts.fragment:
            raise ValueError("it has to end before any ? or #")  # noqa: TRY301
        yield {"base_url": url, "headers": headers, "timeout": timeout, "trust_env": False}
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
    check_version(response)
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


async def _threaded(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield pieces that are read from files, without holding up whatever else the loop has to do."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
