"""The span of each request, by OpenTelemetry's conventions for HTTP servers. Imports no other room."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from flask import Flask, Response, g, request

from shared.models import Cause
from shared.tracing import tracing
from shared.tracing.span import Span
from shared.urls.redaction import redacted

MAX_CHARS = 200  # of what a client chooses
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# Asked for every few seconds by what watches the process: their traces would bury all others.
_UNTRACED = frozenset({"/healthz", "/metrics", "/readyz"})


def install(app: Flask) -> None:
    """Give each request but probes and scrapes a span, where spans are made."""
    if tracing.is_active():
        app.before_request(_begin)
        app.after_request(_describe)
        app.teardown_request(_leave)


def _begin() -> None:
    route = request.url_rule.rule if request.url_rule else ""
    if route in _UNTRACED:
        return
    method = request.method if request.method in _METHODS else "_OTHER"
    attributes = {
        "http.request.method": method,
        "url.scheme": request.scheme,
        "url.path": redacted(request.path[:MAX_CHARS]),
        "user_agent.original": request.headers.get("User-Agent", "")[:MAX_CHARS],
        "image_search.request_id": g.request_id,
    }
    if route:
        attributes["http.route"] = route
    if method == "_OTHER":
        attributes["http.request.method_original"] = request.method[:MAX_CHARS]
    caller = Cause(traceparent=request.headers.get("traceparent", "")[:MAX_CHARS])
    name = f"{'HTTP' if method == '_OTHER' else method} {route}".rstrip()
    g.span = tracing.span(name, kind="server", parent=caller, attributes=attributes)
    g.in_span = ExitStack()
    g.in_span.enter_context(g.span.inside())


def _describe(response: Response) -> Response:
    if "span" in g:
        g.span.set({"http.response.status_code": response.status_code})
        if response.status_code >= 500:
            g.span.fail(str(response.status_code))
        if response.is_streamed and not response.direct_passthrough:
            response.response = _inside(g.span, response.response)
            # Not the generator's business: one that is closed before its first step never runs to its end.
            response.call_on_close(g.pop("span").end)
    return response


def _inside(span: Span, parts: Iterable[Any]) -> Iterator[Any]:
    with span.inside():
        try:
            yield from parts
        except Exception as error:
            span.record(error)
            raise


def _leave(_: BaseException | None) -> None:
    if "in_span" in g:
        g.in_span.close()
    if "span" in g:  # of an answer that is whole
        g.span.end()
