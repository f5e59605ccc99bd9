import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from api.http.auth import KeyRing
from image_search import models
from shared.api_keys import create_key
from shared.errors import ItemError
from shared.rfc3339 import parse_rfc3339
from shared.services import Services
from shared.sources import store
from shared.sources.definition import Run, Source
from tests.unit.fakes import LEDGER_DOWN, Api, assert_problem, make_api, make_services, with_services

FEED = {"from": "https://shop.example/feed.csv"}
SHOP = "/v1/sources/shop"
DAY = 86_400


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path, blob_url="s3://bucket/blobs", source_folders=f"{tmp_path}/pictures")


@pytest.fixture
def api(tmp_path: Path, services: Services) -> Api:
    return make_api(tmp_path, services)


def put(api: Api, path: str = SHOP, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = api.http.put(path, json=FEED | body)
    assert answer.status_code == status, answer.text
    return cast(dict[str, Any], json.loads(answer.data))


def get(api: Api, path: str = SHOP) -> dict[str, Any]:
    answer = api.http.get(path)
    assert answer.status_code == 200, answer.text
    return cast(dict[str, Any], json.loads(answer.data))


def sync(api: Api, status: int = 202, **body: Any) -> dict[str, Any]:
    answer = api.http.post(f"{SHOP}/sync", json=body)
    assert answer.status_code == status, answer.text
    return cast(dict[str, Any], json.loads(answer.data))


def cancel(api: Api, job: dict[str, Any]) -> None:
    assert api.http.delete(f"/v1/jobs/{job['job_id']}").status_code == 200


def in_seconds(text: str | None) -> float:
    seconds = parse_rfc3339(text or "")
    assert seconds is not None
    return seconds - time.time()


def test_a_source_is_defined_shown_and_defined_otherwise(api: Api) -> None:
    made = api.http.put(SHOP, json=FEED)
    assert made.status_code == 201
    assert made.headers["Location"].endswith(SHOP)
    shown = get(api)
    assert shown == json.loads(made.data)
    assert {name: value for name, value in shown.items() if name != "created_at"} == {
        "name": "shop", "from": FEED["from"], "collection": "images", "every": None,
        "delete_missing": False, "max_delete_share": 0.2, "refetch": "changed", "callback_url": None,
        "url_column": None, "key_column": None, "columns": None, "skip_columns": None,
        "number_columns": None, "removing": False, "next_run_at": None, "running_job": None,
        "last_run": None, "runs": [],
    }  # fmt: skip
    options = {
        "every": "24h", "delete_missing": True, "max_delete_share": 1, "refetch": "always",
        "callback_url": "https://example.com/done", "url_column": "link", "key_column": "sku",
        "columns": "a,b", "skip_columns": "b", "number_columns": "a",
    }  # fmt: skip
    changed = put(api, **options)
    assert {name: changed[name] for name in options} == options
    assert changed["created_at"] == shown["created_at"]
    assert put(api)["columns"] is None  # what is left out is reset
    models.Source.model_validate(changed)


def test_a_schedule_begins_when_it_is_set_and_goes_on_while_it_stays(api: Api) -> None:
    first = put(api, status=201, every="1d")
    assert in_seconds(first["next_run_at"]) == pytest.approx(DAY, abs=60)
    api.services.ledger.sources.schedule("shop", 1e9)
    assert put(api, every="1d", delete_missing=True)["next_run_at"] == "2001-09-09T01:46:40.000Z"
    assert in_seconds(put(api, every="2d")["next_run_at"]) == pytest.approx(2 * DAY, abs=60)
    assert put(api)["next_run_at"] is None
    assert in_seconds(put(api, every="5m")["next_run_at"]) == pytest.approx(300, abs=60)


@pytest.mark.parametrize("every", ["5m", "300m", "1h", "365d", "8760h"])
def test_the_time_between_two_syncs_is_shown_as_it_was_given(api: Api, every: str) -> None:
    assert put(api, status=201, every=every)["every"] == every


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("every", "1s", "a whole number and `m`, `h` or `d`, from `5m`"),
        ("every", "4m", "from `5m` to `365d`"),
        ("every", "0h", "a whole number"),
        ("every", "366d", "to `365d`"),
        ("every", "9999999d", "to `365d`"),
        ("every", "1.5h", "a whole number"),
        ("every", "24H", "a whole number"),
        ("every", " 24h", "a whole number"),
        ("every", "٣h", "a whole number"),
        ("every", "", "a whole number"),
        ("every", 3600, "string"),
        ("max_delete_share", -0.1, "greater than or equal to 0"),
        ("max_delete_share", 1.01, "less than or equal to 1"),
        ("max_delete_share", "0.5", "number"),
        ("max_delete_share", True, "number"),
        ("refetch", "never", "changed"),
        ("delete_missing", "yes", "boolean"),
        ("collection", "a/b", "a collection's name"),
        ("url_column", "", "at least 1"),
        ("columns", ["a"], "string"),
        ("schedule", "1h", "unknown field"),
        ("name", "other", "unknown field"),
        ("from_", "s3://a", "unknown field"),
        ("table", {}, "unknown field"),
        ("from", None, "string"),
        ("from", "", "at least 1"),
        ("from", "zip::s3://bucket/a.zip", "Chained"),
        ("from", "file:///etc", "SOURCE_FOLDERS"),
        ("from", "s3://bucket", "own store of files"),
        ("from", "https://user:hunter2@shop.example/", "credentials"),
        ("from", "https://", "malformed"),
    ],
)
def test_a_definition_that_cannot_be_says_which_field_and_why(
    api: Api, monkeypatch: pytest.MonkeyPatch, field: str, value: Any, sentence: str
) -> None:
    monkeypatch.setattr(api.services.downloader, "check", _check)
    answer = api.http.put(SHOP, json=FEED | {field: value})
    code = "invalid_url" if value == "https://" else "invalid_request"
    problem = assert_problem(answer, 422, code, f"/{field}")
    assert sentence in problem["errors"][0]["message"], problem
    assert "hunter2" not in answer.text
    assert not store.source_exists(api.services.blobs, "shop")


