"""A server that answers with the very bytes it is given, for what no HTTP library sends."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

Answers = Callable[[bytes], Iterable[bytes]]


class RawServer:
    """`heads` are the requests so far, as they came; each connection is good for one.

    With `tls` it is closed as old servers do, without a notice in TLS.
    """

    def __init__(self, listener: socket.socket, answers: Answers, tls: ssl.SSLContext | None) -> None:
        self.heads: list[bytes] = []
        self._listener = listener
        self._answers = answers
        self._tls = tls

    def url(self, path: str = "/a.jpg", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self._listener.getsockname()[1]}{path}"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _secured(self, connection: socket.socket) -> socket.socket:
        return connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True)

    def _answer(self, accepted: socket.socket) -> None:
        with suppress(OSError), self._secured(accepted) as connection:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (part := connection.recv(65536)):
                    return
                head += part
            self.heads.append(head)
            for part in self._answers(head):
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            while connection.recv(65536):
                pass


@contextmanager
def raw_server(answers: Answers | bytes, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Serve from what a request's head is answered with, or always with the same."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        server = RawServer(listener, answers if callable(answers) else lambda _: [answers], tls)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
