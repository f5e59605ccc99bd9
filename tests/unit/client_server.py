"""A server of canned answers for tests of the client and its commands."""

import io
import json
from typing import Any

import httpx
from werkzeug.formparser import parse_form_data

from shared.models import ItemState


def job(job_id: str = "j1", status: str = "succeeded", total: int = 2, **counts: int) -> dict[str, Any]:
    counts = counts or {"indexed": total}
    every = {str(state): counts.get(state, 0) for state in ItemState}
    done = total - every["pending"] - every["fetched"]
    return {
        "job_id": job_id, "status": status, "collection": "images", "total": total, "counts": every,
        "progress": done / total if total else 0.0, "rate_per_s": 12.5, "eta_s": 3.0, "truncated": False,
        "created_at": "2026-01-01T00:00:00.000Z", "started_at": None, "finished_at": None, "errors": [],
    }  # fmt: skip


class Server:
    """Answers with what `routes` say for "METHOD path" (a list: one answer after another), and remembers.

    An answer is what is answered as JSON, with 200; a pair of status and that; an error; or a Response.
    """

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.routes[f"{request.method} {request.url.path}"]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, json=body)

    def form(self, index: int = 0, part: str = "files") -> tuple[dict[str, str], list[tuple[str, bytes]]]:
        request = self.requests[index]
        environ = {
            "wsgi.input": io.BytesIO(request.content), "CONTENT_LENGTH": str(len(request.content)),
            "CONTENT_TYPE": request.headers["content-type"],
        }  # fmt: skip
        _, fields, files = parse_form_data(environ, silent=False)
        return fields.to_dict(), [(file.filename or "", file.read()) for file in files.getlist(part)]

    def lines(self, index: int = 0) -> list[Any]:
        return [json.loads(line) for line in self.requests[index].content.splitlines()]


def problem(status: int, code: str, detail: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"title": "x", "status": status, "code": code, "detail": detail, **more}


def keys(server: Server) -> list[str]:
    """The Idempotency-Key of each request."""
    return [request.headers["idempotency-key"] for request in server.requests]
