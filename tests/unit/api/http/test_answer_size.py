"""No JSON answer is larger than the limit."""

import pytest
from flask import Flask, Response, jsonify

from api.http import answer_size, problems


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    problems.install(app)
    answer_size.install(app)
    return app


def test_an_answer_past_the_limit_is_a_problem_that_says_what_to_ask_for(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_size, "MAX_ANSWER_BYTES", 1_000)
    app.add_url_rule("/large", "large", view_func=lambda: jsonify(text="x" * 1_000))
    app.add_url_rule("/small", "small", view_func=lambda: jsonify(text="x" * 900))
    app.add_url_rule("/file", "file", view_func=lambda: Response("x" * 2_000, mimetype="image/webp"))
    answer = app.test_client().get("/large")
    assert (answer.status_code, answer.json["code"]) == (422, "answer_too_large")  # type: ignore[index]
    assert "at most 1,000 are sent" in answer.json["detail"]  # type: ignore[index]
    assert answer.headers["X-Request-ID"]
    assert app.test_client().get("/small").status_code == 200
    assert len(app.test_client().get("/file").data) == 2_000
