"""What is counted of every request."""

import time

from flask import Flask, Response, g, request

from shared.metrics.definitions import HTTP_REQUESTS, HTTP_SECONDS, METHODS


def install(app: Flask) -> None:
    """Count and time each request from here on, refused ones too."""
    app.before_request(_start)
    app.after_request(_finish)


def _start() -> None:
    g.started = time.perf_counter()


def _finish(response: Response) -> Response:
    method = request.method if request.method in METHODS else "other"
    route = request.url_rule.rule if request.url_rule else "unmatched"
    labels = (method, route, str(response.status_code))
    HTTP_REQUESTS.labels(*labels).inc()
    HTTP_SECONDS.labels(*labels).observe(time.perf_counter() - g.get("started", time.perf_counter()))
    return response
