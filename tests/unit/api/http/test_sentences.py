"""What is wrong with a request is said once, as the client and the command line put it together."""

import io
from pathlib import Path
from typing import Any

import pytest

from image_search import ApiError
from tests.unit.fakes import Api, axis, make_api

ID = "0" * 64


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    made = make_api(Path(tmp_path_factory.mktemp("api")))
    made.add(1, axis(0))
    return made


def form(**parts: Any) -> dict[str, Any]:
    return {"data": {name: (io.BytesIO(b"x"), "a.jpg") if name == "files" else parts[name] for name in parts}}


def test_a_collection_s_name_is_refused_in_words(api: Api) -> None:
    rule = "1 to 63 letters, digits, `.`, `_` or `-`; the first and last a letter or digit"
    for path, body in (
        ("/v1/collections", {"name": "my toys"}),
        ("/v1/search", {"text": "a", "collection": "-a"}),
    ):
        problem = api.http.post(path, json=body).get_json(force=True)
        assert [fault["message"] for fault in problem["errors"]] == [f"a collection's name is {rule}"]


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/v1/search", {"json": {"text": "a", "limit": 0, "nope": 1}}),
        ("/v1/search", {"json": {"image_id": ID}}),
        ("/v1/search", {"json": {"text": "axis 0", "negative": [{"text": "axis 0"}]}}),
        ("/v1/search", {"json": {"positive": [{"text": "axis 0", "weight": 0}]}}),
        ("/v1/search", {"json": {"text": "a", "positive": [{"text": " "}]}}),
        ("/v1/search", {"json": {"image_url": "http://gone.example/"}}),
        ("/v1/search", {"json": {"text": "a", "filters": {"width": {"foo": 1}}}}),
        ("/v1/search", {"json": {"text": "a", "collection": "none"}}),
        ("/v1/jobs", {"json": {"urls": []}}),
        ("/v1/jobs", {"json": {"items": [{"key": "a"}]}}),
        ("/v1/jobs", {"json": {"urls": ["a"], "collection": "a b"}}),
        ("/v1/jobs", form(metadata="{}")),
        ("/v1/jobs", form(files=1, other="x")),
        ("/v1/jobs", form(files=1, metadata="[{}, {}]")),
        ("/v1/jobs", form(files=1, keys='["a", "b"]')),
        ("/v1/jobs", form(files=1, metadata="{")),
        ("/v1/jobs", form(files=1, metadata=["{}", "{}"])),
        ("/v1/collections", {"json": {"name": "a b"}}),
        ("/v1/compare", {"json": {"a": {"text": "a"}, "b": {}}}),
    ],
)
def test_a_sentence_is_said_once(api: Api, path: str, request_: dict[str, Any]) -> None:
    answer = api.http.post(path, **request_)
    problem = answer.get_json(force=True)
    assert 400 <= answer.status_code < 500, problem
    faults = problem.get("errors", [])
    told = str(ApiError(answer.status_code, problem["code"], problem["detail"], faults)).lower()
    for fault in faults:
        message = fault["message"].lower().rstrip(".")
        assert not message.startswith(fault["pointer"])
        assert told.count(message) == 1, told
    words = [word.strip("().,:;`'") for word in told.split()]
    fours = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    assert len(fours) == len(set(fours)), told
