"""The HTTP client of Chroma, whose calls are counted, timed and spans of a trace."""

import time
from http import HTTPStatus
from typing import Any

import httpx

from shared.metrics.definitions import CHROMA_OPERATIONS, CHROMA_REQUESTS, CHROMA_SECONDS
from shared.tracing.tracing import span


class ObservedClient(httpx.Client):
    """A client that observes each request, also one that its hooks refuse or end."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        operation, outcome, started = _operation(request), "refused", time.monotonic()
        attributes = {"db.system.name": "chroma", "db.operation.name": operation}
        try:
            with span(f"chroma {operation}", kind="client", within=True, attributes=attributes) as made:
                response = super().send(request, **options)
                if response.status_code >= HTTPStatus.BAD_REQUEST:
                    made.set({"db.response.status_code": str(response.status_code)})
                    made.fail(str(response.status_code))
            outcome = _outcome(response.status_code)
        except httpx.TimeoutException:
            outcome = "timeout"
            raise
        except httpx.HTTPError:
            outcome = "unavailable"
            raise
        finally:
            CHROMA_REQUESTS.labels(operation, outcome).inc()
            CHROMA_SECONDS.labels(operation).observe(time.monotonic() - started)
        return response


def _operation(request: httpx.Request) -> str:
    """Return the one of CHROMA_OPERATIONS that a request is: of records, of a collection, or another."""
    *_, before, collection, last = ("", "", *request.url.path.split("/"))
    if before == "collections":
        return last if last in CHROMA_OPERATIONS else "other"
    return "collection" if "collections" in (collection, last) else "other"


def _outcome(status: int) -> str:
    if status < HTTPStatus.BAD_REQUEST:
        return "ok"
    is_away = status == HTTPStatus.TOO_MANY_REQUESTS or status > HTTPStatus.INTERNAL_SERVER_ERROR
    return "unavailable" if is_away else "refused"
