"""An HTTP server for a page of metrics, in a thread of the process that it is about."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

import structlog

from shared.download.own_services import FETCH_HEADER
from shared.errors import ConfigError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLIENT_SECONDS = 10.0  # for a request to come and its answer to be taken
MAX_CLIENTS = 32  # at once; past that the one that came first is dropped

log = structlog.get_logger(__name__)


class _Handler(BaseHTTPRequestHandler):
    server: "PageServer"

    def do_GET(self) -> None:
        if FETCH_HEADER in self.headers:  # no picture is fetched from here
            self.send_error(403)
            return
        path = _path_of(self.path)
        if path not in {"/metrics", "/healthz"}:
            self.send_error(404)
            return
        # A probe reads nothing, as a scrape does: a Redis that is slow must not end the sweeper.
        body = self.server.render() if path == "/metrics" else b"ok\n"
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE if path == "/metrics" else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: it is asked every few seconds."""


def _path_of(target: str) -> str:
    try:
        return urlsplit(target).path
    except ValueError:  # no URL at all
        return ""


class PageServer(ThreadingTCPServer):
    """A server of what `render` returns, with a thread per client. Slow clients do not pile up.

    Not an `HTTPServer`, which looks its own name up at the start: seconds where that has none.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = MAX_CLIENTS

    def __init__(self, render: Callable[[], bytes], host: str, port: int) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = found[0]
        self.render = render
        self._clients: dict[Any, float] = {}  # when each came
        super().__init__(address, _Handler)  # type: ignore[arg-type] # of IPv6 it has four parts
        # Else a worker whose parent was killed could not start again while one of its pool is at work.
        os.register_at_fork(after_in_child=self.socket.close)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._clients) >= MAX_CLIENTS:
            self._drop(next(iter(self._clients)))
        self._clients[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Drop the clients whose time is over. `serve_forever` calls this twice per second."""
        for client, came in [*self._clients.items()]:
            if came < time.monotonic() - CLIENT_SECONDS:
                self._drop(client)

    def shutdown_request(self, request: Any) -> None:
        self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, _request: object, _client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # the client went away
            log.exception("metrics_not_shown")

    def _drop(self, client: Any) -> None:
        """Have the client's thread come to its end, which closes the connection."""
        self._clients.pop(client, None)
        with suppress(OSError):  # it has gone
            client.shutdown(socket.SHUT_RDWR)


def serve(render: Callable[[], bytes], host: str, port: int) -> PageServer:
    """Serve what `render` returns from a thread that ends with the process.

    Raises ConfigError for a port that is taken and a host that is not this machine's.
    """
    try:
        server = PageServer(render, host, port)
    except (OSError, UnicodeError):  # the latter of a name that cannot be one
        raise ConfigError(
            f"cannot show metrics on {host}:{port}: the port is taken or the address is not this machine's; "
            "set IMAGE_SEARCH_METRICS_PORT or IMAGE_SEARCH_METRICS_HOST to another"
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
