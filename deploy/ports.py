"""Ports and hosts of this machine: which are free, what answers there, how a URL names them."""

import http.client
import socket
from urllib.parse import urlsplit

from shared.errors import ConfigError


def http_status(url: str, timeout_s: float = 5.0) -> int | None:
    """Return the status of `http_answer`, None without an answer."""
    return http_answer(url, timeout_s)[0]


def http_answer(url: str, timeout_s: float = 5.0) -> tuple[int | None, bytes]:
    """GET a URL of this machine (no proxy, no redirects); return status and body, None without an answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None, b""
    finally:
        connection.close()


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def check_port_free(host: str, port: int) -> None:
    """Raise ConfigError in one line, which gunicorn would only do after seconds of retries."""
    if not is_free(host, port):
        raise ConfigError(
            f"cannot listen on {host}:{port}: the port is taken or the address is not this machine's"
        )


def is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            return True
    except (OSError, UnicodeError):  # the latter of a name that cannot be one
        return False


def reachable_host(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared


def page_url(host: str, port: int) -> str:
    """Return where a page of metrics that listens on `host` is asked for on this machine."""
    return f"http://{in_url(reachable_host(host))}:{port}/metrics"


def in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
