"""Fetching files from URLs that strangers wrote.

The addresses of a name are looked up once and checked, and the connection is made to one of those very
addresses; the name stays in TLS and in the Host header. Redirects are followed here, so that each hop is
checked the same way.
"""

import email.utils
import re
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus

import httpcore
import httpx

from shared.download.addresses import HOST_NAME, AddressPolicy, canonical_host
from shared.download.host_limits import HostLimits
from shared.download.own_services import DEFAULT_PORTS, FETCH_HEADER, OwnServices
from shared.download.resolver import Resolver
from shared.errors import ItemError
from shared.version import VERSION

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_CONNECTIONS = 512
_KEEPALIVE_SECONDS = 5.0
# One pool walks all its idle connections, each against each, for every request; a crawl leaves hundreds idle.
_POOLS = 32
_MAX_DRAINED_BYTES = 16 * 1024
_MAX_RETRY_AFTER_SECONDS = 86400.0
_WRITE_SIZE = 64 * 1024
_INFLATE_SIZE = 64 * 1024

_DIRECTIVES_WITH_VALUE = {"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"}

_PLAIN = ("", "identity")  # content encodings

Headers = list[tuple[bytes, bytes]]


class Downloader:
    """A client for URLs of strangers, safe to share between threads; make it after a fork, not before.

    `timeout_s` bounds a whole call, redirects and all. `allow_hosts` (AddressPolicy) may be reached although
    they are not public; raises ConfigError for a malformed one. What is at `own_urls` is never reached. A
    file whose X-Robots-Tag has one of `refused_robots_tags` is refused.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        max_bytes: int,
        allow_hosts: Sequence[str],
        own_urls: Sequence[str] = (),
        refused_robots_tags: Sequence[str] = (),
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._refused_robots_tags = {tag.lower() for tag in refused_robots_tags}
        self._policy = AddressPolicy(allow_hosts)
        self._resolver = Resolver()
        self._call = _Call()
        self._own = OwnServices(own_urls, self._look_up)
        backend = _CheckedBackend(self._look_up, self._check, self._call)
        context = httpx.create_ssl_context()
        self._pools = [_pool(backend, context) for _ in range(_POOLS)]
        self._user_agent = f"image-search/{VERSION} (+bulk image ingestion)".encode()

    def get(
        self, url: str, limits: HostLimits | None = None, *, hold: Callable[[int], None] = lambda _: None
    ) -> bytes:
        """Return the content of `url`, never empty, within `limits` at each host that is not allowed by name.

        `hold` is called before the content is read, with the most bytes that it may have, and may wait: that
        is not taken off the deadline. Raises ItemError: invalid_url, blocked_address, dns_error,
        connect_error, timeout, http_status, too_many_redirects, too_large or not_an_image; and what `limits`
        and `hold` raise.
        """
        self._call.start(self._timeout_s, " (IMAGE_SEARCH_FETCH_TIMEOUT_S)")
        target = _parse(url)
        for _ in range(MAX_REDIRECTS + 1):
            with (
                self._turn(target, limits),
                _item_errors(self._call),
                self._request("GET", target) as response,
            ):
                location = _location(response)
                if location is None:
                    return self._body(response, hold)
                _drain(response)
            target = _join(target, location)
        raise ItemError("too_many_redirects", f"more than {MAX_REDIRECTS} redirects")

    def check(self, url: str, timeout_s: float | None = None) -> None:
        """Check a URL and its addresses only. Raises ItemError: invalid_url, blocked_address or dns_error."""
        self._call.start(timeout_s or self._timeout_s)
        self._permitted(_parse(url))

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float | None = None) -> int:
        """Return the status of `url`'s answer, redirects not followed. Raises ItemError as `get` does."""
        self._call.start(timeout_s or self._timeout_s)
        extra = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        with _item_errors(self._call), self._request("POST", _parse(url), body, extra) as response:
            _drain(response)
            return response.status

    def close(self) -> None:
        for pool in self._pools:
            pool.close()

    @contextmanager
    def _turn(self, url: httpx.URL, limits: HostLimits | None) -> Iterator[None]:
        """Wait for the host's turn, which is not taken off the deadline; the block is one request."""
        host = _host(url)
        if limits is None or self._policy.exempts(host, _port(url), self._permitted(url)):
            yield
            return
        before = time.monotonic()
        turn = limits.wait(host)
        self._call.deadline += time.monotonic() - before
        failure = None
        try:
            yield
        except ItemError as error:
            failure = error
            raise
        finally:
            limits.report(host, turn, failure)

    def _permitted(self, url: httpx.URL) -> list[str]:
        """Return the host's addresses. Raises ItemError: dns_error or blocked_address."""
        addresses = self._look_up(_host(url))
        self._check(_host(url), _port(url), addresses)
        return addresses

    def _look_up(self, host: str) -> list[str]:
        return self._resolver.addresses(host, self._call.left())

    def _check(self, host: str, port: int, addresses: Iterable[str]) -> None:
        """Raise ItemError `blocked_address` if the host must not be reached at one of its addresses."""
        for address in addresses:
            if not self._policy.permits(host, port, address):
                raise ItemError("blocked_address", "the host's address is not a public one")
            if self._own.include(host, port, address):
                raise ItemError("blocked_address", "this service itself is at that address and port")

    @contextmanager
    def _request(
        self, method: str, url: httpx.URL, body: bytes | None = None, extra: Headers | None = None
    ) -> Iterator[httpcore.Response]:
        headers = [
            (b"Host", url.netloc),
            (b"User-Agent", self._user_agent),
            (FETCH_HEADER.encode(), b"1"),
            (b"Accept", b"image/*, */*;q=0.5"),
            (b"Accept-Encoding", b"identity"),
            *([] if body is None else [(b"Content-Length", str(len(body)).encode())]),
            *(extra or []),
        ]
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        request = httpcore.Request(
            method, target, headers=headers, content=body, extensions=self._call.extensions()
        )
        pool = self._pools[hash(target.origin.host) % _POOLS]
        response = self._send(pool, request)
        try:
            yield response
        finally:
            response.close()

    def _send(self, pool: httpcore.ConnectionPool, request: httpcore.Request) -> httpcore.Response:
        """Send a request, a second time where the server had closed the connection that was kept open."""
        self._call.connected = False
        try:
            return pool.handle_request(request)
        except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
            if self._call.connected or request.method != b"GET":
                raise
        return pool.handle_request(request)

    def _body(self, response: httpcore.Response, hold: Callable[[int], None]) -> bytes:
        if not 200 <= response.status < 300:
            raise _status_error(response)
        if refused := self._refused_robots_tags & _robots_tags(response):
            raise ItemError("http_status", f"the server's X-Robots-Tag says {sorted(refused)[0]}")
        length = _header(response, b"content-length")
        if length.isdigit() and int(length) > self._max_bytes:
            raise ItemError.too_large(self._max_bytes)
        encoding, before = _header(response, b"content-encoding").lower(), time.monotonic()
        hold(int(length) if length.isdigit() and encoding in _PLAIN else self._max_bytes)
        self._call.deadline += time.monotonic() - before
        content = bytearray()
        for part in _inflated(response.iter_stream(), encoding):
            content += part
            if len(content) > self._max_bytes:
                raise ItemError.too_large(self._max_bytes)
            self._call.left()
        if not content:
            raise ItemError("not_an_image", "the answer is empty")
        return bytes(content)


