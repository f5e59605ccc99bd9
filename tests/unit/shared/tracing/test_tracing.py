import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from structlog.contextvars import bound_contextvars

from shared.config import Settings
from shared.errors import ConfigError, IndexUnavailable
from shared.logs import configure_logging
from shared.models import Cause
from shared.tracing import tracing
from shared.tracing.sdk import Exporter
from tests.otlp_receiver import OtlpReceiver

CALLER = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as one:
        yield one


@pytest.fixture(autouse=True)
def _clean(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    tracing.shut_down()


@pytest.fixture
def begin(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets this process up for the receiver, with further variables."""

    def set_up(**variables: str) -> None:
        for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **variables}.items():
            monkeypatch.setenv(name, value)
        tracing.set_up("fetch")

    return set_up


@contextmanager
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """What the block logs."""
    configure_logging(Settings(log_format="json"))
    said: list[str] = []
    capsys.readouterr()
    yield said
    said += capsys.readouterr().err.splitlines()


def test_without_the_variables_nothing_of_the_sdk_is_imported_and_no_span_made() -> None:
    script = (
        "import sys; from shared.tracing import tracing; tracing.set_up('api')\n"
        "with tracing.span('a') as one: assert one is tracing.span('b') is tracing.current()\n"
        "assert not tracing.ids() and not tracing.cause().traceparent and not tracing.is_active()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], env={}, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    "variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}], ids=str
)
def test_a_collector_alone_is_not_enough_where_spans_are_turned_off(
    begin: Callable[..., None], variables: dict[str, str]
) -> None:
    begin(**variables)
    assert not tracing.is_active()


def test_spans_say_what_they_are_within_of_which_service_and_how_they_failed(
    begin: Callable[..., None], receiver: OtlpReceiver
) -> None:
    password = "sesame"
    begin(OTEL_EXPORTER_OTLP_HEADERS="api-key=s%20cret", OTEL_RESOURCE_ATTRIBUTES="service.namespace=shop")
    with (
        pytest.raises(IndexUnavailable),
        tracing.span("outer", kind="server", parent=Cause(traceparent=CALLER), attributes={"n": 3}),
        tracing.span("inner"),
    ):
        raise IndexUnavailable(f"No answer from http://user:{password}@chroma/.")
    tracing.shut_down()
    inner, outer = receiver.named("inner")[0], receiver.named("outer")[0]
    assert (outer.trace, outer.parent, outer.kind) == ("a" * 32, "b" * 16, "server")
    assert outer.attributes["n"] == 3
    assert (inner.trace, inner.parent, inner.kind) == (outer.trace, outer.id, "internal")
    assert inner.failed
    assert inner.attributes["error.type"] == "IndexUnavailable"
    (event,) = inner.events
    assert "No answer from" in event["exception.message"]
    assert password not in str(inner)
    assert inner.resource["service.name"] == "image-search-fetch"
    assert inner.resource["service.namespace"] == "shop"
    assert "service.version" in inner.resource
    assert inner.resource["service.instance.id"].endswith(f"-{os.getpid()}")
    assert receiver.headers["api-key"] == "s cret"


def test_what_other_libraries_say_of_an_error_is_not_told(
    begin: Callable[..., None], receiver: OtlpReceiver
) -> None:
    begin()
    with pytest.raises(KeyError), tracing.span("one"):
        raise KeyError("a secret query")
    tracing.shut_down()
    (span,) = receiver.spans
    assert span.failed
    assert "secret" not in re.sub("raise KeyError.*", "", str(span))


def test_an_error_that_quotes_what_is_no_text_loses_no_spans(
    begin: Callable[..., None], receiver: OtlpReceiver
) -> None:
    begin()
    tracing.span("another").end()
    with pytest.raises(IndexUnavailable), tracing.span("one"):
        raise IndexUnavailable("No model \ud800.")
    tracing.shut_down()
    assert receiver.named("another")
    assert receiver.named("one")[0].events[0]["exception.message"] == "No model ?."


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SERVICE_NAME": "pictures", "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=7"},
        {"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name = pictures,service.instance.id=7"},
    ],
    ids=str,
)
def test_the_service_is_called_as_its_variable_says(
    begin: Callable[..., None], receiver: OtlpReceiver, variables: dict[str, str]
) -> None:
    begin(**variables)
    tracing.span("one").end()
    tracing.shut_down()
    resource = receiver.spans[0].resource
    assert resource["service.name"] == "pictures"
    assert resource["service.instance.id"] == "7"


@pytest.mark.parametrize(
    "hostile", ["", "x", "00-" + "0" * 32 + "-" + "b" * 16 + "-01", CALLER * 2, "ff" + CALLER[2:], "é\n" * 99]
)
def test_a_traceparent_that_is_none_begins_a_trace(
    begin: Callable[..., None], receiver: OtlpReceiver, hostile: str
) -> None:
    begin()
    with tracing.span("around"):
        tracing.span("one", parent=Cause(traceparent=hostile)).end()
    tracing.shut_down()
    assert receiver.named("one")[0].parent == ""


def test_a_cause_carries_on_in_another_process(begin: Callable[..., None], receiver: OtlpReceiver) -> None:
    begin()
    with bound_contextvars(request_id="r-1"), tracing.span("request"):
        cause = tracing.cause()
    tracing.span("chunk", parent=cause).end()
    tracing.shut_down()
    assert cause.request_id == "r-1"
    assert receiver.named("chunk")[0].parent == receiver.named("request")[0].id


def test_what_the_caller_does_not_sample_is_not_sent(
    begin: Callable[..., None], receiver: OtlpReceiver
) -> None:
    begin()
    with tracing.span("one", parent=Cause(traceparent=CALLER[:-1] + "0")):
        tracing.span("two").end()
    tracing.span("three").end()
    tracing.shut_down()
    assert [span.name for span in receiver.spans] == ["three"]


def test_a_span_within_is_made_only_where_there_is_one_that_is_sampled(
    begin: Callable[..., None], receiver: OtlpReceiver
) -> None:
    begin()
    none = tracing.span("call", within=True)
    with tracing.span("unsampled", parent=Cause(traceparent=CALLER[:-1] + "0")):
        assert tracing.span("call", within=True) is none
    with tracing.span("request"):
        tracing.span("call", within=True).end()
    tracing.shut_down()
    assert sorted(span.name for span in receiver.spans) == ["call", "request"]


def test_threads_that_are_given_work_have_its_span_and_its_log_fields(begin: Callable[..., None]) -> None:
    begin()
    with bound_contextvars(request_id="r-1"), tracing.span("request"), ThreadPoolExecutor(2) as pool:
        here = tracing.cause()
        there = list(pool.map(tracing.carried(lambda _: tracing.cause()), range(8)))
    assert there == [here] * 8


def test_log_lines_have_the_ids_of_the_current_span(
    begin: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    begin()
    with lines(capsys) as said, tracing.span("one"):
        ids = tracing.ids()
        structlog.get_logger().info("ours")
        logging.getLogger("theirs").warning("theirs")
    assert len(said) == 2
    assert all(f'"trace_id": "{ids["trace_id"]}"' in line for line in said)
    assert all(f'"span_id": "{ids["span_id"]}"' in line for line in said)


@pytest.mark.parametrize("protocol", ["grpc", "http/json"])
def test_a_protocol_that_is_not_there_is_refused_in_a_sentence(
    begin: Callable[..., None], protocol: str
) -> None:
    with pytest.raises(ConfigError, match=f"OTEL_EXPORTER_OTLP_PROTOCOL is '{protocol}'.*http/protobuf"):
        begin(OTEL_EXPORTER_OTLP_PROTOCOL=protocol)


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "no url"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://["},
        {"OTEL_TRACES_SAMPLER": "sometimes"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"},
        {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
        {"OTEL_BSP_SCHEDULE_DELAY": "soon"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "long"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "sesame"},
        {"OTEL_RESOURCE_ATTRIBUTES": "nonsense"},
    ],
    ids=str,
)
def test_variables_that_cannot_be_are_one_line_and_no_reason_to_stop(
    begin: Callable[..., None], capsys: pytest.CaptureFixture[str], variables: dict[str, str]
) -> None:
    with lines(capsys) as said:
        begin(**variables)
        with tracing.span("one"):
            pass
    assert len(said) == 1, said
    assert "sesame" not in said[0]
    assert "Traceback" not in said[0]


@pytest.fixture
def exporter(request: pytest.FixtureRequest, receiver: OtlpReceiver) -> Iterator[Exporter]:
    one = Exporter(OTLPSpanExporter(receiver.url, headers=getattr(request, "param", None)))
    one.quieten()
    yield one
    one.shutdown()


def test_an_outage_is_one_line_and_its_end_another(
    receiver: OtlpReceiver, exporter: Exporter, capsys: pytest.CaptureFixture[str]
) -> None:
    with lines(capsys) as said:
        for manner in ("takes", "refuses", "refuses", "takes", "takes", "refuses"):
            receiver.manner = manner  # type: ignore[assignment]
            exporter.export([])
    assert receiver.requests == 6
    events = [re.search('"event": "([^"]+)"', line) for line in said]
    assert [event and event[1] for event in events] == [
        "traces_not_exported",
        "traces_exported_again",
        "traces_not_exported",
    ]
    assert "500" in said[0]


@pytest.mark.parametrize("end", ["\n", "/", "/\n", ""])
def test_an_endpoint_may_have_what_files_and_people_put_at_its_end(
    begin: Callable[..., None], receiver: OtlpReceiver, end: str
) -> None:
    begin(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url + end, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" ")
    tracing.span("one").end()
    tracing.shut_down()
    assert receiver.named("one")
    assert receiver.path == "/v1/traces"


def test_a_collector_that_redirects_has_not_taken_the_spans(
    begin: Callable[..., None], receiver: OtlpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.manner = "redirects"
    with lines(capsys) as said:
        begin()
        tracing.span("one").end()
        tracing.shut_down()
    (line,) = said
    assert "traces_not_exported" in line
    assert "308: the endpoint redirects" in line


@pytest.mark.parametrize("exporter", [{"authorization": "Bearer sesame\n"}], indirect=True, ids=["newline"])
def test_headers_that_cannot_be_sent_are_not_shown(
    exporter: Exporter, capsys: pytest.CaptureFixture[str]
) -> None:
    with lines(capsys) as said:
        exporter.export([])
    assert len(said) == 1
    assert "sesame" not in said[0]


def test_a_collector_that_hangs_holds_up_neither_spans_nor_the_end(
    begin: Callable[..., None], receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without bounds the end would wait for the exporter, and the test fail by its time-out."""
    receiver.manner = "hangs"
    monkeypatch.setattr(tracing, "SHUTDOWN_SECONDS", 0.1)
    begin(OTEL_BSP_MAX_QUEUE_SIZE="8", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4", OTEL_EXPORTER_OTLP_TIMEOUT="600")
    for _ in range(100):
        tracing.span("one").end()
    tracing.shut_down()
    assert receiver.spans == []
