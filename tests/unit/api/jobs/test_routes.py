import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from flask_openapi3.openapi import OpenAPI
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from api.http import problems
from api.jobs import routes as jobs
from shared.api_keys import create_key
from shared.config import Settings
from shared.errors import LedgerUnavailable
from shared.models import ItemResult, ItemState, JobError, JobKind, JobStatus, Label, Stage
from shared.services import Services
from shared.storage.blobs import Blobs
from shared.storage.manifest import write_results
from tests.redis_server import fake_ledger
from tests.unit import fakes


class FakeDownloader:
    def check(self, url: str, timeout_s: float | None = None) -> None:
        pass


class FakeDispatcher:
    pumped = 0

    def pump(self) -> None:
        self.pumped += 1


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    stand_in = SimpleNamespace(
        settings=Settings(max_image_bytes=1000, max_upload_bytes=10_000, chunk_size=4),
        blobs=Blobs(f"file://{tmp_path}/blobs"),
        ledger=fake_ledger(),
        downloader=FakeDownloader(),
        dispatcher=FakeDispatcher(),
    )
    services = cast(Services, stand_in)
    monkeypatch.setattr(jobs, "services", lambda: services)
    return services


@pytest.fixture(scope="module")
def app() -> OpenAPI:
    schemes: dict[str, Any] = {"key": {"type": "http", "scheme": "bearer"}}
    app = OpenAPI(__name__, security_schemes=schemes, validation_error_callback=problems.refuse_invalid)
    problems.install(app)
    app.register_api(jobs.blueprint)
    return app


@pytest.fixture
def http(app: OpenAPI, services: Services) -> Iterator[FlaskClient]:
    with app.test_client() as client:
        yield client


def make_job(http: FlaskClient, count: int) -> str:
    body = {"urls": [f"http://x/{i}" for i in range(count)]}
    return str(http.post("/v1/jobs", json=body).json["job_id"])  # type: ignore[index]


def advance(services: Services, job_id: str, outcomes: list[ItemState]) -> None:
    """Takes the job's chunks through the fetch stage, their items to `outcomes`."""
    while chunks := services.ledger.dispatch():
        for chunk in chunks:
            claim = services.ledger.claim(chunk, Stage.FETCH)
            assert claim is not None
            span = range(claim.first_item, claim.last_item)
            failed = [index for index in span if outcomes[index] is ItemState.FAILED]
            results = [
                ItemResult(i, "", 2, code="http_status", detail="404 Not Found")
                if i in failed
                else ItemResult(i, "", 1, image_id=f"id{i}")
                for i in span
            ]
            write_results(services.blobs, chunk, Stage.FETCH, claim.token, results)
            errors = [JobError(i, f"http://x/{i}", "http_status", "404 Not Found") for i in failed]
            services.ledger.advance(claim, transitions=[(i, outcomes[i]) for i in span], errors=errors)


def assert_problem(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    document: dict[str, Any] = json.loads(response.data)
    assert document["code"] == code
    return document


def test_a_job_is_answered_with_its_place_and_its_state(http: FlaskClient, services: Services) -> None:
    response = http.post("/v1/jobs", json={"items": [{"url": "http://x/1"}, {"url": "http://x/2"}]})
    assert response.status_code == 202
    job = json.loads(response.data)
    assert response.headers["Location"] == f"/v1/jobs/{job['job_id']}"
    assert job["status"] == "queued"
    assert job["collection"] == "images"
    assert job["counts"] == {
        "pending": 2, "fetched": 0, "indexed": 0, "duplicate": 0, "failed": 0, "cancelled": 0,
    }  # fmt: skip
    assert (job["total"], job["progress"], job["truncated"], job["errors"]) == (2, 0.0, False, [])
    assert job["created_at"].endswith("Z")
    assert (job["started_at"], job["finished_at"]) == (None, None)
    assert http.get(response.headers["Location"]).json == job
    assert cast(FakeDispatcher, services.dispatcher).pumped == 1


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-ndjson", b'{"url": "http://x/1"}\n{"url": "http://x/2"}\n'),
        ("text/plain; charset=utf-8", b"http://x/1\nhttp://x/2"),
    ],
)
def test_streamed_bodies_take_their_options_from_the_query(
    http: FlaskClient, content_type: str, body: bytes
) -> None:
    response = http.post("/v1/jobs?collection=cats", data=body, content_type=content_type)
    assert response.status_code == 202
    job = json.loads(response.data)
    assert (job["total"], job["collection"], job["truncated"]) == (2, "cats", False)


