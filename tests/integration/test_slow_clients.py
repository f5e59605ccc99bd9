"""Slow clients against the server as `image-search api` starts it, with the fewest threads it may have."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from api.http.concurrency import QUICK_BYTES
from tests.api_server import api_server

THREADS = 4
MANY = 5 * THREADS
# Without Redis and Chroma: what is asked for here needs neither.
DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    folder = tmp_path_factory.mktemp("server")
    own = {"REDIS_URL": "redis://127.0.0.1:9/0", "CHROMA_URL": DEAD, "MODEL": str(folder)}
    with api_server(folder, "--threads", str(THREADS), **own) as (url, _):
        yield "127.0.0.1", int(url.rpartition(":")[2])


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


JSON = "Content-Type: application/json"
LONG = QUICK_BYTES + 1
SLOW = {
    "nothing": b"",
    "one byte": b"G",
    "a head that does not end": head("GET", "/healthz")[:-2],
    "an empty line": b"\r\n",
    "a short body that does not come": head("POST", "/v1/search", JSON, "Content-Length: 1000") + b"{",
    "a long body that does not come": head("POST", "/v1/search", JSON, f"Content-Length: {LONG}") + b"{",
    "a body of unknown length": head("POST", "/v1/search", JSON, "Transfer-Encoding: chunked")
    + b"1\r\n{\r\n",
    "a body after 100 Continue": head(
        "POST", "/v1/search", JSON, "Content-Length: 9", "Expect: 100-continue"
    ),
    "a body that no view reads": head("POST", "/none", JSON, f"Content-Length: {LONG}") + b"{",
    "a second request that does not end": head("GET", "/healthz") + b"G",
    "an answer after which it does not close": head("GET", "/healthz", "Connection: close"),
}


@contextmanager
def connections(address: tuple[str, int], count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(count)]
        for connection in opened:
            connection.sendall(sent)
        yield opened


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    while data := connection.recv(65_536):
        received += data
    return received


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_slow_clients_do_not_take_every_thread(server: tuple[str, int], sent: bytes) -> None:
    with connections(server, MANY, sent):
        for _ in range(2 * THREADS):
            answer = httpx.get("http://{}:{}/healthz".format(*server), timeout=8)  # a thread waits for 10 s
            assert answer.status_code == 200


def test_bytes_that_trickle_make_a_request_like_any_other(server: tuple[str, int]) -> None:
    body = b'{"name": 1}'
    request = (
        head("POST", "/v1/collections", JSON, f"Content-Length: {len(body)}", "Connection: close") + body
    )
    with connections(server, 1, b"") as (connection,):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            connection.sendall(bytes([byte]))
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b'"pointer": "/name"' in answer


def test_requests_that_come_together_are_answered_one_after_the_other(server: tuple[str, int]) -> None:
    one, last = head("GET", "/healthz"), head("GET", "/docs/errors", "Connection: close")
    with connections(server, 1, one * 3 + last) as (connection,):
        answer = rest_of(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.endswith(b"</html>")


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (head("GET", "/" + "x" * 9000), 414, "uri_too_long"),
        (head("GET", "/healthz", "X: " + "x" * 9000), 431, "request_header_fields_too_large"),
        (
            head("GET", "/healthz", *(f"X{number}: x" for number in range(200))),
            431,
            "request_header_fields_too_large",
        ),
        (head("GET", "/healthz")[:-2] + b"x" * 70_000, 431, "request_header_fields_too_large"),
        (b"\r\n\r\n", 400, "bad_request"),
        (b"GET /healthz\r\n\r\n", 400, "bad_request"),
        (head("GET", "/healthz", "X Y: z"), 400, "bad_request"),
        (head("POST", "/v1/search", "Content-Length: -1"), 400, "bad_request"),
    ],
)
def test_what_never_reaches_the_api_is_a_problem_too(
    server: tuple[str, int], sent: bytes, status: int, code: str
) -> None:
    with connections(server, 1, sent) as (connection,):
        answer = rest_of(connection).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "Content-Type: application/problem+json" in answer
    assert "X-Request-ID: " in answer
    assert f'"code": "{code}"' in answer


def test_a_request_that_does_not_arrive_in_time_is_told_so(server: tuple[str, int]) -> None:
    with connections(server, 1, SLOW["a head that does not end"]) as (connection,):
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code": "request_timeout"' in answer


def test_an_answer_before_the_end_of_the_body_reaches_the_client(server: tuple[str, int]) -> None:
    with connections(server, 1, head("POST", "/none", JSON, f"Content-Length: {8 * LONG}")) as (connection,):
        for _ in range(8):
            connection.sendall(b"x" * LONG)
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"code": "not_found"' in answer
