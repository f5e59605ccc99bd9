"""Every error answer: one builder of application/problem+json (RFC 9457), and the request ids in the log."""

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request
from flask import Request as FlaskRequest
from flask.json.provider import DefaultJSONProvider
from pydantic import BaseModel, ValidationError
from structlog.contextvars import bind_contextvars, clear_contextvars
from werkzeug.exceptions import BadRequest, HTTPException, UnsupportedMediaType

from api.http.request_body import Body, decoded
from api.http.request_models import MAX_ITEMS
from image_search.models.jobs import MAX_ERRORS
from shared.errors import FieldError, ImageSearchError, InvalidRequest, NoUrlColumn, RateLimited, Unavailable
from shared.tracing import tracing
from shared.validation import is_unicode, pointer
from shared.version import VERSION

PROBLEM_JSON = "application/problem+json"
MAX_BODY_BYTES = 2**20  # where a view does not say otherwise
MAX_FORM_PARTS = 16
# By it a client knows whether the two understand each other: those of one major version do.
VERSION_HEADER = "X-Image-Search-Version"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HTTP_CODES = {413: "request_too_large", 503: "unavailable"}
_INTERNAL = "Something went wrong on the server; its log has the details under this X-Request-ID."

Model = TypeVar("Model", bound=BaseModel)

log = structlog.get_logger()


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> Response:
    """Make a problem document; `members` are extensions such as `errors`."""
    document = {
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        **members,
    }
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status, headers, content_type=PROBLEM_JSON)


def field_errors(error: ValidationError, *prefix: object) -> list[FieldError]:
    """Return the first MAX_ERRORS faults of a pydantic error, their pointers under `prefix`."""
    return [
        {"pointer": pointer(*prefix, *fault["loc"]), "message": _message(fault["type"], fault["msg"])}
        for fault in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_ERRORS]
    ]


def invalid_request(error: ValidationError, *prefix: object) -> InvalidRequest:
    """Turn a pydantic error into ours; its pointers start with `prefix`."""
    errors = field_errors(error, *prefix)
    first = errors[0]
    detail = f"{first['pointer'] or 'The request'}: {first['message']}"
    return InvalidRequest(detail if len(errors) == 1 else f"{detail} (and {len(errors) - 1} more)", errors)


def refuse(detail: str, faults: Iterable[FieldError]) -> None:
    """Raise InvalidRequest with the first MAX_ERRORS of `faults`, if there is one."""
    shown = [fault for fault, _ in zip(faults, range(MAX_ERRORS), strict=False)]
    if shown:
        raise InvalidRequest(detail, shown)


def parse(model: type[Model], document: object) -> Model:
    """Parse a document into a model. Raises InvalidRequest with pointers into `document`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid_request(error) from None


def load_json(text: str | bytes, what: str) -> Any:
    """Parse JSON as the standard has it, without NaN and Infinity. Raises BadRequest naming `what`."""
    try:
        text = decoded(text) if isinstance(text, bytes) else text.removeprefix("\ufeff")
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadRequest(f"{what} is nested too deeply.") from None
    except ValueError as error:
        raise BadRequest(f"{what} is not valid JSON: {error}.") from None


def _message(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown field"
    if kind in ("model_type", "dict_type"):
        return "must be a JSON object"
    if kind == "missing":
        return "required field is missing"
    if kind == "too_long" and f"at most {MAX_ITEMS}" in message:
        return f"has too many items; at most {MAX_ITEMS:,} are allowed in one request: stream them as NDJSON"
    return message


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


class Request(FlaskRequest):
    """A request whose JSON, where it cannot be read, is refused in a sentence."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        if not self.is_json:
            raise UnsupportedMediaType("The body's Content-Type must be application/json.")
        if not hasattr(self, "_document"):
            body = Body(self.environ, self.max_content_length)
            data = body.read_all()
            if body.truncated:
                raise BadRequest("The body broke off before its end.")
            self._document = load_json(data, "The body")
        return self._document


class JSONProvider(DefaultJSONProvider):
    """JSON in UTF-8, with fields in the order of the documentation."""

    sort_keys = False
    ensure_ascii = False

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        text = super().dumps(obj, **kwargs)
        # Metadata may hold lone surrogates, which only an escape can say.
        return text if is_unicode(text) else super().dumps(obj, **kwargs | {"ensure_ascii": True})


def install(app: Flask) -> None:
    """Install request ids, the server's version, the limits of bodies, and every error as a problem."""
    app.request_class = Request
    app.json = JSONProvider(app)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, MAX_FORM_PARTS=MAX_FORM_PARTS)
    app.before_request(_identify_request)
    app.after_request(_name_request)
    app.register_error_handler(ImageSearchError, answer)
    app.register_error_handler(HTTPException, http_problem)
    app.register_error_handler(Exception, _unexpected)


def refuse_invalid(error: ValidationError) -> NoReturn:
    """Raise InvalidRequest: flask-openapi3's callback for a failed validation of parameters or body."""
    raise invalid_request(error) from None


def _identify_request() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid4())
    clear_contextvars()
    bind_contextvars(request_id=g.request_id)


def _name_request(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.get("request_id") or str(uuid4())
    response.headers[VERSION_HEADER] = VERSION
    return response


def answer(error: ImageSearchError) -> Response:
    """Return the problem document of an error of ours."""
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected(error)
    headers = {}
    if isinstance(error, Unavailable | RateLimited):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unavailable):
        log.warning("unavailable", code=error.code, detail=error.detail, exc_info=error.__cause__)
        tracing.current().record(error)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="image-search"'
    members: dict[str, Any] = {"errors": error.errors[:MAX_ERRORS]} if error.errors else {}
    if isinstance(error, NoUrlColumn):
        members["columns"] = error.columns
    return problem(error.status, error.code, error.title, error.detail, headers=headers, **members)


def http_problem(error: HTTPException) -> Response | HTTPException:
    """Return the problem document of an error of the HTTP layer; what is no error as it is."""
    status = error.code or 500
    if status < 400 or error.response is not None:
        return error
    if status >= 500 and status != 503:
        return _unexpected(error)
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    code = _HTTP_CODES.get(status) or re.sub(r"\W+", "_", error.name.lower())
    detail = error.description or error.name
    if status == 413:  # a form, whose limits have no settings: other bodies are of Body
        detail = (
            f"The form has more than {request.max_content_length:,} bytes or {request.max_form_parts} parts, "
            f"or a field that is no file of over {request.max_form_memory_size:,} bytes."
        )
    return problem(status, code, error.name.capitalize(), detail, headers=headers)


def _unexpected(error: Exception) -> Response:
    tracing.current().record(error)
    log.error("unexpected error", method=request.method, path=request.path, exc_info=error)
    return problem(500, "internal", "Internal error", _INTERNAL)