def test_a_form_of_files_is_a_job(http: FlaskClient) -> None:
    form = {"files": [(io.BytesIO(b"x"), "a.jpg")], "collection": "cats"}
    response = http.post("/v1/jobs", data=form)
    assert response.status_code == 202
    assert json.loads(response.data)["collection"] == "cats"


def test_bad_input_is_a_problem_with_pointers(http: FlaskClient) -> None:
    response = http.post("/v1/jobs", json={"items": [{"url": "u", "metadata": {"id": 1}}]})
    document = assert_problem(response, 422, "invalid_request")
    assert document["errors"][0]["pointer"] == "/items/0/metadata/id"


@pytest.mark.parametrize("content_type", [None, "text/html", "application/x-www-form-urlencoded"])
def test_another_media_type_is_refused(http: FlaskClient, content_type: str | None) -> None:
    document = assert_problem(
        http.post("/v1/jobs", data=b"x", content_type=content_type), 415, "unsupported_media_type"
    )
    assert "application/x-ndjson" in document["detail"]


def test_a_body_over_its_limit_is_refused(http: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"files": [(io.BytesIO(b"x" * 20_000), "a.jpg")]}
    assert_problem(http.post("/v1/jobs", data=form), 413, "request_too_large")
    monkeypatch.setattr(jobs, "MAX_JSON_BYTES", 10)
    assert_problem(http.post("/v1/jobs", json={"urls": ["http://x"]}), 413, "request_too_large")


@pytest.mark.parametrize("query", ["colection=cats", "collection=-", "limit=3"])
def test_a_wrong_query_parameter_is_refused(http: FlaskClient, query: str) -> None:
    response = http.post(f"/v1/jobs?{query}", data=b"http://x", content_type="text/plain")
    assert_problem(response, 422, "invalid_request")


@pytest.mark.parametrize("key", ["x" * 256, "ä", ""])
def test_a_malformed_idempotency_key_is_refused(http: FlaskClient, key: str) -> None:
    response = http.post("/v1/jobs", json={"urls": ["u"]}, headers={"Idempotency-Key": key})
    assert_problem(response, 422, "invalid_request")


def test_a_repeated_idempotency_key_is_the_same_job_or_a_mismatch(http: FlaskClient) -> None:
    headers = {"Idempotency-Key": "k" * 255}
    first = http.post("/v1/jobs", json={"urls": ["u"]}, headers=headers)
    again = http.post("/v1/jobs", json={"urls": ["u"]}, headers=headers)
    assert again.status_code == 202
    assert again.json == first.json
    other = http.post("/v1/jobs", json={"urls": ["v"]}, headers=headers)
    assert_problem(other, 422, "idempotency_mismatch")


