"""What holds for every route, whichever they are."""

import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.routing import Rule

from api.http import auth
from image_search import models
from shared.api_keys import SCOPES
from tests.unit.fakes import Api, assert_problem, axis, image_id, make_api

UNDOCUMENTED = {"HEAD", "OPTIONS"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    api = make_api(tmp_path_factory.mktemp("api"))
    api.add(7, axis(0))
    return api


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(api.http.get("/openapi.json").data)
    return loaded


def rules(api: Api) -> list[Rule]:
    return [rule for rule in api.app.url_map.iter_rules() if not rule.endpoint.startswith(("docs.", "page."))]


def described_methods(operations: dict[str, Any]) -> set[str]:
    return {name.upper() for name in operations} & {"GET", "POST", "PUT", "PATCH", "DELETE"}


def test_the_description_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_the_description_has_exactly_the_routes_that_are_served(api: Api, document: dict[str, Any]) -> None:
    served: dict[str, set[str]] = {}
    for rule in rules(api):
        path = rule.rule.replace("<", "{").replace(">", "}")
        served[path] = served.get(path, set()) | ((rule.methods or set()) - UNDOCUMENTED)
    assert {path: described_methods(operations) for path, operations in document["paths"].items()} == served


OPERATIONS = """
    list_jobs create_job get_job cancel_job retry_job list_job_items stream_job_events
    search_by_text search compare explain
    list_images get_image update_image delete_image delete_key get_thumbnail get_rendition get_embedding
    delete_images update_images
    find_similar find_duplicates
    list_sources put_source get_source delete_source sync_source
    list_collections create_collection get_collection delete_collection get_collection_metadata
    export_collection download_export import_collection reindex_collection
    get_health get_readiness get_metrics get_system list_models
"""
TAGS = ["jobs", "search", "images", "collections", "transfers", "sources", "operations"]
# Operation: the media types of an answer that is not JSON, and its headers.
FILES: dict[str, tuple[set[str], set[str]]] = {
    "get_thumbnail": ({"image/webp"}, {"ETag", "Cache-Control"}),
    "get_rendition": ({"image/webp", "image/jpeg"}, {"ETag", "Cache-Control"}),
    "explain": ({"image/png"}, {"Heat-Spot", "Heat-Confidence"}),
    "download_export": ({"application/vnd.apache.parquet"}, {"Content-Disposition"}),
    "stream_job_events": ({"text/event-stream"}, set()),
    "get_metrics": ({"text/plain"}, set()),
}


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = [operation for methods in document["paths"].values() for operation in methods.values()]
    by_name = {operation["operationId"]: operation for operation in found}
    assert len(by_name) == len(found)
    return by_name


def check(document: dict[str, Any], schema: dict[str, Any], examples: Iterable[Any]) -> None:
    validator = Draft202012Validator(schema | {"components": document["components"]})
    for example in examples:
        validator.validate(example)


def examples_of(document: dict[str, Any], content: dict[str, Any]) -> list[Any]:
    """Of a body or an answer: its own, or its schema's."""
    named = [one["value"] for one in content.get("examples", {}).values()]
    name = content["schema"].get("$ref", "").rpartition("/")[2]
    of_schema = document["components"]["schemas"].get(name, {}).get("examples", [])
    return named + ([content["example"]] if "example" in content else of_schema)


def test_an_operation_has_a_plain_name_of_its_own(document: dict[str, Any]) -> None:
    assert sorted(operations(document)) == sorted(OPERATIONS.split())
    assert [tag["name"] for tag in document["tags"]] == TAGS
    for operation in operations(document).values():
        assert len(operation["tags"]) == 1
        assert "<br/>" not in operation["description"]


def test_every_example_is_what_its_schema_says(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        check(document, schema, schema.get("examples", []))
        for field in schema.get("properties", {}).values():
            check(document, field, [field["example"]] if "example" in field else [])


def test_every_example_is_what_its_model_takes(document: dict[str, Any]) -> None:
    modules = [
        importlib.import_module(f"api.{room}.requests")
        for room in ("collections", "images", "jobs", "sources")
    ]
    modules += [importlib.import_module("api.search.requests"), models]
    for name, schema in document["components"]["schemas"].items():
        model = next((vars(module)[name] for module in modules if name in vars(module)), None)
        if isinstance(model, type):
            for example in schema.get("examples", []):
                model.model_validate_json(json.dumps(example))


def test_every_parameter_is_explained_and_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (name, parameter)
            assert parameter["example"] is not None, (name, parameter)
            check(document, parameter["schema"], [parameter["example"]])
            assert "null" not in json.dumps(parameter["schema"]), (name, parameter)


def test_every_body_and_every_json_answer_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        parts = [operation["requestBody"]] if "requestBody" in operation else []
        parts += operation["responses"].values()
        for media_type, content in (one for part in parts for one in part.get("content", {}).items()):
            examples = examples_of(document, content)
            is_file = content["schema"].get("format") == "binary" and not media_type.startswith("text/")
            assert examples or (is_file and "ndjson" not in media_type), (name, media_type)
            check(document, content["schema"], examples)


def test_every_answer_that_is_not_json_is_described(document: dict[str, Any]) -> None:
    found: dict[str, tuple[set[str], set[str]]] = {}
    for name, operation in operations(document).items():
        answer = next(given for status, given in operation["responses"].items() if status.startswith("2"))
        content = answer.get("content", {})
        if content.keys() - {"application/json"}:
            found[name] = (set(content), set(answer.get("headers", {})))
            for media_type, one in content.items():
                assert one["schema"].get("type") == "string" or media_type == "text/event-stream"
                assert media_type.startswith("text/") or one["schema"]["format"] == "binary"
    assert found == FILES
    for name in ("get_thumbnail", "get_rendition"):
        assert "ETag" in operations(document)[name]["responses"]["304"]["headers"]
    assert "Retry-After" in operations(document)["search"]["responses"]["default"]["headers"]
    for name, operation in operations(document).items():
        for status in operation["responses"].keys() & {"201", "202"}:
            assert "Location" in operation["responses"][status]["headers"], name


def test_schemas_have_no_titles_but_their_names_and_are_explained(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("title", name) == name
        assert all("title" not in field for field in schema.get("properties", {}).values()), name
        assert "description" in schema or "enum" in schema, name


def test_every_operation_describes_problems_a_success_and_itself(document: dict[str, Any]) -> None:
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        problem = operation["responses"]["default"]["content"]["application/problem+json"]
        assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert any(status.startswith("2") for status in operation["responses"])
        assert operation["summary"]


def test_the_description_stays_the_same(api: Api, document: dict[str, Any]) -> None:
    assert api.http.get("/openapi.json").json == document


def test_every_view_declares_a_scope_or_is_public(api: Api) -> None:
    for endpoint in api.app.view_functions:
        scope = auth.scope_of(api.app, endpoint)
        assert scope in SCOPES or (scope is None and endpoint in auth.PUBLIC_ENDPOINTS)


def test_what_is_public_exists(api: Api) -> None:
    assert api.app.view_functions.keys() >= auth.PUBLIC_ENDPOINTS


def test_the_description_says_which_scope_a_route_needs(api: Api, document: dict[str, Any]) -> None:
    for rule in rules(api):
        path = rule.rule.replace("<", "{").replace(">", "}")
        for method in (rule.methods or set()) - UNDOCUMENTED:
            operation = document["paths"][path][method.lower()]
            scope = auth.scope_of(api.app, rule.endpoint)
            assert operation.get("x-scope") == scope
            assert ("security" in operation) == (scope is not None)


def test_a_view_that_declares_nothing_is_refused(tmp_path: Path) -> None:
    api = make_api(tmp_path)
    api.app.view_functions["forgotten"] = lambda: "open to all"
    with pytest.raises(LookupError):
        auth.scope_of(api.app, "forgotten")


@pytest.mark.parametrize("unknown", [image_id(1), "x", "%00", "%FF", "a" * 5000, "..%2f..", "é"])
def test_every_route_with_an_id_answers_an_unknown_one_with_a_problem(api: Api, unknown: str) -> None:
    bodies: dict[str, Any] = {
        "PATCH": {"metadata": {}},
        "/v1/collections/<name>/reindex": {"model": "starter"},
    }
    # An import makes the collection that it is for, as any ingestion does, and a PUT what it names.
    with_ids = [rule for rule in rules(api) if rule.arguments and not rule.rule.endswith("/import")]
    assert with_ids
    for rule in with_ids:
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", unknown)
        for method in (rule.methods or set()) - UNDOCUMENTED - {"PUT"}:
            response = api.http.open(path, method=method, json=bodies.get(rule.rule, bodies.get(method)))
            assert response.status_code == 404, (method, rule.rule, response.text)
            assert response.mimetype == "application/problem+json"
            assert response.headers["X-Request-ID"]


def test_every_route_refuses_an_unknown_parameter(api: Api) -> None:
    for rule in rules(api):
        if "GET" not in (rule.methods or set()) or rule.arguments or rule.rule in ("/healthz", "/metrics"):
            continue
        response = api.http.get(f"{rule.rule}?no_such_parameter=1")
        if rule.rule != "/v1/collections":  # takes none, so reads none
            assert_problem(response, 422, "invalid_request")


def test_every_route_that_takes_a_body_refuses_a_bad_one(api: Api) -> None:
    for rule in rules(api):
        if "POST" not in (rule.methods or set()) or rule.arguments:
            continue
        for body in (b"{", b"[]", b"null", b"1", b'"text"', b'{"no_such_field": 1}', b'{"a": NaN}', b"\xff"):
            response = api.http.post(rule.rule, data=body, content_type="application/json")
            assert response.status_code in (400, 422), (rule.rule, body, response.text)
            assert response.mimetype == "application/problem+json"
            assert response.headers["X-Request-ID"]
        response = api.http.post(rule.rule, data=b"x", content_type="text/html")
        assert_problem(response, 415, "unsupported_media_type")


def test_an_unknown_route_is_a_problem(api: Api) -> None:
    assert_problem(api.http.get("/v1/nothing"), 404, "not_found")


def test_a_wrong_method_is_a_problem_that_says_what_is_allowed(api: Api) -> None:
    response = api.http.put("/v1/search")
    assert_problem(response, 405, "method_not_allowed")
    assert {"GET", "POST"} <= {method.strip() for method in response.headers["Allow"].split(",")}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/docs", "text/html"),
        ("/docs/errors", "text/html"),
        ("/docs/init.js", "text/javascript"),
        ("/docs/static/js/swagger-ui-bundle.js", "text/javascript"),
        ("/docs/static/css/swagger-ui.css", "text/css"),
    ],
)
def test_the_documentation_is_served_from_here(api: Api, path: str, kind: str) -> None:
    response = api.http.get(path)
    assert response.status_code == 200
    assert response.mimetype == kind
    assert response.headers["X-Request-ID"]


def test_the_documentation_asks_no_other_server(api: Api) -> None:
    page = api.http.get("/docs")
    assert "//" not in page.text.replace("<!doctype html>", "")


@pytest.mark.parametrize("path", ["/docs/static/../../../../app.py", "/docs/static/none.js"])
def test_only_the_documentation_is_served(api: Api, path: str) -> None:
    assert_problem(api.http.get(path), 404, "not_found")
