"""OpenTelemetry's SDK: only tracing.py imports this, and only where spans are wanted."""

import logging
import os
import re
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager
from traceback import format_tb
from typing import Any, Self

import requests
import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import ImageSearchError
from shared.models import Cause
from shared.tracing.span import Attributes, Kind, Span
from shared.urls.redaction import redacted
from shared.version import VERSION

_OF_HEADER = re.compile("header (value|name|part)", re.IGNORECASE)  # whose errors show it, credentials too

log = structlog.get_logger(__name__)


class RecordedSpan(Span):
    """A span of the SDK."""

    __slots__ = ("_token", "otel")

    def __init__(self, otel: trace.Span) -> None:
        self.otel = otel

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self.otel))
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):
            self.record(error)
        context.detach(self._token)
        self.end()

    def set(self, attributes: Attributes) -> None:
        self.otel.set_attributes(attributes)

    def inside(self) -> AbstractContextManager[object]:
        return trace.use_span(self.otel, record_exception=False, set_status_on_exception=False)

    def fail(self, kind: str, detail: str = "") -> None:
        self.otel.set_attribute("error.type", kind)
        self.otel.set_status(trace.StatusCode.ERROR, detail or kind)

    def record(self, error: BaseException) -> None:
        # Other libraries' messages may show what was asked for, or credentials; the frames are only our code.
        ours = redacted(error.detail) if isinstance(error, ImageSearchError) else ""
        ours = ours.encode("utf-8", "replace").decode()  # half a surrogate pair would lose the whole batch
        said = {
            "exception.type": type(error).__qualname__,
            "exception.message": ours,
            "exception.stacktrace": "".join(format_tb(error.__traceback__)),
        }
        self.otel.add_event("exception", said)
        self.fail(type(error).__qualname__, ours)

    def link(self, other: Span) -> None:
        if isinstance(other, RecordedSpan):
            self.otel.add_link(other.otel.get_span_context())

    def end(self) -> None:
        self.otel.end()


class Sdk:
    """OpenTelemetry's SDK with its exporter to a URL, by its variables. Raises what it raises for these."""

    def __init__(self, role: str, endpoint: str) -> None:
        self._propagator = TraceContextTextMapPropagator()
        own = {
            "service.name": f"image-search-{role}",
            "service.version": VERSION,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
        resource = Resource.create({name: one for name, one in own.items() if name not in _given()})
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter: Any = Exporter(OTLPSpanExporter(endpoint, session=_session()))
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        exporter.quieten()
        self._tracer = self.provider.get_tracer("image_search", VERSION)

    def start(
        self,
        name: str,
        kind: Kind,
        parent: Cause | None,
        links: Sequence[Span],
        attributes: Attributes | None,
    ) -> RecordedSpan:
        of = None  # the current one
        if parent is not None:
            of = self._propagator.extract({"traceparent": parent.traceparent}, context.Context())
        linked = [trace.Link(one.otel.get_span_context()) for one in links if isinstance(one, RecordedSpan)]
        otel = self._tracer.start_span(name, of, trace.SpanKind[kind.upper()], attributes, linked)
        return RecordedSpan(otel)

    def is_recording(self) -> bool:
        return trace.get_current_span().is_recording()

    def current(self) -> RecordedSpan | None:
        span = trace.get_current_span()
        return RecordedSpan(span) if span.get_span_context().is_valid else None

    def ids(self) -> dict[str, str]:
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            return {}
        return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}

    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get("traceparent", "")


def _given() -> set[str]:
    """Return the resource's attributes that are given: the SDK's detector would say twice what is wrong."""
    pairs = (one.partition("=") for one in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    names = {name.strip() for name, equals, _ in pairs if equals}
    return names | ({"service.name"} if os.environ.get("OTEL_SERVICE_NAME") else set())


def _session() -> requests.Session | None:
    """Return a session in which a redirect fails; None where a provider of credentials makes it."""
    if any(name.endswith("_CREDENTIAL_PROVIDER") for name in os.environ):
        return None
    session = requests.Session()
    session.hooks["response"] = [_refuse_redirect]
    return session


def _refuse_redirect(response: requests.Response, **_: Any) -> None:
    """Raise OSError for a redirect, which the exporter neither follows nor takes for a failure."""
    if 300 <= response.status_code < 400:
        raise OSError(f"{response.status_code}: the endpoint redirects, and spans are not sent on")


class Exporter(logging.Filter):
    """An exporter that says once that a collector takes no spans, and once that it does again.

    As a filter it keeps what the SDK says of each batch out of the log, but for the first reason.
    """

    def __init__(self, exporter: Any) -> None:
        super().__init__()
        self._exporter = exporter
        self._failing = self._full = False
        self._reason = ""
        names = (type(exporter).__module__, "opentelemetry.sdk._shared_internal")
        self._loggers = [logging.getLogger(name) for name in names]

    def quieten(self) -> None:
        """Begin to filter what is said, until `shutdown`."""
        for logger in self._loggers:
            logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        if said.startswith("Queue full"):  # of a collector that is too slow
            first, self._full = not (self._full or self._failing), True
            return first
        if not self._reason:
            self._reason = "a header cannot be sent" if _OF_HEADER.search(said) else said
        return False

    def export(self, spans: Sequence[Any]) -> Any:
        result = self._exporter.export(spans)
        failing = result.name != "SUCCESS"
        if failing and not self._failing:
            log.warning("traces_not_exported", reason=self._reason, until="the collector takes them again")
        elif self._failing and not failing:
            log.info("traces_exported_again")
        if not failing:
            self._reason = ""
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
        for logger in self._loggers:
            logger.removeFilter(self)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))
