"""The OpenAPI 3.1 description of every route."""

from copy import deepcopy
from typing import Any

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.info import Info
from flask_openapi3.models.schema import Schema
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel

from api.http.problems import PROBLEM_JSON, refuse_invalid
from image_search.models import Problem

_REF = "#/components/schemas/{model}"
_SECURITY_SCHEMES: dict[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key. Not needed while no key exists; then only this machine is served.",
    }
}


def make_app(import_name: str, version: str) -> OpenAPI:
    """Make a Flask application that collects the description of the routes registered with it."""
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
    """Add a model's schema to the components; return a reference to it."""
    schema = model.model_json_schema(ref_template=_REF)
    for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
        api.components_schemas[name] = Schema(**part)
    return {"schema": {"$ref": _REF.format(model=model.__name__)}}


def document(app: OpenAPI) -> dict[str, Any]:
    """Return the description, with every route's problem documents and the scope that it needs."""
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
    """Add the `examples` of our models, which flask-openapi3's Schema does not know and so drops."""
    models = [BaseModel]
    while models:
        model = models.pop()
        models += model.__subclasses__()
        extra = model.model_config.get("json_schema_extra")
        if (
            model.__module__.split(".")[0] in ("api", "image_search")
            and model.__name__ in schemas
            and isinstance(extra, dict)
        ):
            schemas[model.__name__] |= extra


def _openapi_path(rule: str) -> str:
    return rule.replace("<", "{").replace(">", "}").replace("{path:", "{")
