"""Pages of the origins in ALLOW_ORIGINS, and of others. Without the setting: test_security_headers.py."""

from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from api.http.rate_limits import FAILURES
from shared.api_keys import create_key
from shared.storage.blobs import file_key
from tests.unit.fakes import Api, assert_problem, axis, make_api, make_services, picture

PAGE = "https://shop.example.com"
STRANGERS = (
    "https://evil.example",
    "null",
    PAGE + ".evil.example",
    "http://shop.example.com",
    PAGE + ":8443",
)
ELSEWHERE = {"REMOTE_ADDR": "203.0.113.5"}


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path, make_services(tmp_path, allow_origins=["http://localhost:3000", PAGE]))


@pytest.fixture
def key(api: Api) -> str:
    return create_key(api.services.blobs, "page", ["search"])


def preflight(api: Api, path: str, origin: str = PAGE) -> TestResponse:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    return api.http.options(path, headers={"Origin": origin, **asked}, environ_base=ELSEWHERE)


def allows(response: TestResponse) -> bool:
    """Whether a browser would let PAGE read this."""
    assert "Access-Control-Allow-Credentials" not in response.headers
    return response.headers.getlist("Access-Control-Allow-Origin") == [PAGE]


def listed(response: TestResponse, name: str) -> set[str]:
    return {one.strip().lower() for one in response.headers[f"Access-Control-{name}"].split(",")}


@pytest.mark.parametrize("path", ["/v1/search", "/v1/jobs/1/events", "/v1/nowhere", "/openapi.json"])
def test_a_preflight_is_answered_without_a_key(api: Api, key: str, path: str) -> None:
    response = preflight(api, path)
    assert (response.status_code, response.data, allows(response)) == (204, b"", True)
    assert response.vary.as_set() == {"origin"}
    assert {"get", "post", "patch", "delete"} <= listed(response, "Allow-Methods")
    assert {
        "authorization",
        "content-type",
        "idempotency-key",
        "if-none-match",
        "last-event-id",
    } <= listed(response, "Allow-Headers")


def test_a_preflight_is_neither_counted_nor_kept_out_with_those_who_guess_keys(tmp_path: Path) -> None:
    services = make_services(tmp_path, allow_origins=[PAGE], rate_limit="3/minute")
    create_key(services.blobs, "", ["search"])
    api = make_api(tmp_path, services)
    guess = {"Authorization": "Bearer isk_1_2", "Origin": PAGE}
    for _ in range(int(FAILURES.partition("/")[0]) + 1):
        refused = api.http.get("/v1/collections", headers=guess, environ_base=ELSEWHERE)
        assert preflight(api, "/v1/search").status_code == 204
    assert_problem(refused, 429, "rate_limited")
    assert allows(refused), "a page is told how long to wait"
    assert {"retry-after", "heat-spot", "heat-confidence"} <= set(listed(refused, "Expose-Headers"))


def test_a_page_searches_with_its_key_and_reads_whatever_is_answered(api: Api, key: str) -> None:
    image_id = api.add(1, axis(0))
    api.services.blobs.put(file_key("images", image_id, "thumbnail"), picture())
    headers = {"Origin": PAGE, "Authorization": f"Bearer {key}"}
    found = api.http.post("/v1/search", json={"text": "axis 0"}, headers=headers, environ_base=ELSEWHERE)
    thumbnail = api.http.get(found.get_json()["results"][0]["thumbnail_url"], headers=headers)
    fresh = api.http.get(
        thumbnail.request.path, headers=headers | {"If-None-Match": thumbnail.headers["ETag"]}
    )
    answers = [found, thumbnail, fresh]
    answers += [
        api.http.get(path, headers=headers) for path in ("/v1/nowhere", "/v1/jobs", "/v1/images/none")
    ]
    answers += [api.http.post("/v1/search", data=b"{", headers=headers)]
    answers += [api.http.get("/v1/collections", headers={"Origin": PAGE})]
    assert [one.status_code for one in answers] == [200, 200, 304, 404, 403, 404, 415, 401]
    for answer in answers:
        assert allows(answer)
        assert "origin" in answer.vary.as_set()
        exposed = listed(answer, "Expose-Headers")
        assert {"x-request-id", "retry-after", "location", "etag", "x-image-search-version"} <= exposed
        assert _described_headers(api) <= exposed


def _described_headers(api: Api) -> set[str]:
    """The headers that answers have by the description: more than any page can read by itself."""
    described = (api.http.get("/openapi.json").json or {})["paths"]
    operations = [one for path in described.values() for one in path.values() if "responses" in one]
    found = [
        name
        for one in operations
        for answer in one["responses"].values()
        for name in answer.get("headers", {})
    ]
    return {name.lower() for name in found} - {"cache-control", "content-type", "www-authenticate"}


@pytest.mark.parametrize("origin", STRANGERS)
def test_a_page_of_another_origin_reads_nothing(api: Api, key: str, origin: str) -> None:
    headers = {"Origin": origin, "Authorization": f"Bearer {key}"}
    answers = [preflight(api, "/v1/search", origin), api.http.get("/v1/collections", headers=headers)]
    for answer in answers:
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]
        assert answer.vary.as_set() == {"origin"}, (
            "no cache gives it to a page that may read it, or the reverse"
        )


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/healthz", "/readyz", "/metrics", "/static/shell/main.js", "/v1"]
)
def test_a_page_reads_nothing_but_the_api(api: Api, path: str) -> None:
    for response in (api.http.get(path, headers={"Origin": PAGE}), preflight(api, path)):
        assert not [name for name, _ in response.headers if name.startswith("Access-Control-")]


def test_without_a_key_a_page_of_an_allowed_origin_is_refused_and_told_why(api: Api) -> None:
    for origin, headers in (("http://localhost:3000", {}), (PAGE, {"Sec-Fetch-Site": "cross-site"})):
        response = api.http.post("/v1/search", json={"text": "x"}, headers={"Origin": origin, **headers})
        assert "image-search keys create" in assert_problem(response, 403, "forbidden")["detail"]
        assert response.headers["Access-Control-Allow-Origin"] == origin
