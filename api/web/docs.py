"""The documentation's pages, which show the OpenAPI description and what every error code means."""

from http import HTTPStatus
from importlib import resources
from typing import Any, cast

from flask import Blueprint, Response, current_app, jsonify, render_template, send_from_directory
from flask_openapi3.openapi import OpenAPI

from api.http.openapi import document
from shared.errors import ITEM_CODES, ImageSearchError

# What the HTTP layer itself refuses, beside our own errors.
_HTTP_ERRORS = {
    "bad_request": HTTPStatus.BAD_REQUEST,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "uri_too_long": HTTPStatus(414),
    "request_header_fields_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}

blueprint = Blueprint("docs", __name__, template_folder="templates")


@blueprint.get("/openapi.json")
def openapi_json() -> Response:
    return jsonify(document(cast("OpenAPI", current_app)))


@blueprint.get("/docs")
def docs() -> Response:
    return _page("docs.html")


@blueprint.get("/docs/errors")
def errors() -> Response:
    """Show what every `type` of a problem document points to."""
    ours = sorted(_problem_types(ImageSearchError), key=lambda error: (error.status, error.code))
    return _page("errors.html", errors=ours, http_errors=_HTTP_ERRORS, item_codes=ITEM_CODES)


@blueprint.get("/docs/init.js", endpoint="init")
def start_page() -> Response:
    return send_from_directory(str(resources.files("api.web") / "static" / "docs"), "swagger.js")


@blueprint.get("/docs/static/<path:name>")
def static(name: str) -> Response:
    folder = resources.files("flask_openapi3_swagger") / "templates" / "swagger"
    return send_from_directory(str(folder), name, max_age=86_400)


def _problem_types(base: type[ImageSearchError]) -> list[type[ImageSearchError]]:
    found = [base] if "code" in vars(base) else []
    return found + [error for child in base.__subclasses__() for error in _problem_types(child)]


def _page(template: str, **values: Any) -> Response:
    return Response(render_template(template, **values), mimetype="text/html")