def _check(url: str, timeout_s: float) -> None:
    if url == "https://":
        raise ItemError("invalid_url", "the URL is malformed")
    if "inside" in url:
        raise ItemError("blocked_address", "the host's address is not a public one")


def test_a_body_without_from_is_refused(api: Api) -> None:
    assert_problem(api.http.put(SHOP, json={}), 422, "invalid_request", "/from")


def test_a_feed_and_a_callback_keep_the_rules_of_addresses(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.services.downloader, "check", _check)
    inside = "http://inside.example/feed.csv"
    assert_problem(api.http.put(SHOP, json={"from": inside}), 422, "blocked_address", "/from")
    refused = api.http.put(SHOP, json=FEED | {"callback_url": inside})
    assert_problem(refused, 422, "blocked_address", "/callback_url")


@pytest.mark.parametrize("location", ["s3://other/pictures", "file://{}/pictures"])
def test_options_of_tables_are_for_feeds_alone(api: Api, tmp_path: Path, location: str) -> None:
    body = {"from": location.format(tmp_path)}
    problem = assert_problem(
        api.http.put(SHOP, json=body | {"key_column": "sku", "columns": "a"}), 422, "invalid_request"
    )
    assert [one["pointer"] for one in problem["errors"]] == ["/key_column", "/columns"]
    assert api.http.put(SHOP, json=body).status_code == 201


