"""CORS: pages of the origins in ALLOW_ORIGINS may use `/v1`, each with a key of its own and without cookies.

Flask-Cors reads origins as patterns and answers a preflight only after what refuses requests without a key.
"""

from flask import Flask, Response, request

from api.http.problems import VERSION_HEADER

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_TAKEN = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, X-Request-ID"
_SHOWN = (
    "Content-Disposition, ETag, Heat-Confidence, Heat-Spot, Location, Retry-After, X-Request-ID, "
    f"{VERSION_HEADER}"
)
_REMEMBERED_SECONDS = "600"


def install(app: Flask, origins: list[str]) -> None:
    """Let these origins in; call it before whatever may refuse a request."""
    if not origins:
        return

    def preflight() -> Response | None:
        if not (_asks_first() and _may_ask()):
            return None
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _TAKEN
        response.headers["Access-Control-Max-Age"] = _REMEMBERED_SECONDS
        return response

    def add(response: Response) -> Response:
        if _is_open_to_pages():
            response.vary.add("Origin")
        if _may_ask():
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = _SHOWN
        return response

    def _may_ask() -> bool:
        return _is_open_to_pages() and request.headers.get("Origin") in origins

    app.before_request(preflight)
    app.after_request(add)


def _asks_first() -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def _is_open_to_pages() -> bool:
    return request.path.startswith("/v1/") or request.path == "/openapi.json"
