"""The option `since`, in every form of body: what it refuses, and what it makes of the job."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.ledger.scripts import PREFIX
from shared.models import ItemState, JobKind
from shared.services import Services
from tests.unit.api.jobs.test_routes import advance, make_job
from tests.unit.fakes import assert_problem, make_api, make_services

Send = Callable[[FlaskClient, str], TestResponse]
CSV = b"url\nhttp://x/0\n"
BODIES: dict[str, Send] = {
    "JSON": lambda http, job: http.post("/v1/jobs", json={"urls": ["http://x/0"], "since": job}),
    "JSON and query": lambda http, job: http.post(f"/v1/jobs?since={job}", json={"urls": ["http://x/0"]}),
    "lines": lambda http, job: http.post(
        f"/v1/jobs?since={job}", data=b'{"url": "http://x/0"}', content_type="application/x-ndjson"
    ),
    "text": lambda http, job: http.post(
        f"/v1/jobs?since={job}", data=b"http://x/0", content_type="text/plain"
    ),
    "table": lambda http, job: http.post(f"/v1/jobs?since={job}", data=CSV, content_type="text/csv"),
    "form": lambda http, job: http.post("/v1/jobs", data={"table": (io.BytesIO(CSV), "a.csv"), "since": job}),
    "form and query": lambda http, job: http.post(
        f"/v1/jobs?since={job}", data={"table": (io.BytesIO(CSV), "a.csv")}
    ),
}
bodies = pytest.mark.parametrize("send", BODIES.values(), ids=BODIES)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path)


@pytest.fixture
def http(tmp_path: Path, services: Services) -> FlaskClient:
    return make_api(tmp_path, services).http


def ended(http: FlaskClient, services: Services, count: int = 1) -> str:
    job_id = make_job(http, count)
    advance(services, job_id, [ItemState.INDEXED] * count)
    assert services.ledger.get(job_id).status.finished
    return job_id


@bodies
def test_a_job_follows_an_earlier_one_and_counts_what_is_unchanged(
    http: FlaskClient, services: Services, send: Send
) -> None:
    earlier = ended(http, services)
    response = send(http, earlier)
    assert response.status_code == 202, response.text
    job = json.loads(response.data)
    assert job["counts"]["unchanged"] == 0
    assert services.ledger.get(job["job_id"]).options == {"since": earlier}


def refused(response: TestResponse, status: int, code: str) -> str:
    return str(assert_problem(response, status, code, "/since")["detail"])


@bodies
def test_a_job_that_is_not_there_is_refused(http: FlaskClient, services: Services, send: Send) -> None:
    detail = refused(send(http, "nobody"), 422, "invalid_request")
    assert detail == (
        "The job that `since` names cannot be followed: there is no job 'nobody'; finished jobs expire. "
        "Send the list without `since`."
    )
    assert services.ledger.list_jobs(None, None, 9)[0] == []
    assert services.blobs.list("jobs/") == []


@bodies
def test_a_job_that_is_running_is_refused(http: FlaskClient, services: Services, send: Send) -> None:
    running = make_job(http, 1)
    assert "is still running: wait for its end" in refused(send(http, running), 409, "job_running")


@bodies
def test_a_job_of_another_kind_or_collection_is_refused(
    http: FlaskClient, services: Services, send: Send
) -> None:
    export = services.ledger.create("e" * 24, collection="images", total=0, chunk_size=1, kind=JobKind.EXPORT)
    services.ledger.cancel(export)
    detail = refused(send(http, export), 422, "invalid_request")
    assert f"job {export} is not an ingest: its kind is export, of images" in detail
    cats = services.ledger.create("c" * 24, collection="cats", total=0, chunk_size=1)
    services.ledger.cancel(cats)
    assert "is not of collection images" in refused(send(http, cats), 422, "invalid_request")


def test_files_have_no_urls_to_ask(http: FlaskClient, services: Services) -> None:
    form = {"files": [(io.BytesIO(b"x"), "a.jpg")], "since": ended(http, services)}
    detail = refused(http.post("/v1/jobs", data=form), 422, "invalid_request")
    assert detail == "`since` is for URLs, and files have none."


@pytest.mark.parametrize("since", [7, ["a"], "a" * 65])
def test_a_malformed_one_is_refused(http: FlaskClient, since: Any) -> None:
    response = http.post("/v1/jobs", json={"urls": ["http://x/0"], "since": since})
    assert_problem(response, 422, "invalid_request", "/since")


@bodies
def test_it_is_part_of_what_an_idempotency_key_stands_for(
    http: FlaskClient, services: Services, send: Send
) -> None:
    first, second = ended(http, services), ended(http, services)
    http.environ_base["HTTP_IDEMPOTENCY_KEY"] = "k"
    made = send(http, first).json
    services.ledger._redis.call("delete", f"{PREFIX}job:{first}")
    assert send(http, first).json == made, "also once the earlier job has expired"
    assert_problem(send(http, second), 422, "idempotency_mismatch")
