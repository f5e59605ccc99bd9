import json
from typing import Any

import pytest
from flask import Flask, Response, jsonify, request
from flask.testing import FlaskClient
from pydantic import BaseModel
from werkzeug.exceptions import BadRequest, NotFound, ServiceUnavailable

from api.http import problems
from api.http.problems import load_json, parse
from shared.errors import (
    ConfigError,
    ImageSearchError,
    InvalidRequest,
    ItemError,
    LedgerUnavailable,
    Unauthorized,
)
from tests.unit.fakes import assert_problem


class Thing(BaseModel):
    size: int


class Box(BaseModel):
    things: list[Thing]


@pytest.fixture
def http() -> FlaskClient:
    app = Flask(__name__)
    problems.install(app)

    @app.post("/echo")
    def echo() -> Response:
        return jsonify(request.get_json())

    return app.test_client()


def raising(error: Exception) -> FlaskClient:
    app = Flask(__name__)
    problems.install(app)

    @app.get("/")
    def fail() -> Response:
        raise error

    return app.test_client()


@pytest.mark.parametrize(
    "error",
    [RuntimeError("/secret/path"), ImageSearchError("secret"), ConfigError("secret"), KeyError("secret")],
)
def test_a_mistake_of_ours_shows_nothing_of_itself(error: Exception) -> None:
    response = raising(error).get("/")
    assert_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert "Traceback" not in response.text


def test_faults_are_listed_where_there_are_any() -> None:
    fault: Any = {"pointer": "/a~1b/0", "message": "is odd"}
    document = assert_problem(raising(InvalidRequest("No.", [fault])).get("/"), 422, "invalid_request")
    assert document["errors"] == [fault]
    assert "errors" not in assert_problem(raising(InvalidRequest("No.")).get("/"), 422, "invalid_request")


def test_an_item_error_keeps_its_code() -> None:
    document = assert_problem(raising(ItemError("too_large", "It is.")).get("/"), 422, "too_large")
    assert document["detail"] == "It is."


def test_what_may_be_tried_again_says_when() -> None:
    response = raising(LedgerUnavailable("Gone.")).get("/")
    assert_problem(response, 503, "ledger_unavailable")
    assert response.headers["Retry-After"] == "5"


def test_unauthorized_says_how() -> None:
    response = raising(Unauthorized("Who?")).get("/")
    assert_problem(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="image-search"'


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadRequest("So."), 400, "bad_request"),
        (NotFound(), 404, "not_found"),
        (ServiceUnavailable(), 503, "unavailable"),
    ],
)
def test_errors_of_the_http_layer_are_problems(error: Exception, status: int, code: str) -> None:
    assert_problem(raising(error).get("/"), status, code)


def test_a_redirect_is_no_problem() -> None:
    app = Flask(__name__)
    problems.install(app)
    app.add_url_rule("/folder/", view_func=lambda: "x", endpoint="folder")
    response = app.test_client().get("/folder")
    assert response.status_code == 308
    assert response.headers["Location"].endswith("/folder/")


def test_a_problem_can_hold_any_text() -> None:
    document = assert_problem(raising(InvalidRequest("é \ud800")).get("/"), 422, "invalid_request")
    assert document["detail"] == "é ?"


def test_every_answer_has_a_request_id(http: FlaskClient) -> None:
    first, second = http.post("/echo", json=1), http.get("/none")
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


@pytest.mark.parametrize("given", ["abc-1._", "x" * 128])
def test_a_clients_request_id_is_kept(http: FlaskClient, given: str) -> None:
    response = http.post("/echo", json=1, headers={"X-Request-ID": given})
    assert response.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "é"])
def test_a_request_id_that_is_not_one_is_replaced(http: FlaskClient, given: str) -> None:
    response = http.post("/echo", json=1, headers={"X-Request-ID": given})
    assert response.headers["X-Request-ID"] not in ("", given)


@pytest.mark.parametrize("value", ["é 猫", "\ud800", {"b": 1, "a": [None, True, 1.5]}])
def test_json_comes_back_as_it_went_in(http: FlaskClient, value: Any) -> None:
    response = http.post("/echo", data=json.dumps(value), content_type="application/json")
    assert json.loads(response.data) == value
    response.data.decode("utf-8")


def test_json_is_utf_8_in_the_order_given(http: FlaskClient) -> None:
    response = http.post("/echo", json={"b": "é", "a": 1})
    assert response.text.replace(" ", "").strip() == '{"b":"é","a":1}'


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "-Infinity", "", "{", "1" * 5000, "[" * 100_000, b"\xff"]
)
def test_what_is_not_json_is_named(text: str | bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        load_json(text, "The thing")
    assert str(caught.value.description).startswith("The thing is ")


def test_a_fault_deep_inside_is_pointed_at() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(Box, {"things": [{"size": 1}, {"size": "x"}, {}]})
    assert [error["pointer"] for error in caught.value.errors] == ["/things/1/size", "/things/2/size"]
    assert caught.value.detail.startswith("/things/1/size: ")
    assert caught.value.detail.endswith("(and 1 more)")
