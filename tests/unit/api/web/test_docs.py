import re
from pathlib import Path

import pytest

from api.web.problem_codes import MEANINGS, problems
from deploy import gunicorn_worker
from shared.errors import ITEM_CODES
from tests.stack import ROOT
from tests.unit.fakes import Api, assert_problem, make_api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def test_every_code_has_a_cause_and_what_to_do_in_sentences() -> None:
    codes = [one.code for one in problems()]
    assert len(codes) == len(set(codes))
    assert set(codes) == set(MEANINGS)
    for sentences in MEANINGS.values():
        for sentence in sentences:
            assert re.fullmatch(r"[A-Z`].*\.", sentence), sentence
            assert sentence.count("`") % 2 == 0, sentence


def test_the_page_has_a_place_for_each_type_of_problem_and_each_code_of_an_item(api: Api) -> None:
    page = api.http.get("/docs/errors").text
    for code in {*MEANINGS, *ITEM_CODES}:
        assert page.count(f'id="{code}"') == 1, code
    assert "IMAGE_SEARCH_ALLOW_HOSTS" in page
    assert "<code>POST /v1/search</code>" in page
    assert "`" not in page


def test_what_werkzeug_refuses_by_itself_has_a_code_of_the_page(api: Api) -> None:
    assert_problem(api.http.get("/nowhere"), 404, "not_found")
    assert_problem(api.http.put("/v1/search"), 405, "method_not_allowed")
    beyond = api.http.get("/static/shell/theme.js", headers={"Range": "bytes=999999-"})
    assert_problem(beyond, 416, "requested_range_not_satisfiable")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "Bad Request"),
        (403, "Forbidden"),
        (408, "Request Timeout"),
        (414, "URI Too Long"),
        (417, "Expectation Failed"),
        (431, "Request Header Fields Too Large"),
        (500, "Internal Server Error"),
    ],
)
def test_what_the_server_refuses_before_it_is_a_request_has_a_code_of_the_page(
    monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(gunicorn_worker.util, "write_nonblock", lambda _, data: written.append(data))
    gunicorn_worker._write_problem(None, status, reason, "")  # type: ignore[arg-type]
    (code,) = re.findall(rb'"code": "(\w+)"', written[0])
    assert code.decode() in MEANINGS


def test_a_code_that_is_answered_by_name_is_on_the_page() -> None:
    calls = r'\bproblem\(\s*(?:[\w.]+|\d+),\s*"(\w+)"'
    written = {code for path in (ROOT / "api").rglob("*.py") for code in re.findall(calls, path.read_text())}
    assert "not_ready" in written
    assert written <= set(MEANINGS)
