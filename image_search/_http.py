"""How the steps of a flow are done: requests go over the wire with httpx.

The clients import this when one is made, so that `import image_search` does not wait for httpx.
"""

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import aclosing, closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from image_search._answers import VERSION, check_version, is_asked_for, refusal, shown
from image_search._bodies import PIECE_BYTES, PIECE_SECONDS
from image_search._core import Pause, Request, Step, Work
from image_search._operations.search import Term
from image_search.errors import INVALID_REQUEST, TIMEOUT, TLS, UNREACHABLE, ApiError

_MAX_BATCH = 256


class SyncHttp:
    """One server, asked in the calling thread."""

    def __init__(
        self, url: str, api_key: str | None, timeout: float, transport: httpx.BaseTransport | None
    ) -> None:
        with _checked_settings(url, api_key, timeout) as settings:
            self._http = httpx.Client(transport=transport, **settings)
        self.url = shown(self._http.base_url)

    def do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Work):
            return step.call()
        return self._send(step)

    def close(self) -> None:
        self._http.close()

    def _send(self, request: Request) -> httpx.Response:
        sent = _built(self._http, request, request.body() if request.body else None)
        with _translated(self.url), closing(self._http.send(sent, stream=True)) as response:
            if request.into is None or not is_asked_for(response, request.media):
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
        with _checked_settings(url, api_key, timeout) as settings:
            self._http = httpx.AsyncClient(transport=transport, **settings)
        self.url = shown(self._http.base_url)

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
        sent = _built(self._http, request, _threaded(request.body()) if request.body else None)
        with _translated(self.url):
            async with aclosing(await self._http.send(sent, stream=True)) as response:
                if request.into is None or not is_asked_for(response, request.media):
                    await response.aread()
                else:
                    with request.into.open("wb") as file:
                        async for piece in response.aiter_bytes(PIECE_BYTES):
                            await asyncio.to_thread(file.write, piece)
        return _checked(response, request)


@contextmanager
def _checked_settings(url: str, api_key: str | None, timeout: float) -> Iterator[dict[str, Any]]:
    """Yield httpx's settings. Raises ApiError for what is no address of a server, or no key."""
    headers, url = {"User-Agent": f"image-search/{VERSION}"}, url.strip()
    if api_key := (api_key or "").strip():
        if not (api_key.isascii() and api_key.isprintable()):
            raise ApiError(
                0, "invalid_key", "the API key has characters that no key has: is it copied whole?"
            )
        headers["Authorization"] = f"Bearer {api_key}"
    own = os.environ.get("SSL_CERT_FILE")  # httpx alone trusts the authorities that it brings
    try:
        _check_address(url)
        verify = ssl.create_default_context(cafile=own) if own else True
        yield {
            "base_url": url, "headers": headers, "timeout": timeout, "trust_env": False, "verify": verify
        }  # fmt: skip
    except (httpx.InvalidURL, ValueError) as error:
        name = re.sub(r"//[^/@]*@", "//…@", url)
        raise ApiError(0, "invalid_url", f"{name!r} is not the address of a server: {error}") from None
    except OSError as error:
        raise ApiError(0, "invalid_url", f"SSL_CERT_FILE={own} cannot be used: {error}") from None


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it has to begin with http:// or https:// and a host name")
    if re.search(r"\s", url):
        raise ValueError("it has a space or a line break in it")
    if parts.query or parts.fragment:
        raise ValueError("it has to end before any ? or #")
    if "v1" in parts.path.split("/"):
        raise ValueError("it has to end before /v1, which is added")
    if parts.port == 0:  # a port that is no number is a ValueError
        raise ValueError("there is no port 0")
    parts.hostname.encode("idna")  # a UnicodeError, which is a ValueError, for what no name can be


def _built(
    http: httpx.Client | httpx.AsyncClient,
    request: Request,
    content: Iterator[bytes] | AsyncIterator[bytes] | None,
) -> httpx.Request:
    options: dict[str, Any] = {} if request.timeout is None else {"timeout": request.timeout}
    try:
        return http.build_request(
            request.method,
            request.path,
            params=request.params,
            headers=request.headers,
            json=request.json,
            files=request.files,
            content=content,
            **options,
        )
    except (ValueError, TypeError) as error:  # such as NaN, a date, or a text that is no Unicode
        raise ApiError(0, INVALID_REQUEST, f"this cannot be sent: {error}") from None


def _checked(response: httpx.Response, request: Request) -> httpx.Response:
    check_version(response)
    if is_asked_for(response, request.media) or response.status_code in request.expected:
        return response
    raise refusal(response)


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        code, hint = _reason(error)
        raise ApiError(0, code, f"no server answers at {url} ({hint})") from None
    except httpx.TimeoutException:
        raise ApiError(0, TIMEOUT, f"{url} did not answer in time") from None
    except httpx.LocalProtocolError as error:
        raise ApiError(0, INVALID_REQUEST, f"this cannot be sent: {error}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        want = ", or the server wants https://" if url.startswith("http://") else ""
        why = str(error) or type(error).__name__
        raise ApiError(
            0, UNREACHABLE, f"the connection to {url} broke off ({why}): a proxy may have ended it{want}"
        ) from None


def _reason(error: BaseException) -> tuple[str, str]:
    """Say why no connection was made and what to do, by the error beneath httpx's own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return UNREACHABLE, "the host name is not known: is it spelled right?"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TLS, f"{cause.verify_message}: SSL_CERT_FILE names a file of certificates to trust"
        if isinstance(cause, ssl.SSLError):
            return TLS, "it does not speak TLS: is it http://?"
        cause = cause.__cause__ or cause.__context__
    return UNREACHABLE, "is it running? `url` says where, on the command line IMAGE_SEARCH_URL"


async def _threaded(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield pieces that are read from files, without holding up whatever else the loop has to do."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
