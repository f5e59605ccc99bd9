"""The clients with wrong addresses and keys, and before servers that are not image-search or another one."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from deploy.cli import main
from image_search import ApiError, AsyncClient, Client, _core
from tests.unit.client_server import Server, job, problem

PAGE = b"<html>Sign in</html>"
HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "BACKOFF_SECONDS", 0.0)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client("http://server", transport=httpx.MockTransport(server)) as client:
        yield client


def error_of(ask: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as raised:
        ask()
    assert "\n" not in raised.value.detail
    return raised.value


# Addresses and keys


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:8000", "begin with http://"),
        ("127.0.0.1:8000", "begin with http://"),
        ("ftp://server", "begin with http://"),
        ("http://", "a host name"),
        ("", "begin with http://"),
        ("http://server/v1", "end before /v1"),
        ("http://server/v1/search", "end before /v1"),
        ("http://server/?x=1", "end before any ?"),
        ("http://server/#top", "end before any ?"),
        ("http://server:port", "Port"),
        ("http://server:99999", "Port"),
        ("http://server:0", "no port 0"),
        ("http://[::1", "is not the address"),
        ("http://a..b", "is not the address"),
        (f"http://{'a' * 64}", "is not the address"),
        ("http://exa mple", "a space"),
    ],
)
def test_an_address_that_is_none_is_refused_with_what_it_has_to_be(
    kind: type[Client | AsyncClient], url: str, why: str
) -> None:
    error = error_of(lambda: kind(url))
    assert error.code == "invalid_url"
    assert repr(url) in error.detail
    assert why in error.detail


def test_a_password_in_the_address_is_not_repeated() -> None:
    assert "secret" not in error_of(lambda: Client("http://me:secret@server:port")).detail
    with Client("http://me:secret@127.0.0.1:9", retries=0) as client:
        detail = error_of(client.collections).detail
    assert "http://127.0.0.1:9" in detail
    assert "secret" not in detail


def test_the_key_of_a_file_may_end_with_a_line_break_and_have_none_within(server: Server) -> None:
    server.routes["GET /v1/collections"] = {"collections": []}
    with Client("http://server", "key\n", transport=httpx.MockTransport(server)) as client:
        client.collections()
    assert server.requests[0].headers["Authorization"] == "Bearer key"
    for key in ("two\nlines", "ключ", "a\x00b"):
        error = error_of(lambda key=key: Client("http://server", key))  # type: ignore[misc]
        assert error.code == "invalid_key"
        assert "copied whole" in error.detail


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_host_that_has_no_address_is_told_apart_from_a_server_that_is_down(
    kind: type[Client | AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = error_of(lambda: done(kind("http://nowhere.invalid", retries=0).job("j1")))
    assert error.code == "unreachable"
    assert "host name is not known" in error.detail


def done(answer: Any) -> Any:
    async def run() -> Any:
        return await answer

    return asyncio.run(run()) if asyncio.iscoroutine(answer) else answer


def test_a_file_of_certificates_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/nowhere.pem", __file__):
        monkeypatch.setenv("SSL_CERT_FILE", path)
        assert f"SSL_CERT_FILE={path} cannot be used" in error_of(lambda: Client("https://server")).detail


def test_what_cannot_be_sent_is_an_error_before_anything_is(server: Server, client: Client) -> None:
    for ask in (
        lambda: client.search("\udcff"),
        lambda: client.search("x", min_score=float("nan")),
        lambda: client.ingest_urls(["http://x"], idempotency_key="ключ"),
    ):
        error = error_of(ask)
        assert error.code == "invalid_request"
        assert "cannot be sent" in error.detail
    assert not server.requests


# Other versions


def test_a_server_of_a_later_minor_version_works(server: Server, client: Client) -> None:
    later = {"X-Image-Search-Version": "0.9.0"}
    paused = job("j1", "paused", 3, indexed=1, quarantined=2) | {"kind": "mirror", "priority": 3}
    server.routes["GET /v1/jobs/j1"] = httpx.Response(200, json=paused, headers=later)
    found = client.job("j1")
    assert (found.status, found.kind, found.finished) == ("paused", "mirror", False)
    archived = paused | {"status": "archived", "finished_at": "2026-01-01T00:00:00.000Z"}
    server.routes["GET /v1/jobs/j1"] = archived
    assert client.wait("j1").status == "archived"
    item = {"index": 0, "source": "x", "status": "quarantined", "code": "virus", "shelf": [1]}
    server.routes["GET /v1/jobs/j1/items"] = {"items": [item], "next_cursor": None, "total": 1}
    assert [one.code for one in client.iter_items("j1")] == ["virus"]
    server.routes["POST /v1/search"] = problem(422, "too_vague", "Say more.", hint="x")
    assert error_of(lambda: client.search("x")).code == "too_vague"


@pytest.mark.parametrize("status", [200, 404, 422])
def test_a_server_of_another_major_version_is_one_sentence(
    server: Server, client: Client, status: int
) -> None:
    headers = {"X-Image-Search-Version": "1.2.0"}
    server.routes["GET /v1/jobs/j1"] = httpx.Response(status, json={"jobs": []}, headers=headers)
    error = error_of(lambda: client.job("j1"))
    assert error.code == "incompatible_version"
    assert "is image-search 1.2.0, this client is 0." in error.detail
    assert "install the client of that version" in error.detail


@pytest.mark.parametrize("version", ["", "abc", "1", "'; rm -rf /", "9" * 5000 + ".0", "\x7f.1"])
def test_a_version_that_is_none_is_nobody_s(server: Server, client: Client, version: str) -> None:
    headers = {"X-Image-Search-Version": version}
    server.routes["GET /v1/jobs/j1"] = httpx.Response(200, json=job(), headers=headers)
    assert client.job("j1").finished


# Keys that are refused, and paths that are too many


def test_a_refused_key_is_said_with_how_to_give_one(server: Server, client: Client) -> None:
    server.routes["GET /v1/jobs/j1"] = problem(401, "unauthorized", "This needs an API key.")
    detail = error_of(lambda: client.job("j1")).detail
    assert detail.startswith("This needs an API key.")
    assert "IMAGE_SEARCH_API_KEY" in detail


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (405, "method_not_allowed")])
def test_an_address_with_a_path_too_many_is_asked_about(server: Server, status: int, code: str) -> None:
    server.routes["POST /docs/v1/search"] = problem(status, code, "No such route.")
    with Client("http://server/docs/", transport=httpx.MockTransport(server)) as client:
        assert "Is http://server the whole address" in error_of(lambda: client.search("x")).detail


# Answers that are not image-search's


@pytest.mark.parametrize("status", [200, 203, 204, 206, 304, 400, 401, 403, 404, 407, 413, 500, 502, 504])
@pytest.mark.parametrize(
    "call",
    [
        lambda client, path: client.ready(),
        lambda client, path: client.search("x"),
        lambda client, path: client.thumbnail("ab" * 32),
        lambda client, path: client.explain("ab" * 32, "x"),
        lambda client, path: client.download_export("j1", path),
    ],
    ids=["ready", "search", "thumbnail", "explain", "download"],
)
def test_a_page_of_a_proxy_is_never_taken_for_an_answer(
    tmp_path: Path, call: Callable[[Client, Path], object], status: int
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=HTML, content=b"" if status in (204, 304) else PAGE)

    with Client("http://server", transport=httpx.MockTransport(answer)) as client:
        error = error_of(lambda: call(client, tmp_path / "x"))
    assert error.http_status == status
    assert f"http://server answers {status}" in error.detail
    assert "not image-search: " in error.detail
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("status", [200, 202])
def test_a_page_does_not_say_that_something_is_deleted(server: Server, client: Client, status: int) -> None:
    page = httpx.Response(status, headers=HTML, content=PAGE)
    server.routes = dict.fromkeys([f"DELETE /v1/images/{'ab' * 32}", "DELETE /v1/collections/cats"], page)
    assert error_of(lambda: client.delete_image("ab" * 32)).code == "unexpected_answer"
    assert error_of(lambda: client.delete_collection("cats")).code == "unexpected_answer"


def test_a_redirect_is_not_followed_and_shown_without_what_its_query_holds(
    server: Server, client: Client
) -> None:
    target = "https://login.example/start?state=SECRET"
    server.routes["GET /v1/jobs/j1"] = httpx.Response(302, headers={"Location": target})
    detail = error_of(lambda: client.job("j1")).detail
    assert "redirects to https://login.example/start: give the address" in detail
    assert "SECRET" not in detail


@pytest.mark.parametrize(
    ("status", "headers", "advice"),
    [
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, "a login of its own"),
        (413, {}, "client_max_body_size"),
        (502, {}, "is that running?"),
        (503, {"Retry-After": "9" * 400}, "is that running?"),
        (503, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, "is that running?"),
        (504, {}, "proxy_read_timeout"),
        (400, {}, "it wants https://"),
        (404, {}, "check the address"),
    ],
)
def test_a_proxy_s_error_is_said_with_what_to_do(
    server: Server, client: Client, status: int, headers: dict[str, str], advice: str
) -> None:
    body = b"The plain HTTP request was sent to HTTPS port"
    answer = httpx.Response(status, headers=HTML | headers, content=body)
    server.routes["GET /v1/jobs/j1"] = answer
    assert advice in error_of(lambda: client.job("j1")).detail


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b"7", b'"text"', b"{}", b"", b"\xff\xfe", b"{", b"[" * 100_000, b'{"job_id": "j1"}'],
)
@pytest.mark.parametrize("status", [200, 404, 503])
def test_json_that_is_something_else_is_one_sentence(
    server: Server, client: Client, status: int, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/jobs/j1", "/v1/collections", "/readyz"):
        server.routes[f"GET {path}"] = httpx.Response(status, headers=headers, content=body)
    for ask in (lambda: client.job("j1"), client.collections, client.ready):
        error = error_of(ask)
        assert error.http_status == status
        assert len(error.detail) < 500
        assert "check the address" in error.detail or status == 503


# Over the wire


@contextmanager
def wire(answer: bytes) -> Iterator[str]:
    """Serve one connection: read its first byte, answer, and end, whatever else comes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # the client has gone, or the test has ended
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                connection.recv(1)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # as nginx lingers, so that its answer is not lost
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        thread.join(10)


