"""The OpenAPI 3.1 description of every route.

flask-openapi3 collects which models and answers a route has; what its own classes drop of a schema (examples,
`propertyNames`, a description's lines) comes from pydantic and from the views themselves.
"""

import inspect
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, get_type_hints

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.info import Info
from flask_openapi3.models.schema import Schema
from flask_openapi3.models.tag import Tag
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

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
_TAGS = {
    "jobs": "Bring pictures into a collection in bulk, and follow how far that is.",
    "search": "Find pictures by texts, pictures or both.",
    "images": "Read, change and delete pictures, one or many, and find those that are alike.",
    "collections": "Create, read and delete collections of pictures.",
    "sources": "Keep collections in step with buckets, feeds, sitemaps and folders.",
    "transfers": "Export and import collections, and encode them again with another model.",
    "operations": "See whether the service works, and how much it does.",
}
_PROBLEM: dict[str, Any] = {
    "description": "A problem document (RFC 9457).",
    "headers": {
        "Retry-After": {
            "description": "With 429 and mostly with 503: seconds after which to try again.",
            "schema": {"type": "integer"},
        }
    },
    "content": {PROBLEM_JSON: {"schema": {"$ref": _REF.format(model="Problem")}}},
}
# Of every operation. Beside that, a generator forgets an import where nothing but the body can be left out.
_REQUEST_ID: dict[str, Any] = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "Names the request in the answer's X-Request-ID and in the log; else one is made.",
    "required": False,
    "schema": {"type": "string"},
    "example": "nightly-42",
}


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles that pydantic makes of fields' names: generators would name classes by them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


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


def make_blueprint(name: str, import_name: str, *, tag: str | None = None) -> APIBlueprint:
    """Make a blueprint whose operations are named as its views, under the tag of its name or another."""
    tag = tag or name
    return APIBlueprint(
        name,
        import_name,
        abp_tags=[Tag(name=tag, description=_TAGS[tag])],
        operation_id_callback=lambda *, name, **_: name,
    )


def component(api: APIBlueprint, model: type[BaseModel]) -> dict[str, Any]:
    """Add a model's schema to the components; return a reference to it."""
    schema = model.model_json_schema(ref_template=_REF)
    for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
        api.components_schemas[name] = Schema(**part)
    return {"schema": {"$ref": _REF.format(model=model.__name__)}}


def bytes_answer(description: str, *media_types: str, headers: dict[str, str]) -> dict[str, Any]:
    """Describe an answer that is a file, and its headers."""
    content = {name: {"schema": {"type": "string", "format": "binary"}} for name in media_types}
    return {"description": description, "headers": string_headers(headers), "content": content}


def string_headers(descriptions: dict[str, str]) -> dict[str, Any]:
    """Describe an answer's headers."""
    return {name: {"description": said, "schema": {"type": "string"}} for name, said in descriptions.items()}


def document(app: OpenAPI) -> dict[str, Any]:
    """Return the description, with every route's problem documents and the scope that it needs."""
    described: dict[str, Any] = deepcopy(app.api_doc)
    schemas = described["components"]["schemas"]
    models = [model for model in _our_models() if model.__name__ in schemas]
    _, ours = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF, schema_generator=_Untitled
    )
    described["components"]["schemas"] = dict(sorted((schemas | ours["$defs"]).items()))
    for rule in app.url_map.iter_rules():
        operations = described["paths"].get(_openapi_path(rule.rule), {})
        for method in rule.methods or ():
            if method.lower() in operations:
                _complete(operations[method.lower()], app.view_functions[rule.endpoint])
    return described


def _complete(operation: dict[str, Any], view: Callable[..., Any]) -> None:
    operation["description"] = inspect.getdoc(view)
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = _PROBLEM
    if scope := getattr(view, "__scope__", None):
        operation["security"] = [{"key": []}]
        operation["x-scope"] = scope
    hints = get_type_hints(view)
    schemas = {
        (place, name): schema
        for place in hints.keys() & {"path", "query", "header"}
        for name, schema in _parameters(hints[place]).items()
    }
    for parameter in operation.get("parameters", []):
        schema = schemas[parameter["in"], parameter["name"]]
        parameter |= {key: schema.pop(key) for key in ("description", "example") if key in schema}
        parameter.setdefault("example", schema.get("default"))
        parameter["schema"] = schema
    operation["parameters"] = [*operation.get("parameters", []), _REQUEST_ID]


def _parameters(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Return the schemas of a model's fields, without None, which stands for what is left out."""
    schemas = deepcopy(model.model_json_schema(ref_template=_REF, schema_generator=_Untitled)["properties"])
    for schema in schemas.values():
        if {"type": "null"} in schema.get("anyOf", []):
            (given,) = (one for one in schema.pop("anyOf") if one != {"type": "null"})
            schema.pop("default")
            schema.update(given | schema)
    return dict(schemas)


def _our_models() -> Iterator[type[BaseModel]]:
    models = [BaseModel]
    while models:
        model = models.pop()
        models += model.__subclasses__()
        if model.__module__.split(".")[0] in ("api", "image_search"):
            yield model


def _openapi_path(rule: str) -> str:
    return rule.replace("<", "{").replace(">", "}").replace("{path:", "{")