@pytest.mark.parametrize("name", [".a", "a b", "a%2Fb", "é", "a" * 64])
def test_a_source_has_a_plain_name(api: Api, name: str) -> None:
    answer = api.http.put(f"/v1/sources/{name}", json=FEED)
    assert answer.status_code in (404, 422), answer.text
    assert api.http.get(f"/v1/sources/{name}").status_code == 404


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"from": "https://shop.example/other.csv"}, "https://shop.example/feed.csv"),
        ({"collection": "other"}, "the collection 'images'"),
    ],
)
def test_one_name_is_not_two_sources(api: Api, other: dict[str, Any], sentence: str) -> None:
    put(api, status=201)
    problem = assert_problem(api.http.put(SHOP, json=FEED | other), 409, "source_exists")
    assert sentence in problem["detail"]
    assert "choose another name" in problem["detail"]


def test_another_spelling_of_one_place_is_the_same_source(api: Api) -> None:
    put(api, status=201, **{"from": "S3://other/a/"})
    assert put(api, **{"from": "s3://other/a"})["from"] == "s3://other/a"


def test_a_token_in_a_feed_s_url_is_kept_and_not_shown(api: Api) -> None:
    secret = "https://shop.example/feed.csv?token=hunter2"
    shown = put(api, status=201, **{"from": secret})["from"]
    assert shown == "https://shop.example/feed.csv?token=REDACTED"
    put(api, **{"from": shown, "every": "1d"})
    assert store.get_source(api.services.blobs, "shop").location == secret
    other = api.http.put(SHOP, json={"from": "https://shop.example/b.csv"})
    for answer in (api.http.get(SHOP), api.http.get("/v1/sources"), other):
        assert "hunter2" not in answer.text


def test_a_token_in_the_callback_s_url_is_kept_by_a_put_of_what_is_shown(api: Api) -> None:
    callback = "https://shop.example/done?token=hunter2"
    shown = put(api, status=201, callback_url=callback)["callback_url"]
    assert "hunter2" not in shown
    put(api, callback_url=shown)
    assert store.get_source(api.services.blobs, "shop").callback_url == callback
    put(api, callback_url="https://shop.example/done")
    assert store.get_source(api.services.blobs, "shop").callback_url == "https://shop.example/done"


def test_there_are_only_so_many(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_SOURCES", 1)
    put(api, status=201)
    put(api, every="1d")
    assert_problem(api.http.put("/v1/sources/other", json=FEED), 409, "conflict")


def test_sources_are_listed_by_name_page_by_page(api: Api) -> None:
    for name in ("c", "a", "b"):
        put(api, f"/v1/sources/{name}", 201, every="1d" if name == "a" else None)
    store.add_run(api.services.blobs, "b", Run("j" * 24, "partial", 1e9, 1e9 + 5, {"failed": 1}, withheld=3))
    page = get(api, "/v1/sources?limit=2")
    assert [one["name"] for one in page["sources"]] == ["a", "b"]
    assert [one["runs"] for one in page["sources"]] == [None, None]
    assert in_seconds(page["sources"][0]["next_run_at"]) > 0
    assert page["sources"][1]["last_run"] == {
        "job_id": "j" * 24, "status": "partial", "dry_run": False, "started_at": "2001-09-09T01:46:40.000Z",
        "finished_at": "2001-09-09T01:46:45.000Z", "counts": {"failed": 1}, "withheld": 3, "detail": None,
    }  # fmt: skip
    rest = get(api, f"/v1/sources?limit=2&cursor={page['next_cursor']}")
    assert ([one["name"] for one in rest["sources"]], rest["next_cursor"]) == (["c"], None)
    models.SourcePage.model_validate(page)


def test_without_a_source_the_list_is_empty(api: Api) -> None:
    assert get(api, "/v1/sources") == {"sources": [], "next_cursor": None}


def test_one_source_is_shown_with_its_runs_newest_first(api: Api) -> None:
    put(api, status=201)
    for number in (1, 2):
        store.add_run(api.services.blobs, "shop", Run(f"job{number}", "succeeded", 1e9 + number, 2e9))
    shown = get(api)
    assert [run["job_id"] for run in shown["runs"]] == ["job2", "job1"]
    assert shown["last_run"] == shown["runs"][0]


def test_a_sync_is_a_job_and_one_at_a_time(api: Api) -> None:
    put(api, status=201, collection="clothes")
    answer = api.http.post(f"{SHOP}/sync")
    job = json.loads(answer.data)
    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(f"/v1/jobs/{job['job_id']}")
    assert (job["kind"], job["collection"], job["made_of"], job["total"]) == ("sync", "clothes", "shop", 0)
    assert job["counts"].keys() >= {"unchanged", "updated", "removed"}
    assert get(api)["running_job"] == job["job_id"]
    problem = assert_problem(api.http.post(f"{SHOP}/sync", json={}), 409, "sync_running")
    assert job["job_id"] in problem["detail"]
    put(api, collection="clothes", delete_missing=True)  # holds from the next run
    definition = api.services.ledger.get(job["job_id"]).options["definition"]
    assert Source.from_json(definition).delete_missing is False
    cancel(api, job)
    assert get(api)["running_job"] is None
    sync(api, dry_run=True, max_delete_share=1.0)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"dry_run": "yes"}, "/dry_run"),
        ({"max_delete_share": 2}, "/max_delete_share"),
        ({"delete_missing": True}, "/delete_missing"),
    ],
)
def test_a_sync_takes_no_other_options(api: Api, body: dict[str, Any], pointer: str) -> None:
    put(api, status=201)
    assert_problem(api.http.post(f"{SHOP}/sync", json=body), 422, "invalid_request", pointer)