HEAD = b"HTTP/1.1 413 Request Entity Too Large\r\nServer: nginx\r\nContent-Type: text/html\r\n"
TOO_LARGE = HEAD + b"Content-Length: 20\r\nConnection: close\r\n\r\n" + PAGE
ENDS_EARLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("scheme", "answer", "sentence"),
    [
        ("http", ENDS_EARLY, "broke off"),
        ("http", b"", "broke off"),
        ("http", TLS_ALERT, "wants https://"),
        ("http", b"220 mail.example ESMTP\r\n", "broke off"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "is it http://?"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnot gzip", "broke off"),
    ],
)
def test_what_speaks_otherwise_is_said(
    kind: type[Client | AsyncClient], scheme: str, answer: bytes, sentence: str
) -> None:
    with wire(answer) as place:
        retries = 0 if scheme == "http" else 3  # the one connection is all there is
        error = error_of(lambda: done(kind(f"{scheme}://{place}", retries=retries).job("j1")))
    assert error.code == ("unreachable" if scheme == "http" else "tls_failed")
    assert sentence in error.detail
    assert place in error.detail
    assert "()" not in error.detail


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_proxy_that_takes_no_such_body_is_heard_while_it_is_sent(
    kind: type[Client | AsyncClient], tmp_path: Path
) -> None:
    picture = tmp_path / "large.jpg"
    picture.write_bytes(bytes(20_000_000))
    with wire(TOO_LARGE) as place:
        error = error_of(lambda: done(kind(f"http://{place}", retries=0).ingest(picture)))
    assert error.http_status == 413
    assert "client_max_body_size" in error.detail


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "--url", "localhost:8000"),
        ("search", "\udcff"),
        ("collections", "list", "--api-key", "a\x01"),
        ("status", "j1", "--url", "http://127.0.0.1:9"),
        ("search", "a", "--url", "http://server/v1"),
    ],
)
def test_a_command_says_it_in_one_line(arguments: tuple[str, ...], options: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*arguments, *options], prog_name="image-search")
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    if options:
        assert json.loads(result.stderr).keys() == {"code", "detail"}
    else:
        assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert not result.stdout


def test_a_command_before_a_proxy_s_page_says_it_in_one_line() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n" + PAGE
    with wire(page) as place:
        result = CliRunner().invoke(main, ["search", "a", "--url", f"http://{place}", "--json"])
    assert result.exit_code == 1
    assert "an HTML page" in result.stderr
    assert not result.stdout
