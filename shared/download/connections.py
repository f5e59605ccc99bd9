"""One HTTP request at a time by libcurl, over connections that are kept open, each to a checked address.

libcurl's parser forgives what browsers forgive of old and odd servers. Here it looks up no names, follows no
redirects and unpacks no content: the addresses come from the caller, and are checked once more when a socket
is made for one, and as the peer of the connection that a request goes over.
"""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pycurl

from shared.download.request_urls import RequestUrl
from shared.errors import ItemError

Headers = list[tuple[bytes, bytes]]
Sink = Callable[[bytes], None]
Check = Callable[[str, int, Sequence[str]], None]

KEEPALIVE_SECONDS = 5.0
_MAX_IDLE = 512
_CONNECTIONS_EACH = 4  # a redirect's hosts
_BUFFER_BYTES = 128 * 1024
_UNTRUSTED = frozenset({pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE})
_TLS = frozenset({pycurl.E_SSL_CONNECT_ERROR, pycurl.E_SSL_CIPHER, pycurl.E_SSL_CERTPROBLEM})
_TOO_LARGE = 100  # CURLE_TOO_LARGE, which pycurl does not name


@dataclass(slots=True)
class Answer:
    """The head of an answer, its headers' names in lower case."""

    status: int = 0
    headers: Headers = field(default_factory=list)

    def header(self, name: bytes) -> str:
        """Return the first header of this name, or an empty string."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


class Deadline:
    """How long a download may take: at most `silence_s` in which nothing comes, and `whole_s` in all."""

    def __init__(self, silence_s: float, whole_s: float) -> None:
        self.silence_s = silence_s
        self._whole_s = whole_s
        self._end = time.monotonic() + whole_s

    def left(self) -> float:
        """Return the seconds to the end, above zero. Raises ItemError `timeout` past it."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise ItemError("timeout", f"the download took more than {self._whole_s:g} s")
        return left

    def silence(self) -> ItemError:
        """Return the error of a host from which nothing came for too long."""
        detail = f"nothing came for {self.silence_s:g} s (IMAGE_SEARCH_FETCH_TIMEOUT_S)"
        return ItemError("timeout", detail)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take nothing off while the block runs."""
        before = time.monotonic()
        try:
            yield
        finally:
            self._end += time.monotonic() - before


class Connections:
    """Handles of libcurl with their open connections, lent to one download at a time.

    `check` raises ItemError for a host, a port and addresses that must not be reached. `ca_bundle` is a PEM
    file of the certificates that are trusted.
    """

    def __init__(self, check: Check, ca_bundle: str) -> None:
        self._check = check
        self._ca_bundle = ca_bundle
        self._idle: list[tuple[float, tuple[str, int], pycurl.Curl]] = []  # the longest idle first
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, host: str, port: int) -> Iterator["Connection"]:
        """Lend a handle without cookies, one that is connected to the host if there is one."""
        handle = self._take((host, port))
        connection = Connection(handle, self._check)
        try:
            yield connection
        finally:
            self._give_back((host, port), handle)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, handle in idle:
            handle.close()

    def _take(self, origin: tuple[str, int]) -> pycurl.Curl:
        with self._lock:
            places = range(len(self._idle) - 1, -1, -1)
            place = next((place for place in places if self._idle[place][1] == origin), None)
            if place is None and self._idle and self._is_stale(self._idle[0]):
                place = 0  # it has the certificates loaded
            if place is not None:
                return self._idle.pop(place)[2]
        return self._made()

    def _give_back(self, origin: tuple[str, int], handle: pycurl.Curl) -> None:
        with self._lock:
            self._idle.append((time.monotonic(), origin, handle))
            many = len(self._idle) > _MAX_IDLE
            dropped = [self._idle.pop(0)[2]] if many or self._is_stale(self._idle[0]) else []
        for one in dropped:
            one.close()

    @staticmethod
    def _is_stale(idle: tuple[float, tuple[str, int], pycurl.Curl]) -> bool:
        return idle[0] < time.monotonic() - KEEPALIVE_SECONDS

    def _made(self) -> pycurl.Curl:
        handle = pycurl.Curl()
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, ""),  # none of the environment's
            (pycurl.NOPROXY, "*"),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.TRANSFER_ENCODING, 0),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.CAINFO, self._ca_bundle),
            (pycurl.MAXCONNECTS, _CONNECTIONS_EACH),
            (pycurl.MAXAGE_CONN, int(KEEPALIVE_SECONDS)),
            (pycurl.BUFFERSIZE, _BUFFER_BYTES),
            (pycurl.NOPROGRESS, 0),
        ):
            handle.setopt(option, value)
        return handle


class Connection:
    """A lent handle: the requests of one download, one after another, which share their cookies."""

    def __init__(self, handle: pycurl.Curl, check: Check) -> None:
        self._handle = handle
        self._check = check
        self._handle.setopt(pycurl.COOKIEFILE, "")  # cookies are kept, in memory
        self._handle.setopt(pycurl.COOKIELIST, "ALL")  # but none of another download's

    def request(
        self,
        method: str,
        target: RequestUrl,
        headers: Sequence[str],
        deadline: Deadline,
        addresses: Sequence[str],
        begin: Callable[[Answer], Sink],
        body: bytes | None = None,
    ) -> Answer:
        """Return an answer's head, once its content has gone into the sink that `begin` returns for it.

        Raises ItemError, and what `begin` and the sink raise.
        """
        transfer = _Transfer(target, deadline, self._check, begin)
        handle = self._handle
        for option, value in (
            (pycurl.URL, str(target.url)),
            (pycurl.REQUEST_TARGET, target.path),
            (pycurl.CUSTOMREQUEST, method),
            (pycurl.HTTPHEADER, [f"Host: {target.netloc}", *headers, "Expect:"]),
            (pycurl.RESOLVE, _pinned(target, addresses)),
            (pycurl.CONNECTTIMEOUT_MS, max(1, int(1000 * min(deadline.silence_s, deadline.left())))),
            (pycurl.OPENSOCKETFUNCTION, transfer.open_socket),
            (pycurl.PREREQFUNCTION, transfer.before_request),
            (pycurl.HEADERFUNCTION, transfer.on_header),
            (pycurl.WRITEFUNCTION, transfer.on_content),
            (pycurl.XFERINFOFUNCTION, transfer.on_progress),
        ):
            handle.setopt(option, value)
        if body is None:
            handle.setopt(pycurl.HTTPGET, 1)
        else:
            handle.setopt(pycurl.POSTFIELDS, body)
        try:
            handle.perform()
        except pycurl.error as error:
            raise transfer.failure or _fault(int(error.args[0]), handle, deadline) from None
        finally:
            for option in (pycurl.HEADERFUNCTION, pycurl.WRITEFUNCTION):
                handle.unsetopt(option)
        return transfer.finished()


class _Transfer:
    """The callbacks of one request: what they raise is kept, since libcurl only learns that they failed."""

    def __init__(
        self, target: RequestUrl, deadline: Deadline, check: Check, begin: Callable[[Answer], Sink]
    ) -> None:
        self.failure: BaseException | None = None
        self._target = target
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

    def finished(self) -> Answer:
        if self._sink is None:
            self._sink = self._begin(self._answer)
        return self._answer

    def _check_peer(self, address: str) -> None:
        self._check(self._target.host, self._target.port, [address])

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


def _pinned(target: RequestUrl, addresses: Sequence[str]) -> list[str]:
    """Return libcurl's own spelling of a host's addresses, in the place of those of an earlier request."""
    if target.host in addresses:
        return []
    listed = ",".join(map(_bracketed, addresses))
    return [f"-{target.host}:{target.port}", f"{target.host}:{target.port}:{listed}"]


def _status(line: bytes) -> int:
    words = line.split(None, 2)
    return int(words[1][:3]) if len(words) > 1 and words[1][:3].isdigit() else 0


def _fault(code: int, handle: pycurl.Curl, deadline: Deadline) -> ItemError:
    """Return what libcurl's error code means. What the answer itself is to blame for is final."""
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return deadline.silence()
    if code in _UNTRUSTED:
        return ItemError("connect_error", "the server's certificate is not trusted", final=True)
    if code in _TLS:
        return ItemError("connect_error", "the TLS connection failed")
    if code in {pycurl.E_PARTIAL_FILE, pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR}:
        reset = handle.getinfo(pycurl.OS_ERRNO) in {errno.ECONNRESET, errno.EPIPE}
        return ItemError("connect_error", "the connection was reset" if reset else "the answer broke off")
    if code == pycurl.E_COULDNT_CONNECT:
        refused = handle.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED
        return ItemError("connect_error", f"the connection {'was refused' if refused else 'failed'}")
    if code == _TOO_LARGE:
        return ItemError("connect_error", "the answer's headers are longer than 300 kB", final=True)
    return ItemError("connect_error", "the answer is not valid HTTP", final=True)