class _Call(threading.local):
    """The state of this thread's call: its deadline, and whether it made a connection."""

    deadline = 0.0
    connected = False
    limit = ""

    def start(self, timeout_s: float, setting: str = "") -> None:
        self.deadline = time.monotonic() + timeout_s
        self.limit = f"{timeout_s:g} s{setting}"

    def left(self) -> float:
        """Return the seconds to the deadline, above zero. Raises ItemError `timeout` past it."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self.timed_out()
        return left

    def timed_out(self) -> ItemError:
        return ItemError("timeout", f"the answer took longer than {self.limit}")

    def extensions(self) -> dict[str, dict[str, float]]:
        # Only the wait for the pool goes by this: the streams ask for what is left at each step.
        return {"timeout": {"pool": self.left()}}


class _CheckedBackend(httpcore.NetworkBackend):
    """A network backend that connects to checked addresses only, within the calling thread's deadline."""

    def __init__(
        self,
        look_up: Callable[[str], list[str]],
        check: Callable[[str, int, Iterable[str]], None],
        call: _Call,
    ) -> None:
        self._look_up = look_up
        self._check = check
        self._call = call
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to `host`, looked up here and nowhere else. Raises ItemError or httpcore's errors."""
        addresses = self._look_up(host)
        self._check(host, port, addresses)
        self._call.connected = True
        for tried, address in enumerate(addresses[:-1]):
            share = self._call.left() / (len(addresses) - tried)
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._connect(host, address, port, share)
        return self._connect(host, addresses[-1], port, self._call.left())

    def _connect(self, host: str, address: str, port: int, timeout: float) -> httpcore.NetworkStream:
        stream = self._sockets.connect_tcp(address, port, timeout)
        try:
            self._check(host, port, [str(stream.get_extra_info("server_addr")[0])])
        except ItemError:
            stream.close()
            raise
        return _DeadlineStream(stream, self._call)


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose every step ends by the deadline of its thread's call."""

    def __init__(self, stream: httpcore.NetworkStream, call: _Call) -> None:
        self._stream = stream
        self._call = call

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._call.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE_SIZE):
            self._stream.write(buffer[start : start + _WRITE_SIZE], self._call.left())

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._call.left())
        return _DeadlineStream(stream, self._call)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _pool(backend: httpcore.NetworkBackend, context: ssl.SSLContext) -> httpcore.ConnectionPool:
    return httpcore.ConnectionPool(
        ssl_context=context,
        max_connections=_MAX_CONNECTIONS,
        max_keepalive_connections=_MAX_CONNECTIONS,
        keepalive_expiry=_KEEPALIVE_SECONDS,
        network_backend=backend,
    )