def test_a_repeated_request_is_answered_by_the_same_job(api: Api) -> None:
    put(api, status=201)

    def ask(**body: Any) -> Any:
        return api.http.post(f"{SHOP}/sync", json=body, headers={"Idempotency-Key": "monday"})

    first = ask(dry_run=True)
    assert ask(dry_run=True).json["job_id"] == first.json["job_id"]
    assert_problem(ask(), 422, "idempotency_mismatch")
    cancel(api, first.json)
    assert ask(dry_run=True).json["job_id"] == first.json["job_id"]


def test_a_sync_is_not_retried_but_followed_by_another(api: Api) -> None:
    put(api, status=201)
    job = sync(api)
    cancel(api, job)
    problem = assert_problem(api.http.post(f"/v1/jobs/{job['job_id']}/retry"), 409, "nothing_to_retry")
    assert f"POST {SHOP}/sync" in problem["detail"]


def test_a_deleted_source_is_gone_with_its_schedule_and_its_name_is_free(api: Api) -> None:
    put(api, status=201, every="1d")
    assert api.http.delete(SHOP).status_code == 204
    assert api.services.blobs.list("sources/") == []
    assert api.services.ledger.sources.next_due(["shop"]) == {"shop": None}
    assert_problem(api.http.get(SHOP), 404, "source_not_found")
    put(api, status=201, **{"from": "s3://other"})


def test_a_source_whose_sync_runs_is_not_deleted(api: Api) -> None:
    put(api, status=201, every="1d")
    job = sync(api)
    for images in ("keep", "delete"):
        problem = assert_problem(api.http.delete(f"{SHOP}?images={images}"), 409, "sync_running")
        assert job["job_id"] in problem["detail"]
    assert get(api)["removing"] is False
    cancel(api, job)
    assert api.http.delete(SHOP).status_code == 204


def test_deleting_the_images_too_is_a_job_until_whose_end_the_source_is_there(api: Api) -> None:
    put(api, status=201, every="1d")
    answer = api.http.delete(f"{SHOP}?images=delete")
    assert answer.status_code == 202
    job = json.loads(answer.data)
    options = api.services.ledger.get(job["job_id"]).options
    assert (options["removing"], Source.from_json(options["definition"]).removing) == (True, True)
    shown = get(api)
    assert (shown["removing"], shown["next_run_at"], shown["running_job"]) == (True, None, job["job_id"])
    assert_problem(api.http.put(SHOP, json=FEED), 409, "source_exists")
    cancel(api, job)
    assert_problem(api.http.post(f"{SHOP}/sync"), 409, "conflict")
    assert api.http.delete(f"{SHOP}?images=delete").status_code == 202


