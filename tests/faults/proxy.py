"""A TCP proxy whose connections can be cut, refused and slowed down."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_BYTES = 64 * 1024
_TOO_LARGE = b"HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Proxy:
    """Forwards a free loopback port to what `connect` opens, from `__enter__` to `__exit__`.

    While `refusing`, connections are reset as soon as they are made; `delay_s` is added to each piece of
    data, in both directions. An HTTP request that has `refused` in it is answered with 413.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.refusing = False
        self.delay_s = 0.0
        self.refused = b""

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> int:
        """Resets every connection; returns how many there were."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            _reset(end)
        return len(ends) // 2

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self.refusing:
                raise ConnectionRefusedError
            upstream = self._connect()
        except OSError:
            _reset(client)
            return
        with self._lock:
            self._open |= {client, upstream}
        threading.Thread(target=self._pump, args=(upstream, client), daemon=True).start()
        self._pump(client, upstream)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                seen = seen[-len(self.refused) :] + data
                if self.refused and self.refused in seen:
                    source.sendall(_TOO_LARGE)
                    while source.recv(_BYTES):
                        pass
                    break
                if self.delay_s:
                    time.sleep(self.delay_s)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            gone = self._open & {source, sink}
            self._open -= gone
        for end in gone:
            end.close()


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):  # with a lingering time of zero, closing sends a reset
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
