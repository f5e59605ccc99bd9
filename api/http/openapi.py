"""The OpenAPI 3.1 description of every route, and the pages that show it."""

from copy import deepcopy
from http import HTTPStatus
from importlib import resources
from typing import Any, cast

from flask import Blueprint, Response, current_app, jsonify, render_template, send_from_directory
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.info import Info
from flask_openapi3.models.schema import Schema
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel

from api.http.problems import PROBLEM_JSON, refuse_invalid
from api.models.base import Problem
from shared.errors import ITEM_CODES, ImageSearchError

_REF = "#/components/schemas/{model}"
# What the HTTP layer itself refuses, beside our own errors.
_HTTP_ERRORS = {
    "bad_request": HTTPStatus.BAD_REQUEST,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "uri_too_long": HTTPStatus(414),
    "request_header_fields_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}
_SECURITY_SCHEMES: dict[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key. Not needed while no key exists; then only this machine is served.",
    }
}

blueprint = Blueprint("docs", __name__, template_folder="templates")


def make_app(import_name: str, version: str) -> OpenAPI:
    """A Flask application that collects the description of the routes registered with it."""
    return OpenAPI(
        import_name,
        info=Info(
            title="image-search",
            version=version,
            description="Bulk ingestion of pictures and search by words, pictures or both.",
        ),
        security_schemes=_SECURITY_SCHEMES,
        validation_error_callback=refuse_invalid,
        validation_error_model=Problem,
        doc_ui=False,
        static_folder=None,
    )


def component(api: APIBlueprint, model: type[BaseModel]) -> dict[str, Any]:
    """A reference to a model's schema, which is added to the page's components."""
    schema = model.model_json_schema(ref_template=_REF)
    for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
        api.components_schemas[name] = Schema(**part)
    return {"schema": {"$ref": _REF.format(model=model.__name__)}}


def document(app: OpenAPI) -> dict[str, Any]:
    """The description, with our problem documents as every route's errors, and the scope that each needs."""
    described: dict[str, Any] = deepcopy(app.api_doc)
    _add_examples(described["components"]["schemas"])
    scopes = {endpoint: getattr(view, "__scope__", None) for endpoint, view in app.view_functions.items()}
    problem = {
        "description": "A problem document (RFC 9457).",
        "content": {PROBLEM_JSON: {"schema": {"$ref": _REF.format(model="Problem")}}},
    }
    for rule in app.url_map.iter_rules():
        operations = described["paths"].get(_openapi_path(rule.rule), {})
        for method in rule.methods or ():
            operation = operations.get(method.lower())
            if operation is None:
                continue
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = problem
            if scope := scopes[rule.endpoint]:
                operation["security"] = [{"key": []}]
                operation["x-scope"] = scope
    return described


def _add_examples(schemas: dict[str, Any]) -> None:
    """The `examples` of our models, which flask-openapi3's Schema does not know and so drops."""
    models = [BaseModel]
    while models:
        model = models.pop()
        models += model.__subclasses__()
        extra = model.model_config.get("json_schema_extra")
        if model.__module__.startswith("api.") and model.__name__ in schemas and isinstance(extra, dict):
            schemas[model.__name__] |= extra


def _openapi_path(rule: str) -> str:
    return rule.replace("<", "{").replace(">", "}").replace("{path:", "{")


@blueprint.get("/openapi.json")
def openapi_json() -> Response:
    return jsonify(document(cast("OpenAPI", current_app)))


@blueprint.get("/docs")
def docs() -> Response:
    return _page("docs.html")


@blueprint.get("/docs/errors")
def errors() -> Response:
    """What every `type` of a problem document points to."""
    ours = sorted(_problem_types(ImageSearchError), key=lambda error: (error.status, error.code))
    return _page("errors.html", errors=ours, http_errors=_HTTP_ERRORS, item_codes=ITEM_CODES)


@blueprint.get("/docs/init.js", endpoint="init")
def start_page() -> Response:
    return send_from_directory(str(resources.files("api.web") / "static"), "docs.js")


@blueprint.get("/docs/static/<path:name>")
def static(name: str) -> Response:
    folder = resources.files("flask_openapi3_swagger") / "templates" / "swagger"
    return send_from_directory(str(folder), name, max_age=86_400)


def _problem_types(base: type[ImageSearchError]) -> list[type[ImageSearchError]]:
    found = [base] if "code" in vars(base) else []
    return found + [error for child in base.__subclasses__() for error in _problem_types(child)]


def _page(template: str, **values: Any) -> Response:
    return Response(render_template(template, **values), mimetype="text/html")
