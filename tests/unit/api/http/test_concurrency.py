import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api.http import concurrency, problems
from api.jobs import routes as jobs
from api.search import routes as search
from tests.unit.fakes import Api, assert_problem, make_api, make_services, picture

URLS = {"urls": ["https://example.com/1.jpg"]}
JSON_ROUTES = [
    ("POST", "/v1/collections"),
    ("PATCH", f"/v1/images/{'0' * 64}"),
    ("POST", "/v1/collections/images/reindex"),
    ("POST", "/v1/collections/images/export"),
    ("POST", "/v1/collections/images/import"),
]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def chunked(api: Api, path: str, body: Any, content_type: str, method: str = "POST") -> TestResponse:
    """A request with a body of unknown length, as a server hands it over."""
    handed_over = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return api.http.open(path, method=method, content_type=content_type, environ_overrides=handed_over)


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
def test_a_json_body_is_of_one_mebibyte_at_most(api: Api, method: str, path: str) -> None:
    body = json.dumps({"x": "y" * problems.MAX_BODY_BYTES}).encode()
    known = api.http.open(path, method=method, data=body, content_type="application/json")
    assert_problem(known, 413, "request_too_large")
    unknown = chunked(api, path, io.BytesIO(body), "application/json", method)
    assert_problem(unknown, 413, "request_too_large")


@pytest.mark.parametrize("path", ["/v1/search", "/v1/compare"])
def test_a_json_body_that_may_have_pictures_is_bounded(
    api: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(search, "MAX_JSON_BYTES", 2 * problems.MAX_BODY_BYTES)
    for size, status in ((1, 422), (2, 413)):
        body = json.dumps({"x": "y" * size * problems.MAX_BODY_BYTES}).encode()
        assert api.http.post(path, data=body, content_type="application/json").status_code == status
        assert chunked(api, path, io.BytesIO(body), "application/json").status_code == status


def test_the_length_that_is_announced_is_refused_before_the_body_comes(api: Api) -> None:
    class Unread(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _: Any) -> int:
            pytest.fail("the body was read")

    for path, media_type, most in (
        ("/v1/search", "application/json", search.MAX_JSON_BYTES),
        ("/v1/search", "multipart/form-data; boundary=x", search.MAX_FORM_BYTES),
    ):
        announced = {"wsgi.input": Unread(), "CONTENT_LENGTH": str(most + 1)}
        response = api.http.post(path, content_type=media_type, environ_overrides=announced)
        assert_problem(response, 413, "request_too_large")


def test_the_limits_of_a_job_hold_for_bodies_of_unknown_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(tmp_path, make_services(tmp_path, max_upload_bytes=1000))
    monkeypatch.setattr(jobs, "MAX_JSON_BYTES", 20)
    body = json.dumps(URLS).encode()
    assert_problem(chunked(api, "/v1/jobs", io.BytesIO(body), "application/json"), 413, "request_too_large")
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + b"y" * 1000
    response = chunked(api, "/v1/jobs", io.BytesIO(form), "multipart/form-data; boundary=x")
    assert_problem(response, 413, "request_too_large")
    assert api.services.ledger.list_jobs(None, None, 10)[0] == []


@pytest.mark.parametrize("field", ["size", "parts", "query"])
def test_a_search_form_is_bounded(api: Api, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    pictures = [(io.BytesIO(picture()), f"{number}.png") for number in range(problems.MAX_FORM_PARTS + 1)]
    forms: dict[str, dict[str, Any]] = {
        "size": {"image": pictures[:1]},
        "parts": {"image": pictures},
        "query": {"image": pictures[:1], "query": "x" * 600_000},
    }
    if field == "size":
        monkeypatch.setattr(search, "MAX_FORM_BYTES", 100)
    assert_problem(api.http.post("/v1/search", data=forms[field]), 413, "request_too_large")


def test_a_search_form_of_unknown_length_is_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_FORM_BYTES", 1000)
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + b"y" * 2000
    response = chunked(api, "/v1/search", io.BytesIO(form), "multipart/form-data; boundary=x")
    assert_problem(response, 413, "request_too_large")


def test_a_job_form_has_bounded_fields(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.jobs.multipart.MAX_FIELD_BYTES", 100)
    form = {"files": (io.BytesIO(picture()), "a.png"), "metadata": json.dumps({"note": "x" * 200})}
    document = assert_problem(api.http.post("/v1/jobs", data=form), 413, "request_too_large")
    assert "metadata" in document["detail"]


# Long bodies at the same time


class Pausing(io.RawIOBase):
    """A body of one line; `begun` is set when all of it was read, and it ends when `go_on` is set."""

    def __init__(self) -> None:
        self.begun, self.go_on = Event(), Event()
        self._chunks = iter([b"https://example.com/1.jpg\n"])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = next(self._chunks, b"")
        if not chunk:
            self.begun.set()
            assert self.go_on.wait(30)
        buffer[: len(chunk)] = chunk
        return len(chunk)


def test_long_bodies_leave_half_of_the_threads_and_give_their_places_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "THREADS", 4)
    api = make_api(tmp_path)
    with ThreadPoolExecutor() as threads:
        for _ in range(2):
            bodies = [Pausing(), Pausing()]
            uploads = [threads.submit(chunked, api, "/v1/jobs", body, "text/plain") for body in bodies]
            assert all(body.begun.wait(30) for body in bodies)
            third = chunked(api, "/v1/jobs", io.BytesIO(b"https://example.com/2.jpg\n"), "text/plain")
            assert "are open at once than" in assert_problem(third, 503, "unavailable")["detail"]
            assert int(third.headers["Retry-After"]) > 0
            long = api.http.post("/v1/search", json={"text": "x" * concurrency.QUICK_BYTES})
            assert_problem(long, 503, "unavailable")
            assert api.http.post("/v1/jobs", json=URLS).status_code == 202, "a short body is no upload"
            for body in bodies:
                body.go_on.set()
            assert [upload.result().status_code for upload in uploads] == [202, 202]


def test_an_upload_that_fails_gives_its_place_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "THREADS", 4)
    api = make_api(tmp_path)
    for _ in range(5):
        response = api.http.post("/v1/search", json={"text": "x" * concurrency.QUICK_BYTES})
        assert_problem(response, 422, "invalid_request")
