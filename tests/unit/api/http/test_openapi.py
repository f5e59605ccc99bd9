"""What holds for every route, whichever they are."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.routing import Rule

from api.http import auth
from shared import errors
from shared.api_keys import SCOPES
from shared.errors import ITEM_CODES, ImageSearchError
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


def test_every_example_is_what_its_schema_says(document: dict[str, Any]) -> None:
    components = document["components"]
    examples = {
        name: schema["examples"] for name, schema in components["schemas"].items() if "examples" in schema
    }
    assert {"DuplicatePage", "Image", "JobRequest"} <= examples.keys()
    for name, given in examples.items():
        validator = Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})
        for example in given:
            validator.validate(example)


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
    # An import makes the collection that it is for, as any ingestion does.
    with_ids = [rule for rule in rules(api) if rule.arguments and not rule.rule.endswith("/import")]
    assert with_ids
    for rule in with_ids:
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", unknown)
        for method in (rule.methods or set()) - UNDOCUMENTED:
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
        response = api.http.post(rule.rule, data=b"x", content_type="text/csv")
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


class _Ids(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name == "id" and value]


def test_the_errors_page_explains_every_code_once(api: Api) -> None:
    ids = _Ids()
    ids.feed(api.http.get("/docs/errors").text)
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, ImageSearchError)
    ]
    codes = {kind.code for kind in classes} | set(ITEM_CODES) | {"bad_request", "method_not_allowed"}
    assert codes <= set(ids.found)
    assert len(ids.found) == len(set(ids.found))
