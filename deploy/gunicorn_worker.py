"""The connections of the API's server, beyond what gunicorn's threaded worker does for them.

gunicorn gives a thread to a connection at its first byte, and waits in it, without a limit, for the rest of
the request; and its one loop that accepts connections waits up to 2 s for a client to close its side. Here
the loop reads requests, and a thread gets one once it is whole. Long bodies, and those of unknown length, are
read by threads: `api.http.concurrency` leaves enough of these for others.
"""

import re
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from selectors import EVENT_READ
from typing import Any
from uuid import uuid4

from gunicorn import http, util
from gunicorn.workers.gthread import TConn, ThreadWorker

from api.http.concurrency import QUICK_BYTES
from api.http.problems import problem
from api.http.security_headers import DATA_POLICY, HEADERS

REQUEST_SECONDS = 10.0  # for a request's head and, up to QUICK_BYTES, its body to arrive
RECEIVE_SECONDS, SEND_SECONDS = 60, 30  # without a byte from, or to, a client that a thread waits for
DRAIN_SECONDS = 0.05  # for what a view left of a body
LINGER_SECONDS = 2.0  # for a client to read the last answer and to close its side
LINGER_BYTES = 2**20
MAX_HEAD_BYTES = 64 * 2**10
MAX_WAITING = 500  # connections; past that the one that waits longest is dropped
_READ_BYTES = 64 * 2**10
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,18})[ \t]*\r$", re.I | re.M)
_STREAMED = re.compile(rb"^(transfer-encoding|expect):", re.I | re.M)


@dataclass(eq=False)
class _Waiting:
    """A connection whose request is not whole, or which was answered for the last time (`lingers`)."""

    connection: TConn
    until: float
    data: bytearray
    lingers: bool = False


class Worker(ThreadWorker):
    """A threaded worker that slow clients cannot stop, and whose own errors are problems."""

    def init_process(self) -> None:
        util.write_error = _write_problem  # the worker's one way to answer by itself
        self._waiting: dict[_Waiting, None] = {}
        super().init_process()

    def accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is free
            self._drop_longest()
            return
        for option, seconds in ((socket.SO_RCVTIMEO, RECEIVE_SECONDS), (socket.SO_SNDTIMEO, SEND_SECONDS)):
            client.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))
        self.nr_conns += 1
        if len(self._waiting) >= MAX_WAITING:
            self._drop_longest()
        self._gather(TConn(self.cfg, client, address, listener.getsockname()))

    def on_client_socket_readable(self, conn: TConn, client: Any) -> None:
        """Read the next request of a connection that was kept alive."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._gather(conn)

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        kept = not fs.cancelled() and fs.exception() is None and fs.result()
        parser: Any = conn.parser
        if kept and (ahead := parser.unreader.take_buffered()):
            self._gather(conn, ahead)
        elif kept:
            super().finish_request(conn, fs)
        else:
            self._linger(conn)

    def murder_pending(self) -> None:
        """Drop connections whose time is over. gunicorn calls this at least once per second."""
        # A server that stops waits for nobody who has not begun, and little for who has.
        latest = time.monotonic() + (0 if self.alive else REQUEST_SECONDS - LINGER_SECONDS)
        for waiting in [one for one in self._waiting if one.until < latest or not (self.alive or one.data)]:
            if waiting.data and not waiting.lingers:
                message = f"The request did not arrive within {REQUEST_SECONDS:g} s."
                self._refuse(waiting, 408, "Request Timeout", message)
            else:
                self._drop(waiting)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        parser: Any = conn.parser
        return bool(keepalive and parser.finish_body(deadline=time.monotonic() + DRAIN_SECONDS))

    def _gather(self, conn: TConn, data: bytes = b"") -> None:
        waiting = _Waiting(conn, time.monotonic() + REQUEST_SECONDS, bytearray(data))
        self._watch(waiting, self._receive)
        if data:
            self._look(waiting)

    def _linger(self, conn: TConn) -> None:
        """Close a connection without cutting off what the client has yet to read."""
        waiting = _Waiting(conn, time.monotonic() + LINGER_SECONDS, bytearray(), lingers=True)
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            self._watch(waiting, self._ignore)
        except (OSError, ValueError):  # closed already
            self._close(conn)

    def _watch(self, waiting: _Waiting, read: Callable[[_Waiting], None]) -> None:
        waiting.connection.sock.setblocking(False)
        self.poller.register(
            waiting.connection.sock, EVENT_READ, lambda _: read(waiting) if waiting in self._waiting else None
        )
        self._waiting[waiting] = None

    def _receive(self, waiting: _Waiting) -> None:
        data = _read(waiting.connection.sock)
        if not data:
            if data is not None:
                self._drop(waiting)
            return
        waiting.data += data
        self._look(waiting)

    def _ignore(self, waiting: _Waiting) -> None:
        data = _read(waiting.connection.sock)
        if data is None:
            return
        waiting.data += data
        if not data or len(waiting.data) > LINGER_BYTES:
            self._drop(waiting)

    def _look(self, waiting: _Waiting) -> None:
        end = waiting.data.find(_HEAD_END)
        if end < 0 and len(waiting.data) > MAX_HEAD_BYTES:
            message = f"The request's head is larger than {MAX_HEAD_BYTES:,} bytes."
            self._refuse(waiting, 431, "Request Header Fields Too Large", message)
        elif end >= 0 and len(waiting.data) >= end + len(_HEAD_END) + _body_awaited(waiting.data[: end + 2]):
            self._serve(waiting)

    def _serve(self, waiting: _Waiting) -> None:
        conn = waiting.connection
        self._forget(waiting)
        if conn.parser is None:
            conn.parser = http.get_parser(self.cfg, conn.sock, conn.client)
        parser: Any = conn.parser
        parser.unreader.unread(bytes(waiting.data))
        conn.initialized = True
        self.enqueue_req(conn)

    def _refuse(self, waiting: _Waiting, status: int, reason: str, message: str) -> None:
        self._forget(waiting)
        try:
            _write_problem(waiting.connection.sock, status, reason, message)
        except OSError:
            self._close(waiting.connection)
        else:
            self._linger(waiting.connection)

    def _drop(self, waiting: _Waiting) -> None:
        self._forget(waiting)
        self._close(waiting.connection)

    def _drop_longest(self) -> None:
        if self._waiting:
            self._drop(next(iter(self._waiting)))

    def _forget(self, waiting: _Waiting) -> None:
        del self._waiting[waiting]
        self.poller.unregister(waiting.connection.sock)

    def _close(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()


def _read(sock: socket.socket) -> bytes | None:
    """Return what has arrived: nothing at the end or after a break, None when it is not the time to read."""
    try:
        return sock.recv(_READ_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _body_awaited(head: bytearray) -> int:
    """Return how many bytes of body to read before a thread gets the request."""
    length = _LENGTH.search(head)
    if length is None or _STREAMED.search(head) or int(length[1]) > QUICK_BYTES:
        return 0
    return int(length[1])


def _write_problem(sock: socket.socket, status_int: int, reason: str, mesg: str) -> None:
    code = "internal" if status_int == 500 else re.sub(r"\W+", "_", reason.lower())
    headers = {**HEADERS, "Content-Security-Policy": DATA_POLICY, "X-Request-ID": str(uuid4())}
    answer = problem(status_int, code, reason, mesg or reason, headers={**headers, "Connection": "close"})
    head = "\r\n".join(f"{name}: {value}" for name, value in answer.headers)
    util.write_nonblock(sock, f"HTTP/1.1 {answer.status}\r\n{head}\r\n\r\n".encode("latin-1") + answer.data)
