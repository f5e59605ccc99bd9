"""Calls to Chroma, counted where they are made, on a transport that answers as the tests say."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from shared.errors import ImageSearchError, IndexRefused
from shared.index.connection import calls
from shared.index.observed_client import ObservedClient
from tests.unit.counted import Counted, samples

OF = "http://chroma/api/v2/tenants/default_tenant/databases/default_database"
RECORDS = f"{OF}/collections/0e7c"


def answering(status: int) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, json={})


def raising(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


def client(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> httpx.Client:
    return ObservedClient(transport=httpx.MockTransport(answer), **options)


@pytest.mark.parametrize(
    ("method", "url", "operation"),
    [
        ("POST", f"{RECORDS}/query", "query"),
        ("POST", f"{RECORDS}/get", "get"),
        ("POST", f"{RECORDS}/add", "add"),
        ("POST", f"{RECORDS}/upsert", "upsert"),
        ("POST", f"{RECORDS}/update", "update"),
        ("POST", f"{RECORDS}/delete", "delete"),
        ("GET", f"{RECORDS}/count", "count"),
        ("POST", f"{OF}/collections", "collection"),
        ("PUT", RECORDS, "collection"),
        ("DELETE", f"{OF}/collections/query", "collection"),
        ("POST", f"{RECORDS}/fork", "other"),
        ("GET", "http://chroma/api/v2/heartbeat", "other"),
        ("GET", "http://chroma", "other"),
    ],
)
def test_a_call_counts_under_what_it_asks(method: str, url: str, operation: str) -> None:
    counted = Counted()
    client(answering(200)).request(method, url)
    assert counted("chroma_requests_total", operation=operation, outcome="ok") == 1
    assert counted("chroma_request_seconds_count", operation=operation) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (answering(201), "ok"),
        (answering(400), "refused"),
        (answering(404), "refused"),
        (answering(500), "refused"),
        (answering(429), "unavailable"),
        (answering(502), "unavailable"),
        (raising(httpx.ConnectError("refused")), "unavailable"),
        (raising(httpx.ConnectTimeout("slow")), "timeout"),
        (raising(httpx.ReadTimeout("slow")), "timeout"),
        (raising(IndexRefused("too large", size=True)), "refused"),
    ],
)
def test_a_call_counts_under_how_it_ended(
    answer: Callable[[httpx.Request], httpx.Response], outcome: str
) -> None:
    counted = Counted()
    try:
        with calls(5.0):
            client(answer).post(f"{RECORDS}/query")
    except ImageSearchError:
        assert outcome != "ok"
    assert counted("chroma_requests_total", operation="query", outcome=outcome) == 1
    assert counted("chroma_request_seconds_count", operation="query") == 1


def test_what_a_hook_refuses_counts_too() -> None:
    counted = Counted()

    def refuse(_: httpx.Response) -> None:
        raise IndexRefused("Chroma takes no request of this size.", size=True)

    with pytest.raises(IndexRefused):
        client(answering(413), event_hooks={"response": [refuse]}).post(f"{RECORDS}/upsert")
    assert counted("chroma_requests_total", operation="upsert", outcome="refused") == 1


def test_no_name_of_a_collection_or_database_makes_a_series() -> None:
    client(answering(200)).get(OF)
    for operation in ("query", "collection"):
        client(answering(200)).get(f"{RECORDS}/{operation}")
    before = samples().keys()
    for name in ("query", "mine", "%2F..%2Fcount", "collections"):
        for end in ("", "/collections", f"/collections/{name}", f"/collections/{name}/query"):
            client(answering(200)).get(f"http://chroma/api/v2/tenants/{name}/databases/{name}{end}")
    grown = samples().keys() - before
    assert {dict(labels)["operation"] for _, labels in grown} <= {"count"}, "a known operation's first"
