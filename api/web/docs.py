"""The documentation's pages, which show the OpenAPI description and what every error code means."""

from importlib import resources
from typing import Any, cast

from flask import Blueprint, Response, current_app, jsonify, render_template, send_from_directory
from flask_openapi3.openapi import OpenAPI

from api.http.openapi import document
from api.web.problem_codes import problems
from image_search.models.error_codes import CAUSES

blueprint = Blueprint("docs", __name__, template_folder="templates")


@blueprint.get("/openapi.json")
def openapi_json() -> Response:
    return jsonify(document(cast("OpenAPI", current_app)))


@blueprint.get("/docs")
def docs() -> Response:
    return _page("docs.html")


@blueprint.get("/docs/errors")
def errors() -> Response:
    """Show what every `type` of a problem document points to, and why pictures fail."""
    return _page("errors.html", problems=problems(), causes=CAUSES)


@blueprint.get("/docs/init.js", endpoint="init")
def start_page() -> Response:
    return send_from_directory(str(resources.files("api.web") / "static" / "docs"), "swagger.js")


@blueprint.get("/docs/static/<path:name>")
def static(name: str) -> Response:
    folder = resources.files("flask_openapi3_swagger") / "templates" / "swagger"
    return send_from_directory(str(folder), name, max_age=86_400)


def _page(template: str, **values: Any) -> Response:
    return Response(render_template(template, **values), mimetype="text/html")