def test_a_removal_that_cannot_start_leaves_the_source_as_it_was(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(api, status=201, every="1d")
    monkeypatch.setattr(type(api.services.ledger.sources), "running", lambda *_: None)  # begun meanwhile
    sync(api)
    assert_problem(api.http.delete(f"{SHOP}?images=delete"), 409, "sync_running")
    shown = get(api)
    assert shown["removing"] is False
    assert in_seconds(shown["next_run_at"]) > 0


@pytest.mark.parametrize("query", ["images=all", "pictures=delete"])
def test_a_deletion_says_what_becomes_of_the_images(api: Api, query: str) -> None:
    put(api, status=201)
    assert_problem(api.http.delete(f"{SHOP}?{query}"), 422, "invalid_request")
    assert get(api)["removing"] is False


def test_a_source_that_cannot_be_read_can_be_deleted(api: Api) -> None:
    put(api, status=201)
    api.services.blobs.put("sources/shop/definition.json", b"{")
    assert_problem(api.http.get(SHOP), 503, "unavailable")
    assert get(api, "/v1/sources")["sources"] == []
    assert api.http.delete(SHOP).status_code == 204


def test_nothing_is_defined_that_cannot_be_scheduled(api: Api, tmp_path: Path) -> None:
    down = with_services(api, tmp_path, ledger=LEDGER_DOWN)
    assert_problem(down.http.put(SHOP, json=FEED), 503, "ledger_unavailable")
    assert not store.source_exists(api.services.blobs, "shop")


ASKED: list[Callable[[Any, dict[str, str]], Any]] = [
    lambda http, headers: http.get("/v1/sources", headers=headers),
    lambda http, headers: http.get(SHOP, headers=headers),
    lambda http, headers: http.put(SHOP, json=FEED, headers=headers),
    lambda http, headers: http.delete(SHOP, headers=headers),
    lambda http, headers: http.post(f"{SHOP}/sync", headers=headers),
]


@pytest.mark.parametrize("ask", ASKED)
def test_sources_are_for_admins_alone(tmp_path: Path, services: Services, ask: Any) -> None:
    plain = create_key(services.blobs, "", ["search", "ingest"])
    api = make_api(tmp_path, services)
    assert_problem(ask(api.http, {"Authorization": f"Bearer {plain}"}), 403, "forbidden")
    assert not store.source_exists(services.blobs, "shop")


def test_a_scheduled_sync_counts_for_the_key_that_defined_the_source(
    tmp_path: Path, services: Services
) -> None:
    plain = create_key(services.blobs, "", ["admin"])
    api = make_api(tmp_path, services)
    api.http.put(SHOP, json=FEED, headers={"Authorization": f"Bearer {plain}"})
    (key_id,) = KeyRing(services.blobs).keys()
    assert store.get_source(services.blobs, "shop").made_by == key_id


def test_a_listing_answers_while_a_source_is_deleted(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        put(api, f"/v1/sources/{name}", 201)
    blobs = api.services.blobs
    real = type(blobs).get_each

    def meanwhile(self: Any, keys: Any) -> Any:
        store.delete_source(blobs, "a")
        return real(self, keys)

    monkeypatch.setattr(type(blobs), "get_each", meanwhile)
    assert [one["name"] for one in get(api, "/v1/sources")["sources"]] == ["b"]


def test_what_was_stored_as_a_definition_is_read_by_the_next_process(api: Api, tmp_path: Path) -> None:
    put(api, status=201, every="1d", key_column="sku")
    again = with_services(api, tmp_path, blobs=replace(api.services).blobs)
    assert get(again) == get(api)