def test_without_the_ledger_jobs_are_unavailable_and_nothing_is_stored(
    http: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("The job ledger (Redis) does not answer.")

    for name in ("ping", "get", "create"):
        monkeypatch.setattr(services.ledger, name, away)
    response = http.post("/v1/jobs", json={"urls": ["u"]})
    assert_problem(response, 503, "ledger_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert services.blobs.list("jobs/") == []
    assert_problem(http.get("/v1/jobs/x"), 503, "ledger_unavailable")


def test_an_unknown_job_is_not_found(http: FlaskClient) -> None:
    for response in (
        http.get("/v1/jobs/none"), http.get("/v1/jobs/none/items"), http.get("/v1/jobs/none/events"),
        http.delete("/v1/jobs/none"), http.post("/v1/jobs/none/retry"),
    ):  # fmt: skip
        assert_problem(response, 404, "job_not_found")


def test_items_tell_what_became_of_each(http: FlaskClient, services: Services) -> None:
    job_id = make_job(http, 3)
    advance(services, job_id, [ItemState.INDEXED, ItemState.FAILED, ItemState.DUPLICATE])
    page = json.loads(http.get(f"/v1/jobs/{job_id}/items").data)
    assert page["next_cursor"] is None
    nothing = {"code": None, "detail": None, "worth_retrying": False}
    assert page["items"] == [
        {"index": 0, "source": "http://x/0", "status": "indexed", "image_id": "id0", "attempts": 1} | nothing,
        {
            "index": 1, "source": "http://x/1", "status": "failed", "image_id": None,
            "code": "http_status", "detail": "404 Not Found", "worth_retrying": False, "attempts": 2,
        },
        {"index": 2, "source": "http://x/2", "status": "duplicate", "image_id": "id2", "attempts": 1}
        | nothing,
    ]  # fmt: skip
    job = json.loads(http.get(f"/v1/jobs/{job_id}").data)
    assert (job["status"], job["progress"]) == ("partial", 1.0)
    expected = {"index": 1, "source": "http://x/1", "code": "http_status", "detail": "404 Not Found"}
    assert job["errors"] == [expected | {"worth_retrying": False}]


def test_failed_items_are_paged_wherever_they_are_in_the_job(http: FlaskClient, services: Services) -> None:
    failed = {0, 5, 1023, 1024, 2100}
    job_id = make_job(http, 2200)
    advance(services, job_id, [ItemState.FAILED if i in failed else ItemState.INDEXED for i in range(2200)])
    found: list[int] = []
    cursor = ""
    while True:
        url = f"/v1/jobs/{job_id}/items?status=failed&limit=2{cursor}"
        page = json.loads(http.get(url).data)
        assert all(item["source"] == f"http://x/{item['index']}" for item in page["items"])
        assert all(item["code"] == "http_status" for item in page["items"])
        found += [item["index"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == sorted(failed)


def test_an_item_that_is_tried_again_shows_no_old_failure(http: FlaskClient, services: Services) -> None:
    job_id = make_job(http, 1)
    advance(services, job_id, [ItemState.FAILED])
    response = http.post(f"/v1/jobs/{job_id}/retry")
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/jobs/{job_id}"
    assert not JobStatus(json.loads(response.data)["status"]).finished
    (item,) = json.loads(http.get(f"/v1/jobs/{job_id}/items").data)["items"]
    assert (item["status"], item["code"], item["detail"]) == ("pending", None, None)


def test_retrying_is_refused_while_running_and_when_nothing_failed(
    http: FlaskClient, services: Services
) -> None:
    job_id = make_job(http, 1)
    assert_problem(http.post(f"/v1/jobs/{job_id}/retry"), 409, "job_running")
    advance(services, job_id, [ItemState.INDEXED])
    assert_problem(http.post(f"/v1/jobs/{job_id}/retry"), 409, "nothing_to_retry")


def test_a_sync_is_shown_as_one_and_its_retry_points_to_the_next(
    http: FlaskClient, services: Services
) -> None:
    label = Label(name="feed", origin="source", made_of="feed")
    job_id = services.ledger.create(
        "sync", collection="images", total=0, chunk_size=4, kind=JobKind.SYNC, begins=True, source="feed",
        label=label,
    )  # fmt: skip
    job = json.loads(http.get(f"/v1/jobs/{job_id}").data)
    assert (job["kind"], job["made_of"], job["total"], job["progress"]) == ("sync", "feed", 0, 0.0)
    assert job["counts"] == dict.fromkeys(ItemState, 0)
    refused = http.post(f"/v1/jobs/{job_id}/retry")
    assert_problem(refused, 409, "nothing_to_retry")
    assert "POST /v1/sources/feed/sync" in json.loads(refused.data)["detail"]


def test_a_job_is_cancelled_once_and_a_finished_one_never(http: FlaskClient, services: Services) -> None:
    job_id = make_job(http, 2)
    response = http.delete(f"/v1/jobs/{job_id}")
    assert response.status_code == 200
    assert json.loads(response.data)["status"] == "cancelled"
    assert json.loads(response.data)["counts"]["cancelled"] == 2
    done = make_job(http, 1)
    advance(services, done, [ItemState.INDEXED])
    assert_problem(http.delete(f"/v1/jobs/{done}"), 409, "job_finished")


def test_jobs_are_listed_newest_first_in_pages_and_by_status(http: FlaskClient) -> None:
    made = [make_job(http, 1) for _ in range(5)]
    http.delete(f"/v1/jobs/{made[2]}")
    listed: list[str] = []
    cursor = ""
    while True:
        page = json.loads(http.get(f"/v1/jobs?limit=2{cursor}").data)
        listed += [job["job_id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert listed == made[::-1]
    page = json.loads(http.get("/v1/jobs?status=cancelled").data)
    assert [job["job_id"] for job in page["jobs"]] == [made[2]]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs?limit=0", "/v1/jobs?limit=1001", "/v1/jobs?status=odd", "/v1/jobs?cursor=x",
        "/v1/jobs?page=2", "/v1/jobs/{}/items?limit=0",
        "/v1/jobs/{}/items?status=odd", "/v1/jobs/{}/items?cursor=-1",
    ],
)  # fmt: skip
def test_malformed_parameters_are_refused(http: FlaskClient, path: str) -> None:
    document = assert_problem(http.get(path.format(make_job(http, 1))), 422, "invalid_request")
    assert document["errors"][0]["pointer"].startswith("/")


def test_the_openapi_page_describes_every_body_and_answer(app: OpenAPI) -> None:
    page = app.api_doc
    validate(page)
    operation = page["paths"]["/v1/jobs"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {
        "application/json", "application/x-ndjson", "text/plain", "text/csv", "text/tab-separated-values",
        "application/jsonl", "application/vnd.apache.parquet", "multipart/form-data",
    }  # fmt: skip
    assert {parameter["name"] for parameter in operation["parameters"]} == {
        "Idempotency-Key", "collection", "callback_url", "on_near_duplicate", "since", "metadata",
        "name", "origin", "made_of", "group",
        "url_column", "key_column", "columns", "skip_columns", "number_columns",
        "preview", "partial",
    }  # fmt: skip
    assert {"200", "202"} <= set(operation["responses"])
    assert "Location" in operation["responses"]["202"]["headers"]
    schemas = page["components"]["schemas"]
    assert {"JobRequest", "ItemRequest", "JobForm", "Job", "JobPage", "ItemPage"} <= set(schemas)
    assert schemas["ItemRequest"]["additionalProperties"] is False
    assert schemas["Metadata"]["maxProperties"] == 32
    assert set(page["paths"]) == {
        "/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/retry", "/v1/jobs/{job_id}/items",
        "/v1/jobs/{job_id}/events",
    }  # fmt: skip


def test_every_route_needs_the_ingest_scope(app: OpenAPI) -> None:
    views = [view for name, view in app.view_functions.items() if name.startswith("jobs.")]
    assert len(views) == 7
    assert {getattr(view, "__scope__", None) for view in views} == {"ingest"}


def test_a_key_with_too_many_unfinished_jobs_is_told_so_and_no_other(tmp_path: Path) -> None:
    parts = fakes.make_services(tmp_path)
    keys = [create_key(parts.blobs, "", ["ingest"]) for _ in range(2)]
    api = fakes.make_api(tmp_path, replace(parts, ledger=fake_ledger(most_jobs=2)))

    def post(key: str) -> TestResponse:
        headers = {"Authorization": f"Bearer {key}"}
        return api.http.post("/v1/jobs", json={"urls": ["http://x/1"]}, headers=headers)

    made = [post(keys[0]) for _ in range(2)]
    refused = post(keys[0])
    detail = fakes.assert_problem(refused, 429, "too_many_jobs")["detail"]
    assert "more than 2 (IMAGE_SEARCH_MAX_JOBS_PER_KEY)" in detail
    assert int(refused.headers["Retry-After"]) > 0
    assert post(keys[1]).status_code == 202
    path, admin = made[0].headers["Location"], {"Authorization": f"Bearer {keys[1]}"}
    told = [api.http.get(where, headers=admin).text for where in (path, f"{path}/items", "/v1/jobs")]
    assert not [text for text in told if keys[0].split("_")[1] in text], "who made a job is not shown"
    assert api.http.delete(path, headers=admin).status_code == 200
    assert post(keys[0]).status_code == 202
    assert api.http.get(path, headers=admin).status_code == 404


LABEL = {"name": "holiday", "origin": "command_line", "made_of": "folder", "group": "g-1"}


def png_form(**fields: str) -> dict[str, Any]:
    return {"files": (io.BytesIO(b"bytes"), "a.png"), **fields}


def test_a_job_of_any_body_has_its_label(http: FlaskClient) -> None:
    answers = [
        http.post("/v1/jobs", json={"urls": ["http://x/1"], **LABEL}),
        http.post("/v1/jobs", query_string=LABEL, data="http://x/1\n", content_type="text/plain"),
        http.post("/v1/jobs", query_string=LABEL, json={"urls": ["http://x/1"]}),
        http.post("/v1/jobs", data=png_form(**LABEL)),
        http.post("/v1/jobs", query_string=LABEL | {"name": "other"}, data=png_form(name="holiday")),
    ]
    for answer in answers:
        job = json.loads(answer.data)
        assert {name: job[name] for name in LABEL} == LABEL
        assert json.loads(http.get(answer.headers["Location"]).data)["name"] == "holiday"


def test_a_job_without_a_label_comes_from_the_api(http: FlaskClient) -> None:
    job = json.loads(http.post("/v1/jobs", json={"urls": ["http://x/1"]}).data)
    assert (job["name"], job["origin"], job["made_of"], job["group"]) == (None, "api", None, None)
    assert (job["failures"], job["retrying"], job["parts"]) == ([], None, 1)


@pytest.mark.parametrize(
    "fault",
    [
        {"origin": "somewhere"},
        {"made_of": "cards"},
        {"group": "a b"},
        {"group": "x" * 65},
        {"name": "x" * 201},
    ],
)
def test_a_malformed_label_is_refused_in_any_body_and_nothing_is_stored(
    fault: dict[str, str], http: FlaskClient, services: Services
) -> None:
    ((name, _),) = fault.items()
    for answer in (
        http.post("/v1/jobs", json={"urls": ["http://x/1"], **fault}),
        http.post("/v1/jobs", query_string=fault, data="http://x/1\n", content_type="text/plain"),
        http.post("/v1/jobs", data=png_form(**fault)),
    ):
        assert assert_problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == f"/{name}"
    assert services.blobs.list("jobs/") == []
    assert services.ledger.list_jobs(None, None, 9) == ([], None)


def test_a_label_makes_no_other_request(http: FlaskClient) -> None:
    def post(**label: str) -> str:
        body = {"urls": ["http://x/1"], **label}
        job: str = http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"}).json["job_id"]  # type: ignore[index]
        return job

    assert post(name="a", group="g1") == post(name="b", group="g2")


def grouped(http: FlaskClient, **query: Any) -> Any:
    return json.loads(http.get("/v1/jobs", query_string={"grouped": "true", **query}).data)


def test_the_jobs_of_a_group_are_listed_as_one(http: FlaskClient, services: Services) -> None:
    def post(urls: int, **label: str) -> str:
        body = {"urls": [f"http://x/{i}" for i in range(urls)], **label}
        return str(http.post("/v1/jobs", json=body).json["job_id"])  # type: ignore[index]

    alone = post(1)
    first = post(2, group="g", name="holiday")
    between = post(1, collection="cats")
    elsewhere = post(1, group="g", collection="cats")
    last = post(3, group="g", name="holiday")
    rows = grouped(http)["jobs"]
    assert [(row["job_id"], row["parts"], row["total"]) for row in rows] == [
        (first, 2, 5), (elsewhere, 1, 1), (between, 1, 1), (alone, 1, 1),
    ]  # fmt: skip
    assert [row["job_id"] for row in grouped(http, collection="cats")["jobs"]] == [elsewhere, between]
    parts = json.loads(http.get("/v1/jobs", query_string={"group": "g", "collection": "images"}).data)["jobs"]
    assert [job["job_id"] for job in parts] == [last, first]

    page = grouped(http, limit=1)
    rest = grouped(http, cursor=page["next_cursor"], limit=9)
    assert [row["job_id"] for row in page["jobs"] + rest["jobs"]] == [first, elsewhere, between, alone]

    services.ledger.cancel(last)
    (row,) = grouped(http, status="running")["jobs"]
    assert (row["job_id"], row["counts"]["cancelled"], row["finished_at"]) == (first, 3, None)
    assert grouped(http, status="cancelled")["jobs"] == []
    services.ledger.cancel(first)
    (row,) = grouped(http, status="cancelled")["jobs"]
    assert row["counts"]["cancelled"] == row["total"] == 5


def test_an_unknown_option_of_the_list_is_refused(http: FlaskClient) -> None:
    assert_problem(http.get("/v1/jobs?collection=a%20b"), 422, "invalid_request")
    assert_problem(http.get("/v1/jobs?grouped=perhaps"), 422, "invalid_request")
    assert json.loads(http.get("/v1/jobs?group=none").data) == {"jobs": [], "next_cursor": None}
