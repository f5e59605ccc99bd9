from collections.abc import Iterator

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from api import request_spans
from api.http import problems
from shared.errors import IndexUnavailable
from shared.tracing import tracing
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan, spans_of_this_process


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with spans_of_this_process("api") as one:
        yield one


@pytest.fixture
def http(receiver: OtlpReceiver) -> FlaskClient:
    app = Flask(__name__)
    problems.install(app)
    request_spans.install(app)

    @app.get("/things/<name>")
    def thing(name: str) -> str:
        tracing.span("part", within=True).end()
        return name

    @app.get("/away")
    def away() -> str:
        raise IndexUnavailable("Chroma is away.")

    @app.get("/broken")
    def broken() -> str:
        raise KeyError("a secret")

    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[str]:
            tracing.span("first part", within=True).end()
            yield "a"
            tracing.span("second part", within=True).end()
            yield "b"

        return Response(parts())

    @app.get("/torn")
    def torn() -> Response:
        def parts() -> Iterator[str]:
            yield "a"
            raise IndexUnavailable("Chroma is away.")

        return Response(parts())

    app.add_url_rule("/readyz", view_func=lambda: "ready")
    return app.test_client()


def only(receiver: OtlpReceiver, name: str) -> ReceivedSpan:
    tracing.shut_down()
    (span,) = receiver.named(name)
    return span


def test_a_request_is_a_span_named_by_its_route(http: FlaskClient, receiver: OtlpReceiver) -> None:
    http.get("/things/red?secret=1", headers={"X-Request-ID": "r-1"})
    span = only(receiver, "GET /things/<name>")
    said = {
        "http.request.method": "GET",
        "http.route": "/things/<name>",
        "url.path": "/things/red",
        "http.response.status_code": 200,
        "image_search.request_id": "r-1",
    }
    assert said.items() <= span.attributes.items()
    assert "secret" not in str(span)
    assert not span.failed
    assert receiver.named("part")[0].parent == span.id


@pytest.mark.parametrize(
    ("path", "status", "kind"), [("/away", 503, "IndexUnavailable"), ("/broken", 500, "KeyError")]
)
def test_an_answer_that_is_the_servers_fault_is_a_failed_span_that_says_the_error(
    http: FlaskClient, receiver: OtlpReceiver, path: str, status: int, kind: str
) -> None:
    assert http.get(path).status_code == status
    span = only(receiver, f"GET {path}")
    assert span.failed
    assert span.attributes["http.response.status_code"] == status
    assert span.events[0]["exception.type"] == kind


def test_a_mistake_of_the_client_is_no_failed_span(http: FlaskClient, receiver: OtlpReceiver) -> None:
    assert http.get("/nowhere").status_code == 404
    assert not only(receiver, "GET").failed


def test_a_method_that_a_client_made_up_is_in_no_name(http: FlaskClient, receiver: OtlpReceiver) -> None:
    http.open("/things/red", method="M" * 1000)
    span = only(receiver, "HTTP")
    assert span.attributes["http.request.method"] == "_OTHER"
    assert len(str(span.attributes["http.request.method_original"])) == request_spans.MAX_CHARS


def test_what_a_stream_does_is_within_its_request(http: FlaskClient, receiver: OtlpReceiver) -> None:
    assert http.get("/stream", buffered=True).text == "ab"
    span = only(receiver, "GET /stream")
    parts = receiver.named("first part") + receiver.named("second part")
    assert [part.parent for part in parts] == [span.id] * 2
    assert all(part.end_ns <= span.end_ns for part in parts)


def test_a_stream_that_breaks_off_is_a_failed_span(http: FlaskClient, receiver: OtlpReceiver) -> None:
    with pytest.raises(IndexUnavailable):
        http.get("/torn", buffered=True)
    span = only(receiver, "GET /torn")
    assert span.failed
    assert span.events[0]["exception.type"] == "IndexUnavailable"
    assert not tracing.ids()


def test_a_stream_that_nobody_reads_ends_its_span(http: FlaskClient, receiver: OtlpReceiver) -> None:
    http.get("/stream", buffered=False).close()
    assert not only(receiver, "GET /stream").failed


@pytest.mark.parametrize("header", ["a" * 7_000, "01-" + "a" * 32 + "-" + "b" * 16 + "-01-" + "c" * 7_000])
def test_a_client_cannot_fill_the_log_with_its_traceparent(
    http: FlaskClient, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    assert http.get("/things/red", headers={"traceparent": header}).status_code == 200
    assert only(receiver, "GET /things/<name>")
    assert not caplog.records


def test_a_probe_makes_no_span_and_leaves_none_behind(http: FlaskClient, receiver: OtlpReceiver) -> None:
    http.get("/things/red")
    assert http.get("/readyz").status_code == 200
    assert not tracing.ids()
    tracing.shut_down()
    assert not [span for span in receiver.spans if "readyz" in span.name]
