"""One HTTP request by libcurl, to a checked address.

libcurl's parser forgives what browsers forgive of old and odd servers. Here it looks up no names, follows no
redirects and unpacks no content: the addresses come from the caller, and are checked once more when a socket
is made for one, and as the peer of the connection that a request goes over.
"""

import errno
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
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
    pycurl.E_WRITE_ERROR: "the download was interrupted",
    pycurl.E_ABORTED_BY_CALLBACK: "the download was interrupted",
}
_OS_ERRORS = {
    errno.ECONNREFUSED: "the connection was refused",
    errno.ECONNRESET: "the connection was reset",
    errno.EPIPE: "the connection was reset",
}
_FINAL = {
    _TOO_LARGE: "the answer's headers are too long: over 100 kB one, or 300 kB or 5000 all together",
    pycurl.E_SSL_CACERT_BADFILE: (
        "the certificates to trust cannot be read "
        "(IMAGE_SEARCH_CA_BUNDLE, or else SSL_CERT_FILE or SSL_CERT_DIR)"
    ),
}
_UNTRUSTED = {  # by OpenSSL's X509_V_ codes
    9: "it is not valid yet",
    10: "it has expired",
    66: "its key is too short",
    68: "it is signed by a weak hash",
}
_UNKNOWN_AUTHORITY = "no authority that is trusted here has signed it (IMAGE_SEARCH_CA_BUNDLE names others)"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a host at one of `addresses`: a GET, or with a body a POST.

    `headers` are whole lines; Host is not among them. With `strict` the content's end must be certain: where
    it is TLS's end, its notice must have come.
    """

    url: RequestUrl
    addresses: Sequence[str]
    headers: Sequence[str] = field(repr=False)  # may be secret
    body: bytes | None = None
    strict: bool = False


@dataclass(slots=True)
class Answer:
    """The head of an answer, its headers' names in lower case."""

    status: int = 0
    headers: Headers = field(default_factory=list)

    @property
    def interim(self) -> bool:
        """Tell whether another answer follows."""
        return 100 <= self.status < 200 and self.status != HTTPStatus.SWITCHING_PROTOCOLS

    def all(self, name: bytes) -> list[str]:
        """Return the values of the headers of this name."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def header(self, name: bytes) -> str:
        """Return the first header of this name, or an empty string."""
        return next(iter(self.all(name)), "")


def transfer(
    handle: pycurl.Curl,
    request: Request,
    deadline: Deadline,
    check: Check,
    begin: Callable[[Answer], Sink],
) -> None:
    """Make a request; the content of the answer goes into the sink that `begin` returns for its head.

    The sink gets empty parts, too, once a second or more often.

    `check` raises ItemError for a host, a port and addresses that must not be reached. Raises ItemError, and
    what `begin` and the sink raise.
    """
    callbacks = _Callbacks(request.url, deadline, check, begin)
    url, post = request.url, request.body is not None
    for option, value in (
        # With the host as it was checked: libcurl's own reading of a URL decides nothing.
        (pycurl.URL, f"{url.scheme}://{_bracketed(url.host)}:{url.port}{url.path.decode('ascii')}"),
        (pycurl.REQUEST_TARGET, url.path),
        (pycurl.HTTPHEADER, [f"Host: {url.netloc}", *request.headers, "Expect:"]),
        (pycurl.RESOLVE, _pinned(url, request.addresses)),
        (pycurl.CONNECTTIMEOUT_MS, _milliseconds(min(deadline.silence_s, deadline.left()))),
        # A GET's sink may wait, which is not the host's time, and libcurl's own clock would count it.
        (pycurl.TIMEOUT_MS, _milliseconds(deadline.left()) if post else 0),
        (pycurl.OPENSOCKETFUNCTION, callbacks.open_socket),
        (pycurl.PREREQFUNCTION, callbacks.before_request),
        (pycurl.HEADERFUNCTION, callbacks.on_header),
        (pycurl.WRITEFUNCTION, callbacks.on_content),
        (pycurl.XFERINFOFUNCTION, callbacks.on_progress),
        (pycurl.POSTFIELDS, request.body) if post else (pycurl.HTTPGET, 1),
        # A POST is sent once, so not over a connection that the host may have closed meanwhile.
        (pycurl.FRESH_CONNECT, post),
    ):
        handle.setopt(option, value)
    try:
        handle.perform()
    except pycurl.error as error:
        if request.strict or not callbacks.ended_by_close(handle, str(error)):
            raise callbacks.failure or _fault(int(error.args[0]), str(error), handle, deadline) from None
    else:
        callbacks.end()
    finally:
        callbacks.release()


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
        self._in_head = False
        self._sink: Sink | None = None
        self._lines = 0
        self._moved = (0, time.monotonic())

    def open_socket(self, _purpose: int, address: Any) -> socket.socket | int:
        family, kind, protocol, peer = address
        if self._guarded(self._check_peer, peer[0]):
            with suppress(OSError):  # a kind that this machine has not, say
                return socket.socket(family, kind, protocol)
        return int(pycurl.SOCKET_BAD)

    def before_request(self, peer: str, _local: str, _peer_port: int, _local_port: int) -> int:
        permitted = self._guarded(self._check_peer, peer)
        return int(pycurl.PREREQFUNC_OK if permitted else pycurl.PREREQFUNC_ABORT)

    def on_header(self, line: bytes) -> int:
        self._lines += 1
        if self._sink is not None:  # a trailer
            return len(line)
        if not self._in_head:
            self._answer, self._in_head = Answer(status=_status(line)), True
        elif line.startswith((b"\r", b"\n")):
            self._in_head = False
            if not self._answer.interim and not self._guarded(self._begin_content):
                return -1
        elif line.startswith((b" ", b"\t")) and self._answer.headers:
            name, value = self._answer.headers[-1]
            self._answer.headers[-1] = (name, value + b" " + line.strip())
        else:
            name, _, value = line.partition(b":")
            self._answer.headers.append((name.strip().lower(), value.strip()))
        return len(line)

    def on_content(self, part: bytes) -> int:
        return len(part) if self._guarded(self._take, part) else 0

    def on_progress(self, _total: int, down: int, _up_total: int, up: int) -> int:
        return 0 if self._guarded(self._check_time, down + up + self._lines) else 1

    def end(self) -> None:
        if self._sink is None:
            raise ItemError("connect_error", _TRANSIENT[pycurl.E_PARTIAL_FILE])

    def ended_by_close(self, handle: pycurl.Curl, said: str) -> bool:
        """Tell whether TLS was closed without notice, as old servers do, where the close ends the content."""
        return (
            "unexpected eof" in said
            and self.failure is None
            and self._sink is not None
            and handle.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T) < 0
            and "chunked" not in ",".join(self._answer.all(b"transfer-encoding")).lower()
        )

    def release(self) -> None:
        """Let go of the content: an idle handle keeps its callbacks."""
        del self._begin, self._sink, self.failure

    def _begin_content(self) -> None:
        self._sink = self._begin(self._answer)
        self._moved = (0, time.monotonic())

    def _take(self, part: bytes) -> None:
        if self._sink is None:  # libcurl saw no interim answer in what looked like one
            self._begin_content()
        assert self._sink is not None  # noqa: S101 - it is begun
        self._sink(part)

    def _check_peer(self, address: str) -> None:
        self._check(self._url.host, self._url.port, [address])

    def _check_time(self, moved: int) -> None:
        before, at = self._moved
        now = time.monotonic()
        if moved != before:
            self._moved = (moved, now)
        elif now - at > self._deadline.silence_s:
            raise self._deadline.silence()
        self._deadline.left()
        if self._sink is not None:
            self._sink(b"")

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
    if ":" in url.host or url.host in addresses:  # an address itself
        return []
    listed = ",".join(map(_bracketed, addresses))
    # With a + it is forgotten after a minute, as a handle sees thousands of hosts.
    return [f"-{url.host}:{url.port}", f"+{url.host}:{url.port}:{listed}"]


def _milliseconds(seconds: float) -> int:
    return max(1, int(1000 * seconds))


def _status(line: bytes) -> int:
    words = line.split(None, 2)
    return int(words[1][:3]) if len(words) > 1 and words[1][:3].isdigit() else 0


def _fault(code: int, said: str, handle: pycurl.Curl, deadline: Deadline) -> BaseException:
    if code == pycurl.E_OUT_OF_MEMORY:
        return MemoryError()
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return deadline.passed()
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        why = _UNTRUSTED.get(handle.getinfo(pycurl.SSL_VERIFYRESULT), _UNKNOWN_AUTHORITY)
        if "subject name" in said:  # libcurl compares it itself
            why = "it is for another name"
        return ItemError("connect_error", f"the server's certificate is not trusted: {why}", final=True)
    if "response headers" in said:
        code = _TOO_LARGE
    if code in _TRANSIENT and "chunk" not in said:  # which is malformed, then
        detail = _OS_ERRORS.get(handle.getinfo(pycurl.OS_ERRNO), _TRANSIENT[code])
        return ItemError("connect_error", detail)
    return ItemError("connect_error", _FINAL.get(code, "the answer is not valid HTTP"), final=True)
