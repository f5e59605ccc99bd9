"""An OpenTelemetry collector for tests: takes spans over HTTP, in one way or another, and keeps them."""

import gzip
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.tracing import tracing

Manner = Literal["takes", "refuses", "redirects", "hangs"]
_STATUSES = {"takes": 200, "refuses": 500, "redirects": 308}


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it came: ids in hexadecimal digits, `parent` "" for a root, `links` to ids of spans."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    links: tuple[str, ...]
    events: tuple[Mapping[str, Any], ...]
    failed: bool


class OtlpReceiver:
    """`with OtlpReceiver() as receiver:` is a collector at `receiver.url`.

    One that `refuses` answers 500, one that `redirects` 308, one that `hangs` never; `manner` may be changed.
    `requests` counts what came, `path` and `headers` are those of the last.
    """

    def __init__(self, manner: Manner = "takes") -> None:
        self.manner = manner
        self.requests = 0
        self.path = ""
        self.headers: dict[str, str] = {}
        self._spans: list[ReceivedSpan] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[ReceivedSpan]:
        with self._lock:
            return list(self._spans)

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    def ancestors(self, span: ReceivedSpan) -> list[ReceivedSpan]:
        """Those that have come, the nearest first."""
        by_id = {one.id: one for one in self.spans}
        found: list[ReceivedSpan] = []
        while span.parent in by_id:
            found.append(span := by_id[span.parent])
        return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.path, receiver.headers = self.path, dict(self.headers)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests += 1
                if receiver.manner == "hangs":
                    receiver._over.wait()
                    return
                if receiver.manner == "takes":
                    packed = self.headers.get("Content-Encoding") == "gzip"
                    receiver._keep(gzip.decompress(body) if packed else body)
                self.send_response(_STATUSES[receiver.manner])
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _keep(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            for of_resource in request.resource_spans:
                resource = _values(of_resource.resource.attributes)
                for of_scope in of_resource.scope_spans:
                    self._spans += [_received(span, resource) for span in of_scope.spans]


@contextmanager
def spans_of_this_process(role: str) -> Iterator[OtlpReceiver]:
    """Inside, this process makes the spans of a role, and sends the last of them at the end."""
    with OtlpReceiver() as receiver, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        tracing.set_up(role)
        yield receiver
        tracing.shut_down()


def _received(span: Any, resource: Mapping[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        resource=resource,
        links=tuple(link.span_id.hex() for link in span.links),
        events=tuple(_values(event.attributes) for event in span.events),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
    )


def _values(attributes: Iterable[Any]) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def as_text(spans: Iterable[ReceivedSpan], trace: str) -> str:
    """The tree of a trace, a line per span: name, start after the first and duration, attributes."""
    of_trace = sorted((span for span in spans if span.trace == trace), key=lambda span: span.start_ns)
    ids = {span.id for span in of_trace}
    first = of_trace[0].start_ns

    def lines(parent: ReceivedSpan | None, depth: int) -> list[str]:
        found: list[str] = []
        for span in of_trace:
            if (span.parent == parent.id) if parent else (span.parent not in ids):
                at, took = (span.start_ns - first) / 1e6, (span.end_ns - span.start_ns) / 1e6
                said = " ".join(f"{name}={value}" for name, value in span.attributes.items())
                links = f" links={len(span.links)}" if span.links else ""
                what = f"{span.name} [{span.resource['service.name']}, {span.kind}]"
                found.append(f"{'  ' * depth}{what} +{at:.1f} ms, {took:.1f} ms: {said}{links}")
                found += lines(span, depth + 1)
        return found

    return "\n".join(lines(None, 0))
