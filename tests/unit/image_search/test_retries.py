"""What the client sends again, when, and under which key."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from image_search import ApiError, Client, _core
from tests.unit.client_server import Server, job, keys, problem

AWAY = problem(503, "ledger_unavailable", "away")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client has slept, without sleeping."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def client(server: Server, pauses: list[float]) -> Iterator[Client]:
    with Client("http://server", transport=httpx.MockTransport(server)) as client:
        yield client


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again_after_growing_pauses(
    server: Server, client: Client, pauses: list[float], status: int
) -> None:
    busy = problem(status, "busy", "later")
    server.routes["GET /v1/jobs/j1"] = [busy, busy, busy, job()]
    assert client.job("j1").job_id == "j1"
    assert len(server.requests) == 4
    for number, pause in enumerate(pauses):
        longest = _core.BACKOFF_SECONDS * 2**number
        assert longest / 2 <= pause <= longest


def test_after_the_last_retry_the_error_is_raised(
    server: Server, client: Client, pauses: list[float]
) -> None:
    server.routes["GET /v1/jobs/j1"] = AWAY
    with pytest.raises(ApiError, match="away"):
        client.job("j1")
    assert len(server.requests) == 1 + _core.MAX_RETRIES
    assert len(pauses) == _core.MAX_RETRIES


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadError("reset")])
def test_a_connection_that_fails_is_made_again(server: Server, client: Client, error: Exception) -> None:
    server.routes["POST /v1/compare"] = [error, {"score": 0.5}]
    assert client.compare("a cat", {"image_id": "ab" * 32}) == 0.5
    assert len(server.requests) == 2


def test_a_server_that_takes_too_long_is_not_given_the_same_work_again(
    server: Server, client: Client
) -> None:
    server.routes["GET /v1/collections"] = httpx.ReadTimeout("slow")
    with pytest.raises(ApiError, match="did not answer in time"):
        client.collections()
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
def test_what_would_be_refused_again_is_not_sent_again(server: Server, client: Client, status: int) -> None:
    server.routes["GET /v1/jobs/j1"] = problem(status, "no", "no")
    with pytest.raises(ApiError):
        client.job("j1")
    assert len(server.requests) == 1


def test_what_is_done_twice_when_sent_twice_is_sent_once(server: Server, client: Client) -> None:
    server.routes["POST /v1/jobs/j1/retry"] = server.routes["POST /v1/collections"] = AWAY
    for ask in (lambda: client.retry("j1"), lambda: client.create_collection("cats")):
        with pytest.raises(ApiError):
            ask()
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("0", 0, 0), ("soon", 0, 0.25), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0)],
)
def test_the_server_says_how_long_to_wait(
    pauses: list[float], header: str, least: float, most: float
) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            return httpx.Response(429, headers={"Retry-After": header})
        return httpx.Response(200, json=job())

    with Client("http://server", transport=httpx.MockTransport(answer)) as client:
        assert client.job("j1").job_id == "j1"
    (pause,) = pauses
    assert least <= pause <= most


def test_a_pause_that_nobody_would_wait_for_is_an_error_at_once(pauses: list[float]) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": "3600"})

    with (
        Client("http://server", transport=httpx.MockTransport(answer)) as client,
        pytest.raises(ApiError) as raised,
    ):
        client.job("j1")
    assert raised.value.retry_after == 3600
    assert pauses == []


def test_an_upload_is_repeated_under_one_key_of_its_own(
    server: Server, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"JPEG")
    server.routes["POST /v1/jobs"] = [AWAY, httpx.ReadError("reset"), (202, job())]
    sent: list[int] = []
    client.ingest(tmp_path, on_sent=sent.append)
    assert sum(sent) == len(b"JPEG")
    assert len(set(keys(server))) == 1
    assert len(keys(server)[0]) == 32
    assert [server.form(i)[1] for i in range(3)] == [[(f"{tmp_path.name}/a.jpg", b"JPEG")]] * 3


def test_an_iterator_that_can_be_read_once_is_sent_whole_again(server: Server, client: Client) -> None:
    server.routes["POST /v1/jobs"] = [AWAY, httpx.ReadError("reset"), (202, job())]
    urls = [f"http://x/{number:040}" for number in range(5000)]
    client.ingest(iter(urls))
    for attempt in range(3):
        assert [line["url"] for line in server.lines(attempt)] == urls
    first, second, third = keys(server)
    assert first != second  # the server may have made a job of what it had read
    assert second == third  # the whole body was there, so only the answer was lost


class CutOff(httpx.BaseTransport):
    """Breaks the first request off after its first piece."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self._server.requests:
            assert isinstance(request.stream, httpx.SyncByteStream)
            pieces = iter(request.stream)
            next(pieces)
            next(pieces, None)
            self._server.requests.append(request)
            raise httpx.WriteError("broken pipe")
        return self._server(request)


def test_a_stream_that_breaks_off_goes_on_under_another_key(server: Server, pauses: list[float]) -> None:
    server.routes["POST /v1/jobs"] = (202, job())
    urls = [f"http://x/{number:040}" for number in range(5000)]
    with Client("http://server", transport=CutOff(server)) as client:
        client.ingest(iter(urls))
    first, second = keys(server)
    assert first != second
    assert [line["url"] for line in server.lines(1)] == urls


def test_a_stream_that_breaks_off_under_the_user_s_key_is_an_error(
    server: Server, pauses: list[float]
) -> None:
    urls = [f"http://x/{number:040}" for number in range(5000)]
    with (
        Client("http://server", transport=CutOff(server)) as client,
        pytest.raises(ApiError, match="broken pipe"),
    ):
        client.ingest(iter(urls), idempotency_key="mine")
    assert len(server.requests) == 1


def test_a_fault_in_an_iterator_is_the_user_s_own(server: Server, client: Client) -> None:
    def items() -> Iterator[str]:
        yield "http://x/a"
        raise LookupError("the table is gone")

    with pytest.raises(LookupError, match="the table is gone"):
        client.ingest(items())
    assert server.requests == []
