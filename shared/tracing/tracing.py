"""Spans for an OpenTelemetry collector, where OpenTelemetry's own variables name one.

Without, nothing of OpenTelemetry is imported, and `span` gives one object that does nothing.
"""

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import urlsplit

import structlog

from shared.errors import ConfigError
from shared.models import Cause
from shared.tracing.span import Attributes, Kind, Span

if TYPE_CHECKING:
    from shared.tracing.sdk import Sdk

SHUTDOWN_SECONDS = 2.0  # for the last spans, at the end of a process
_PROTOCOL = "http/protobuf"
_ENDPOINT, _BASE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)

_NO_SPAN = Span()
_sdk: "Sdk | None" = None


def _variable(*names: str) -> str:
    """Return the first of these variables that is not empty, as OpenTelemetry reads them."""
    return next(filter(None, (os.environ.get(name, "").strip() for name in names)), "")


def _endpoint() -> str:
    """Return the URL that takes spans, "" without one. The SDK keeps a newline at a variable's end."""
    base = _variable(_BASE)
    return _variable(_ENDPOINT) or (base and f"{base.removesuffix('/')}/v1/traces")


def is_wanted() -> bool:
    """Return whether OpenTelemetry's variables ask for spans. Raises ConfigError for a protocol we lack."""
    if not _endpoint() or _variable("OTEL_SDK_DISABLED").lower() == "true":
        return False
    if "otlp" not in (_variable("OTEL_TRACES_EXPORTER") or "otlp"):
        return False
    protocol = _variable(*_PROTOCOLS) or _PROTOCOL
    if protocol != _PROTOCOL:
        named = next(name for name in _PROTOCOLS if _variable(name))
        raise ConfigError(
            f"{named} is {protocol[:40]!r}: spans are sent by {_PROTOCOL} only, which collectors take at "
            "port 4318. Set it to that, or OTEL_TRACES_EXPORTER to none."
        )
    return True


def is_active() -> bool:
    """Return whether this process makes spans."""
    return _sdk is not None


def set_up(role: str) -> None:
    """Begin to send this process's spans, as service `image-search-<role>`, if that is wanted.

    To be called after the last fork. What OpenTelemetry cannot do with its variables is one line in the log.
    Raises ConfigError as is_wanted does.
    """
    global _sdk  # noqa: PLW0603 - one for each process
    if _sdk is not None or not is_wanted():
        return
    try:
        address = urlsplit(endpoint := _endpoint())
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("the endpoint is no URL of http or https")  # noqa: TRY301
        from shared.tracing.sdk import Sdk  # noqa: PLC0415 - only where it is wanted

        _sdk = Sdk(role, endpoint)
    except Exception as error:
        log.warning("no_traces", reason=f"OpenTelemetry's variables: {error}")
        return
    atexit.register(shut_down)


def shut_down() -> None:
    """Send the last spans, for at most SHUTDOWN_SECONDS, and make no more."""
    global _sdk
    sdk, _sdk = _sdk, None
    if sdk is not None:
        with suppress(RuntimeError):  # too late for a thread
            ending = threading.Thread(target=sdk.provider.shutdown, name="last-spans", daemon=True)
            ending.start()
            ending.join(SHUTDOWN_SECONDS)


def span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: Cause | None = None,
    links: Sequence[Span] = (),
    attributes: Attributes | None = None,
    within: bool = False,
) -> Span:
    """Begin a span, within the current one or that which `parent` names, if that is one.

    With `within` only where there is a current one that is sampled: no other would be sent.
    """
    if _sdk is None or (within and not _sdk.is_recording()):
        return _NO_SPAN
    return _sdk.start(name, kind, parent, links, attributes)


def current() -> Span:
    """Return the span that this is within."""
    return (_sdk and _sdk.current()) or _NO_SPAN


def cause() -> Cause:
    """Return what is being done, as jobs keep it: the request, and the current span."""
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    return Cause(request_id, _sdk.traceparent() if _sdk else "")


def ids() -> dict[str, str]:
    """Return `trace_id` and `span_id`, in hexadecimal digits, of the current span if there is one."""
    return _sdk.ids() if _sdk else {}


def carried(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function for other threads, which calls this one in the present context: its span and log."""
    context = copy_context()
    return lambda *args, **kwargs: context.copy().run(function, *args, **kwargs)
