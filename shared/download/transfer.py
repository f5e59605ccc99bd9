"""One HTTP request by libcurl, to a checked address.

libcurl's parser forgives what browsers forgive of old and odd servers. Here it looks up no names, follows no
redirects and unpacks no content: the addresses come from the caller, and are checked once more when a socket
is made for one, and as the peer of the connection that a request goes over.
"""

import errno
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pycurl

from shared.download.deadline import Deadline
from shared.download.request_urls import RequestUrl
from shared.errors import ItemError

Headers = list[tuple[bytes, bytes]]
Sink = Callable[[bytes], None]
Check = Callable[[str, int, Sequence[str]], None]

_TOO_LARGE = 100  # CURLE_TOO_LARGE, which pycurl does not name
# What is to blame is the host or the way to it, and another time may be better; all else is final.
_TRANSIENT = {
    pycurl.E_SSL_CONNECT_ERROR: "the TLS connection failed",
    pycurl.E_SSL_CIPHER: "the TLS connection failed",
    pycurl.E_COULDNT_CONNECT: "the connection failed",
    pycurl.E_RECV_ERROR: "the answer broke off",
    pycurl.E_SEND_ERROR: "the answer broke off",
    pycurl.E_PARTIAL_FILE: "the answer broke off",
    pycurl.E_GOT_NOTHING: "the host closed the connection without an answer",
}
_OS_ERRORS = {
    errno.ECONNREFUSED: "the connection was refused",
    errno.ECONNRESET: "the connection was reset",
    errno.EPIPE: "the connection was reset",
}
_FINAL = {
    pycurl.E_PEER_FAILED_VERIFICATION: "the server's certificate is not trusted",
    _TOO_LARGE: "the answer's headers are longer than 300 kB",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a host at one of `addresses`; `headers` are whole lines, Host is not among them."""

    method: str
    url: RequestUrl
    addresses: Sequence[str]
    headers: Sequence[str]
    body: bytes | None = None


@dataclass(slots=True)
class Answer:
    """The head of an answer, its headers' names in lower case."""

    status: int = 0
    headers: Headers = field(default_factory=list)

    def header(self, name: bytes) -> str:
        """Return the first header of this name, or an empty string."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


def transfer(
    handle: pycurl.Curl,
    request: Request,
    deadline: Deadline,
    check: Check,
    begin: Callable[[Answer], Sink],
) -> None:
    """Make a request; the content of the answer goes into the sink that `begin` returns for its head.

    `check` raises ItemError for a host, a port and addresses that must not be reached. Raises ItemError, and
    what `begin` and the sink raise.
    """
    callbacks = _Callbacks(request.url, deadline, check, begin)
    url = request.url
    for option, value in (
        (pycurl.URL, str(url.url)),  # which cookies go by
        (pycurl.REQUEST_TARGET, url.path),
        (pycurl.CUSTOMREQUEST, request.method),
        (pycurl.HTTPHEADER, [f"Host: {url.netloc}", *request.headers, "Expect:"]),
        (pycurl.RESOLVE, _pinned(url, request.addresses)),
        (pycurl.CONNECTTIMEOUT_MS, max(1, int(1000 * min(deadline.silence_s, deadline.left())))),
        (pycurl.OPENSOCKETFUNCTION, callbacks.open_socket),
        (pycurl.PREREQFUNCTION, callbacks.before_request),
        (pycurl.HEADERFUNCTION, callbacks.on_header),
        (pycurl.WRITEFUNCTION, callbacks.on_content),
        (pycurl.XFERINFOFUNCTION, callbacks.on_progress),
        (pycurl.HTTPGET, 1) if request.body is None else (pycurl.POSTFIELDS, request.body),
        # A POST is sent once, so not over a connection that the host may have closed meanwhile.
        (pycurl.FRESH_CONNECT, request.body is not None),
    ):
        handle.setopt(option, value)
    try:
        handle.perform()
    except pycurl.error as error:
        raise callbacks.failure or _fault(int(error.args[0]), handle, deadline) from None
    callbacks.end()


class _Callbacks:
    """The callbacks of one request: what they raise is kept, since libcurl only learns that they failed."""

    def __init__(
        self, url: RequestUrl, deadline: Deadline, check: Check, begin: Callable[[Answer], Sink]
    ) -> None:
        self.failure: BaseException | None = None
        self._url = url
        self._deadline = deadline
        self._check = check
        self._begin = begin
        self._answer = Answer()
        self._sink: Sink | None = None
        self._moved = (0, time.monotonic())

    def open_socket(self, _purpose: int, address: Any) -> socket.socket | int:
        family, kind, protocol, peer = address
        if self._guarded(self._check_peer, peer[0]):
            return socket.socket(family, kind, protocol)
        return int(pycurl.SOCKET_BAD)

    def before_request(self, peer: str, _local: str, _peer_port: int, _local_port: int) -> int:
        permitted = self._guarded(self._check_peer, peer)
        return int(pycurl.PREREQFUNC_OK if permitted else pycurl.PREREQFUNC_ABORT)

    def on_header(self, line: bytes) -> int | None:
        if self._sink is not None:  # a trailer
            return None
        if line.startswith(b"HTTP/"):
            self._answer = Answer(status=_status(line))
        elif line.startswith((b" ", b"\t")) and self._answer.headers:
            name, value = self._answer.headers[-1]
            self._answer.headers[-1] = (name, value + b" " + line.strip())
        else:
            name, colon, value = line.partition(b":")
            if colon:
                self._answer.headers.append((name.strip().lower(), value.strip()))
        return None

    def on_content(self, part: bytes) -> int:
        return len(part) if self._guarded(self._take, part) else 0

    def on_progress(self, _total: int, down: int, _up_total: int, up: int) -> int:
        return 0 if self._guarded(self._check_time, down + up) else 1

    def end(self) -> None:
        if self._sink is None:  # nothing followed the head
            self._sink = self._begin(self._answer)

    def _check_peer(self, address: str) -> None:
        self._check(self._url.host, self._url.port, [address])

    def _take(self, part: bytes) -> None:
        if self._sink is None:
            self._sink = self._begin(self._answer)
            self._moved = (0, time.monotonic())
        self._sink(part)

    def _check_time(self, moved: int) -> None:
        before, at = self._moved
        now = time.monotonic()
        if moved != before:
            self._moved = (moved, now)
        elif now - at > self._deadline.silence_s:
            raise self._deadline.silence()
        self._deadline.left()

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> bool:
        try:
            step(*arguments)
        except BaseException as error:  # whatever it is, libcurl must hear of it by a value
            self.failure = self.failure or error
            return False
        return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _pinned(url: RequestUrl, addresses: Sequence[str]) -> list[str]:
    """Return libcurl's own spelling of a host's addresses, in the place of those of an earlier request."""
    if url.host in addresses:
        return []
    listed = ",".join(map(_bracketed, addresses))
    return [f"-{url.host}:{url.port}", f"{url.host}:{url.port}:{listed}"]


def _status(line: bytes) -> int:
    words = line.split(None, 2)
    return int(words[1][:3]) if len(words) > 1 and words[1][:3].isdigit() else 0


def _fault(code: int, handle: pycurl.Curl, deadline: Deadline) -> ItemError:
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return deadline.silence()
    if code in _TRANSIENT:
        detail = _OS_ERRORS.get(handle.getinfo(pycurl.OS_ERRNO), _TRANSIENT[code])
        return ItemError("connect_error", detail)
    return ItemError("connect_error", _FINAL.get(code, "the answer is not valid HTTP"), final=True)