def _parse(url: str) -> httpx.URL:
    """Parse a URL into a canonical one. Raises ItemError `invalid_url`."""
    try:
        parsed = httpx.URL(_dotted_host(url.strip()))
        host = canonical_host(parsed.raw_host.decode("ascii"))
        parsed = parsed.copy_with(host=host, fragment=None)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise ItemError("invalid_url", "the URL is malformed") from None
    if parsed.scheme not in ("http", "https"):
        raise ItemError("invalid_url", "the URL does not begin with http:// or https://")
    if parsed.userinfo:
        raise ItemError("invalid_url", "the URL carries credentials")
    if not _is_host(host) or (parsed.port is not None and not 0 < parsed.port < 65536):
        raise ItemError("invalid_url", "the URL has no valid host")
    return parsed


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")


def _port(url: httpx.URL) -> int:
    return url.port or DEFAULT_PORTS[url.scheme]


def _dotted_host(url: str) -> str:
    """Return the URL with an octal or otherwise odd IPv4 host made dotted decimal, as httpx.URL needs it."""
    match = re.match(r"(?i)(https?://)([0-9][0-9a-fx.]*)(?=[:/?#]|$)", url)
    return url if match is None else f"{match[1]}{canonical_host(match[2])}{url[match.end() :]}"


def _is_host(host: str) -> bool:
    if ":" in host:
        return "%" not in host  # a zone is one machine's own name for a link
    return HOST_NAME.fullmatch(host) is not None


def _join(url: httpx.URL, location: str) -> httpx.URL:
    try:
        return _parse(str(url.join(_dotted_host(location.strip()))))
    except (httpx.InvalidURL, ValueError):
        raise ItemError("invalid_url", "it redirects to a malformed URL") from None
    except ItemError as error:
        raise ItemError(error.code, f"after a redirect: {error.detail}") from None


def _header(response: httpcore.Response, name: bytes) -> str:
    return next(
        (value.decode("latin-1").strip() for key, value in response.headers if key.lower() == name), ""
    )


def _robots_tags(response: httpcore.Response) -> set[str]:
    """Return the directives of X-Robots-Tag that are for everybody or for us, in lower case."""
    found = set()
    for name, value in response.headers:
        if name.lower() != b"x-robots-tag":
            continue
        agent = "*"
        for part in value.decode("latin-1").lower().split(","):
            before, colon, rest = part.strip().partition(":")
            if colon and before not in _DIRECTIVES_WITH_VALUE:
                agent, before = before, rest.strip()
            if agent in ("*", "image-search"):
                found.add(before)
    return found


def _location(response: httpcore.Response) -> str | None:
    if response.status not in _REDIRECTS:
        return None
    raw = next((value for key, value in response.headers if key.lower() == b"location"), None)
    return None if raw is None else raw.decode("utf-8", "replace")


def _drain(response: httpcore.Response) -> None:
    """Read a short rest, so that the connection can be kept; a longer one is cheaper to break off."""
    length = _header(response, b"content-length")
    if length.isdigit() and int(length) <= _MAX_DRAINED_BYTES:
        with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ItemError):
            response.read()


def _inflated(parts: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the parts without their Content-Encoding, in steps small enough to count a bomb as it unpacks."""
    if encoding in _PLAIN:
        yield from parts
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ItemError("not_an_image", "the answer has a Content-Encoding that was not asked for")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for part in parts:
            rest = part
            while rest and not inflate.eof:
                yield inflate.decompress(rest, _INFLATE_SIZE)
                rest = inflate.unconsumed_tail
    except zlib.error:
        raise _broken_off() from None
    if not inflate.eof:
        raise _broken_off()


def _status_error(response: httpcore.Response) -> ItemError:
    status = response.status
    try:
        detail = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        detail = str(status)
    _drain(response)
    retry_after_s = _retry_after_s(_header(response, b"retry-after"))
    return ItemError("http_status", detail, http_status=status, retry_after_s=retry_after_s)


def _retry_after_s(value: str) -> float | None:
    """Return the seconds of a Retry-After in either form (RFC 9110, 10.2.3); None for anything else."""
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)


@contextmanager
def _item_errors(call: _Call) -> Iterator[None]:
    """Turn httpcore's errors into ItemError."""
    try:
        yield
    except httpcore.TimeoutException:
        raise call.timed_out() from None
    except httpcore.UnsupportedProtocol:
        raise ItemError("invalid_url", "the URL does not begin with http:// or https://") from None
    except httpcore.ProtocolError:
        raise _broken_off() from None
    except httpcore.NetworkError as error:
        raise ItemError("connect_error", _connection_fault(error)) from None


def _connection_fault(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "the server's certificate is not trusted"
    if isinstance(cause, ssl.SSLError):
        return "the TLS connection failed"
    if isinstance(cause, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(cause, ConnectionResetError | BrokenPipeError):
        return "the connection was reset"
    return "the connection failed"


def _broken_off() -> ItemError:
    return ItemError("connect_error", "the answer broke off or was not valid HTTP")
